package ambient

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Engine renders members and keeps what they share until it is swept. Make one
// with [New]; it may be used by several goroutines at once.
type Engine struct {
	meshes cache[mesh, rendered]
	// definitions by release or version of the Gateway API, without a network's
	// label, and with it. The former stay: they take longest, and there are no more
	// than releases and versions.
	definitions cache[string, []bundle.Object]
	owned       cache[ownedBy, []Draft]
	runs        cache[ran, []bundle.Object]
}

// rendered is a mesh, and the runs of charts that it is made of.
type rendered struct {
	drafts []Draft
	runs   []ran
}

// ran names one run of a chart, with all that shows in what it makes.
type ran struct{ release, network, namespace, chart, values string }

// ownedBy names the CRDs of a release, or of the Gateway API, on the members of
// one network.
type ownedBy struct{ network, definer string }

// New returns an engine that has rendered nothing yet.
func New() *Engine { return &Engine{} }

// Request says whose objects are wanted.
type Request struct {
	Network *v1alpha1.ApplicationNetwork
	Member  *v1alpha1.Member
	// Release that the member runs.
	Release catalog.Release
	// Gateway says that the member has an east-west gateway.
	Gateway bool
	// GatewayAPI is the CRDs that the member receives; nil where it has its own.
	GatewayAPI *GatewayAPI
	// Hosted are the members whose istiod runs in this one.
	Hosted []Request
}

// Drafts returns what a member should run, in no particular order, and what it
// puts in the place of the stand-ins. Drafts may be shared with other members.
func (e *Engine) Drafts(r Request) ([]Draft, Values, error) {
	values := newValues(identityOf(r.Member))
	crds, err := e.crds(r)
	if err != nil {
		return nil, values, err
	}
	shared, err := e.mesh(r)
	if err != nil {
		return nil, values, err
	}
	own, err := memberObjects(r)
	if err != nil {
		return nil, values, err
	}
	for _, hosted := range r.Hosted {
		moved, err := hostedControlPlane(hosted, e.mesh)
		if err != nil {
			return nil, values, fmt.Errorf("control plane of member %q: %w", hosted.Member.Name, err)
		}
		own = append(own, moved...)
	}
	return slices.Concat(shared, crds, closed(own)), values, nil
}

// mesh returns the charts of the member's mesh but for the CRDs, with stand-ins.
func (e *Engine) mesh(r Request) ([]Draft, error) {
	key, err := meshOf(r)
	if err != nil {
		return nil, err
	}
	made, err := e.meshes.get(key, func() (rendered, error) { return e.renderMesh(r.Release, key) })
	return made.drafts, err
}

// Keep marks what the request needs as used, for a member that has not changed.
func (e *Engine) Keep(r Request) error {
	key, err := meshOf(r)
	if err != nil {
		return err
	}
	e.meshes.use(key)
	e.owned.use(ownedBy{r.Network.Name, r.Release.Version})
	if r.GatewayAPI != nil {
		e.owned.use(ownedBy{r.Network.Name, r.GatewayAPI.String()})
	}
	for _, hosted := range r.Hosted {
		if key, err = meshOf(hosted.atHome()); err != nil {
			return err
		}
		e.meshes.use(key)
	}
	return nil
}

// Sweep drops what no request and no call of Keep needed since the last sweep, but
// for what depends on a release alone. Nothing else may use the engine meanwhile.
func (e *Engine) Sweep() {
	e.meshes.sweep()
	for _, mesh := range e.meshes.entries {
		for _, run := range mesh.value.runs {
			e.runs.use(run)
		}
	}
	e.runs.sweep()
	e.owned.sweep()
}

// crds returns Istio's CRDs of the release, and those of the Gateway API that the
// member receives. They are decoded once for all networks; only their metadata is
// copied.
func (e *Engine) crds(r Request) ([]Draft, error) {
	istio, err := e.labelled(ownedBy{r.Network.Name, r.Release.Version}, func() ([]bundle.Object, error) { return e.crdsOf(r.Release) })
	if err != nil || r.GatewayAPI == nil {
		return istio, err
	}
	definer := r.GatewayAPI.String()
	gateway, err := e.labelled(ownedBy{r.Network.Name, definer}, func() ([]bundle.Object, error) {
		return e.definitions.get(definer, r.GatewayAPI.objects)
	})
	return slices.Concat(istio, gateway), err
}

// labelled returns CRDs with the label of a network.
func (e *Engine) labelled(by ownedBy, definitions func() ([]bundle.Object, error)) ([]Draft, error) {
	return e.owned.get(by, func() ([]Draft, error) {
		shared, err := definitions()
		if err != nil {
			return nil, err
		}
		objects, err := own(shared, by.network)
		return closed(objects), err
	})
}

// crdsOf returns Istio's CRDs of the release without a network's label.
func (e *Engine) crdsOf(release catalog.Release) ([]bundle.Object, error) {
	return e.definitions.get(release.Version, func() ([]bundle.Object, error) { return renderDefinitions(release) })
}

// Definitions returns Istio's CRDs of the release, which must not be changed.
func (e *Engine) Definitions(release catalog.Release) ([]*unstructured.Unstructured, error) {
	shared, err := e.crdsOf(release)
	var out []*unstructured.Unstructured
	for _, object := range shared {
		out = append(out, object.Object)
	}
	return out, err
}

// own returns the objects with the network's label.
func own(shared []bundle.Object, network string) ([]bundle.Object, error) {
	out := make([]bundle.Object, 0, len(shared))
	for _, object := range shared {
		content := maps.Clone(object.Object.Object)
		metadata, _ := content["metadata"].(map[string]any)
		metadata = maps.Clone(metadata)
		labels, _ := metadata["labels"].(map[string]any)
		labels = maps.Clone(labels)
		labels[bundle.NetworkLabel] = network
		metadata["labels"], content["metadata"] = labels, metadata
		made, err := bundle.NewObject(object.Stage, &unstructured.Unstructured{Object: content})
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

// meshOf returns what the member has in common with others.
func meshOf(r Request) (mesh, error) {
	network := r.Network
	components, err := fleet.ComponentsOf(network, r.Member)
	if err != nil {
		return mesh{}, err
	}
	encoded, err := encodeSettings(components)
	if err != nil {
		return mesh{}, err
	}
	m := mesh{
		release: r.Release.Version, network: network.Name,
		namespace: network.Spec.DataPlane.Namespace, trustDomain: network.Spec.Trust.Domain,
		components: encoded, remote: hostedElsewhere(r.Member),
	}
	m.revocation = network.Spec.Trust.Revocation == v1alpha1.RevocationCRL
	m.delivery = network.Spec.Trust.Delivery.Mode
	if validity := network.Spec.Trust.Workload.Validity; validity != nil {
		m.workload = validity.Duration
	}
	if added := network.Spec.MeshConfig; added != nil {
		m.meshConfig = string(added.Raw)
	}
	if m.exports, err = encodeExports(network.Spec.Discovery.Exports); err != nil {
		return mesh{}, err
	}
	if telemetry := network.Spec.Telemetry; telemetry != nil && telemetry.Collector != nil {
		m.collector = *telemetry.Collector
	}
	if m.mentions(StandInPrefix) {
		m.alone = identityOf(r.Member)
	}
	return m, nil
}

// jobs are the runs of charts that make a mesh, but for the CRDs.
func jobs(release catalog.Release, m mesh, id identity) ([]job, error) {
	s, err := m.settings()
	if err != nil {
		return nil, err
	}
	istiod := istiodValues(release, m, s, id)
	if istiod["meshConfig"], err = meshConfig(m); err != nil {
		return nil, err
	}
	return []job{
		{chart: chartBase, values: baseValues(m, s), omit: []string{crdTemplate}},
		{chart: chartIstiod, values: istiod},
		{chart: chartCNI, values: cniValues(release, s)},
		{chart: chartZtunnel, values: ztunnelValues(release, m, s, id)},
	}, nil
}

// renderMesh renders a mesh but for the CRDs, with stand-ins unless it is one
// member's alone: then with others, which are filled in at once. Charts never meet
// a member's names themselves: not all of them keep one that looks like a number.
func (e *Engine) renderMesh(release catalog.Release, m mesh) (rendered, error) {
	id := m.standIn()
	all, err := jobs(release, m, id)
	if err != nil {
		return rendered{}, err
	}
	var out rendered
	for _, j := range all {
		key, err := runOf(release, m, j)
		if err != nil {
			return rendered{}, err
		}
		// Other meshes give some charts the same values.
		objects, err := e.runs.get(key, func() ([]bundle.Object, error) { return render(release, m, j) })
		if err != nil {
			return rendered{}, err
		}
		out.runs = append(out.runs, key)
		for _, object := range objects {
			draft := newDraft(object)
			if id != standIn {
				if draft, err = fillAlone(object, id, m.alone); err != nil {
					return rendered{}, err
				}
			}
			out.drafts = append(out.drafts, draft)
		}
	}
	return out, nil
}

func runOf(release catalog.Release, m mesh, j job) (ran, error) {
	values, err := json.Marshal(j.values)
	if err != nil {
		return ran{}, fmt.Errorf("encode values of chart %q: %w", j.chart, err)
	}
	return ran{release: release.Version, network: m.network, namespace: m.namespace, chart: j.chart, values: string(values)}, nil
}

// renderDefinitions runs the chart that has the CRDs and returns only those. No
// mesh shows in them.
func renderDefinitions(release catalog.Release) ([]bundle.Object, error) {
	rendered, err := render(release, mesh{}, job{chart: chartBase, values: baseValues(mesh{}, settings{})})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rendered, func(object bundle.Object) bool {
		return object.Object.GetKind() != "CustomResourceDefinition"
	}), nil
}

func render(release catalog.Release, m mesh, j job) ([]bundle.Object, error) {
	rendered, err := runChart(release, m.namespace, j)
	if err != nil {
		return nil, err
	}
	objects := make([]bundle.Object, 0, len(rendered))
	for _, object := range rendered {
		component, stage := place(j.chart, object)
		if err := adjust(object, m.network, component); err != nil {
			return nil, err
		}
		made, err := bundle.NewObject(stage, object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, made)
	}
	return objects, nil
}
