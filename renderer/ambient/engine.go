package ambient

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Engine renders members and keeps what they share. Make one with [New]; it may
// be used by several goroutines at once.
type Engine struct {
	mu     sync.Mutex
	meshes map[mesh]*charts
	crds   map[string]*charts // by release, without a network's label
	owned  map[ownedBy]*charts
	runs   map[ran]*charts
}

// ran names one run of a chart, with all that shows in what it makes.
type ran struct{ release, network, namespace, chart, values string }

// ownedBy names the CRDs of a release on the members of one network.
type ownedBy struct{ network, release string }

// charts are rendered charts, made once: objects or drafts.
type charts struct {
	once    sync.Once
	objects []bundle.Object
	drafts  []Draft
	err     error
}

// New returns an engine that has rendered nothing yet.
func New() *Engine {
	return &Engine{meshes: map[mesh]*charts{}, crds: map[string]*charts{}, owned: map[ownedBy]*charts{}, runs: map[ran]*charts{}}
}

// Request says whose objects are wanted.
type Request struct {
	Network *v1alpha1.ApplicationNetwork
	Member  *v1alpha1.Member
	// Release that the member runs.
	Release catalog.Release
	// Gateway says that the member has an east-west gateway.
	Gateway bool
	// Hosted are the members whose istiod runs in this one.
	Hosted []Request
}

// Drafts returns what a member should run, in no particular order, and what it
// puts in the place of the stand-ins. Drafts may be shared with other members.
func (e *Engine) Drafts(r Request) ([]Draft, Values, error) {
	values := newValues(identityOf(r.Member))
	crds, err := e.definitions(r.Network.Name, r.Release)
	if err != nil {
		return nil, values, err
	}
	shared, err := e.mesh(r, values.identity)
	if err != nil {
		return nil, values, err
	}
	own, err := memberObjects(r)
	if err != nil {
		return nil, values, err
	}
	for _, hosted := range r.Hosted {
		moved, err := e.hostedControlPlane(hosted)
		if err != nil {
			return nil, values, fmt.Errorf("control plane of member %q: %w", hosted.Member.Name, err)
		}
		own = append(own, moved...)
	}
	return slices.Concat(shared, crds, closed(own)), values, nil
}

// definitions returns Istio's CRDs of the release for the members of a network.
// They are decoded once for all networks; only their metadata is copied.
func (e *Engine) definitions(network string, release catalog.Release) ([]Draft, error) {
	e.mu.Lock()
	entry := e.owned[ownedBy{network, release.Version}]
	if entry == nil {
		entry = &charts{}
		e.owned[ownedBy{network, release.Version}] = entry
	}
	e.mu.Unlock()
	entry.once.Do(func() {
		shared := e.crdsOf(release)
		if entry.err = shared.err; entry.err == nil {
			entry.objects, entry.err = own(shared.objects, network)
			entry.drafts = closed(entry.objects)
		}
	})
	return entry.drafts, entry.err
}

// crdsOf returns Istio's CRDs of the release without a network's label.
func (e *Engine) crdsOf(release catalog.Release) *charts {
	e.mu.Lock()
	shared := e.crds[release.Version]
	if shared == nil {
		shared = &charts{}
		e.crds[release.Version] = shared
	}
	e.mu.Unlock()
	shared.once.Do(func() { shared.objects, shared.err = renderDefinitions(release) })
	return shared
}

// Definitions returns Istio's CRDs of the release, which must not be changed.
func (e *Engine) Definitions(release catalog.Release) ([]*unstructured.Unstructured, error) {
	shared := e.crdsOf(release)
	var out []*unstructured.Unstructured
	for _, object := range shared.objects {
		out = append(out, object.Object)
	}
	return out, shared.err
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

// mesh returns the charts of the member's mesh but for the CRDs, with stand-ins.
func (e *Engine) mesh(r Request, id identity) ([]Draft, error) {
	key, err := meshOf(r.Network, r.Member, r.Release)
	if err != nil {
		return nil, err
	}
	if key.mentions(StandInPrefix) {
		key.alone = id
	}
	e.mu.Lock()
	entry := e.meshes[key]
	if entry == nil {
		entry = &charts{}
		e.meshes[key] = entry
	}
	e.mu.Unlock()
	entry.once.Do(func() { entry.drafts, entry.err = e.drafts(r.Release, key) })
	return entry.drafts, entry.err
}

// drafts renders a mesh, with stand-ins unless it is one member's alone.
func (e *Engine) drafts(release catalog.Release, m mesh) ([]Draft, error) {
	if m.alone != (identity{}) {
		objects, err := e.renderMesh(release, m, m.alone)
		return closed(objects), err
	}
	objects, err := e.renderMesh(release, m, standIn)
	if err != nil {
		return nil, err
	}
	drafts := make([]Draft, len(objects))
	for i, object := range objects {
		drafts[i] = newDraft(object)
	}
	return drafts, nil
}

// meshOf returns what the member has in common with others.
func meshOf(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member, release catalog.Release) (mesh, error) {
	components, err := fleet.ComponentsOf(network, member)
	if err != nil {
		return mesh{}, err
	}
	encoded, err := encodeSettings(components)
	if err != nil {
		return mesh{}, err
	}
	m := mesh{
		release: release.Version, network: network.Name,
		namespace: network.Spec.DataPlane.Namespace, trustDomain: network.Spec.Trust.Domain,
		components: encoded, remote: hostedElsewhere(member),
	}
	if validity := network.Spec.Trust.Workload.Validity; validity != nil {
		m.workload = validity.Duration
	}
	if added := network.Spec.MeshConfig; added != nil {
		m.meshConfig = string(added.Raw)
	}
	if telemetry := network.Spec.Telemetry; telemetry != nil && telemetry.Collector != nil {
		m.collector = *telemetry.Collector
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

// renderMesh runs every chart but for the CRDs, and only those that no other
// mesh has run with the same values.
func (e *Engine) renderMesh(release catalog.Release, m mesh, id identity) ([]bundle.Object, error) {
	all, err := jobs(release, m, id)
	if err != nil {
		return nil, err
	}
	var objects []bundle.Object
	for _, j := range all {
		rendered, err := e.run(release, m, j)
		if err != nil {
			return nil, err
		}
		objects = append(objects, rendered...)
	}
	return objects, nil
}

// run runs a chart once for all meshes that give it the same values.
func (e *Engine) run(release catalog.Release, m mesh, j job) ([]bundle.Object, error) {
	values, err := json.Marshal(j.values)
	if err != nil {
		return nil, fmt.Errorf("encode values of chart %q: %w", j.chart, err)
	}
	key := ran{release: release.Version, network: m.network, namespace: m.namespace, chart: j.chart, values: string(values)}
	e.mu.Lock()
	entry := e.runs[key]
	if entry == nil {
		entry = &charts{}
		e.runs[key] = entry
	}
	e.mu.Unlock()
	entry.once.Do(func() { entry.objects, entry.err = render(release, m, j) })
	return entry.objects, entry.err
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
