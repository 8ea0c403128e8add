package istiod

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/pager"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

const (
	labelGlobal   = "istio.io/global"
	labelNetwork  = "topology.istio.io/network"
	eastWestClass = "istio-east-west"
	// pageSize of what is listed in the member.
	pageSize = 500
	// unready is the status of a workload that is not served traffic.
	unready = "UNHEALTHY"
)

// ErrNoIstiod says that no istiod runs.
var ErrNoIstiod = errors.New("no istiod runs")

// Question says whose view is asked for.
type Question struct {
	// Member is the cluster's ID in the mesh, and Namespace that of istiod.
	Member, Namespace string
	// Exports of the network, beside what has the label istio.io/global=true.
	Exports []v1alpha1.Export
}

// Look is what one look at a member found.
type Look struct {
	peering.View
	// Skipped is what replicas did not answer that were asked before the one that did.
	Skipped error
}

// View is what a member has of services, and what its istiod gives to proxies: the
// first replica's that answers. An error means that none does, or that the member's
// API failed.
//
// Which Services others discover is told from their labels, as istiod does.
func View(ctx context.Context, m *member.Member, q Question) (Look, error) {
	pods, err := Pods(ctx, m, q.Namespace)
	if err != nil {
		return Look{}, err
	}
	var look Look
	for _, pod := range pods {
		a := answer{question: q}
		err := replicaOf(m, q.Namespace, pod).ask(ctx, "/debug/ambientz", a.served.read)
		if err == nil {
			err = a.read(ctx, m)
			look.View = a.view()
			return look, err
		}
		look.Skipped = errors.Join(look.Skipped, fmt.Errorf("%s: %w", pod, err))
	}
	return Look{}, cmp.Or(look.Skipped, ErrNoIstiod)
}

// answer is what a view is made of.
type answer struct {
	question Question
	// network of the pods.
	network string
	// spaces has the services of each namespace: whether others discover them.
	spaces   map[string]map[string]bool
	gateways []string
	served   served
}

// read reads what the member's API knows.
func (a *answer) read(ctx context.Context, m *member.Member) error {
	exported, err := exportedBy(a.question.Exports)
	if err != nil {
		return err
	}
	a.spaces = map[string]map[string]bool{}
	err = each(ctx, m, "namespaces", func(o *metav1.PartialObjectMetadata) {
		a.spaces[o.Name] = map[string]bool{}
		if o.Name == a.question.Namespace {
			a.network = o.Labels[labelNetwork]
		}
	})
	if err != nil {
		return err
	}
	err = each(ctx, m, "services", func(o *metav1.PartialObjectMetadata) {
		if in := a.spaces[o.Namespace]; in != nil { // else it is newer than the list
			in[o.Name] = exported(o.Namespace, o.Labels)
		}
	})
	if err != nil {
		return err
	}
	a.gateways, err = gateways(ctx, m, a.question.Namespace)
	return err
}

// each reads the metadata of all objects, page by page.
func each(ctx context.Context, m *member.Member, resource string, take func(*metav1.PartialObjectMetadata)) error {
	client := m.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource})
	pages := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return client.List(ctx, opts)
	})
	pages.PageSize = pageSize
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(o runtime.Object) error {
		if metadata, ok := o.(*metav1.PartialObjectMetadata); ok {
			take(metadata)
		}
		return nil
	})
	return member.Wrap("list "+resource, err)
}

// exportedBy tells which Services others discover.
func exportedBy(exports []v1alpha1.Export) (func(namespace string, has labels.Set) bool, error) {
	selectors := map[string][]labels.Selector{}
	for _, e := range exports {
		selector := labels.Everything()
		if e.Selector != nil {
			var err error
			if selector, err = metav1.LabelSelectorAsSelector(e.Selector); err != nil {
				return nil, fmt.Errorf("read the selector of an export of namespace %q: %w", e.Namespace, err)
			}
		}
		selectors[e.Namespace] = append(selectors[e.Namespace], selector)
	}
	return func(namespace string, has labels.Set) bool {
		return has[labelGlobal] == "true" || slices.ContainsFunc(selectors[namespace], func(s labels.Selector) bool { return s.Matches(has) })
	}, nil
}

// gateways are the addresses of the east-west gateways, as other members' istiods
// read them. A member without any, or without their kind, has none.
func gateways(ctx context.Context, m *member.Member, namespace string) ([]string, error) {
	kind := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}
	list, err := m.Dynamic.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: labelNetwork})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		// Where no gateway is delivered there is no right to look for one.
		return nil, nil
	}
	if err != nil {
		return nil, member.Wrap("list gateways", err)
	}
	var out []string
	for i := range list.Items {
		if class, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "gatewayClassName"); class != eastWestClass {
			continue
		}
		addresses, _, _ := unstructured.NestedSlice(list.Items[i].Object, "status", "addresses")
		for _, one := range addresses {
			address, _ := one.(map[string]any)
			kind, _ := address["type"].(string)
			if value, _ := address["value"].(string); value != "" && (kind == "IPAddress" || kind == "Hostname") {
				out = append(out, value)
			}
		}
	}
	return out, nil
}

// served is what istiod gives to proxies, as far as it is of use here.
type served struct {
	workloads []workload
	services  []service
}

// workload of istiod's answer, a message istio.workload.Workload: a pod, all that are
// behind a gateway, or a gateway.
type workload struct {
	Namespace      string `json:"namespace"`
	Network        string `json:"network"`
	ClusterID      string `json:"clusterId"`
	ServiceAccount string `json:"serviceAccount"`
	Status         string `json:"status"`
	Capacity       uint32 `json:"capacity"`
	NetworkGateway *place `json:"networkGateway"`
	// Services by namespace/hostname.
	Services map[string]struct{} `json:"services"`
}

// service of istiod's answer, a message istio.workload.Service.
type service struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Hostname  string    `json:"hostname"`
	Addresses []address `json:"addresses"`
	Ports     []struct {
		ServicePort uint32 `json:"servicePort"`
		TargetPort  uint32 `json:"targetPort"`
	} `json:"ports"`
	Waypoint *place `json:"waypoint"`
}

// place is where a gateway is.
type place struct {
	Hostname *struct {
		Namespace string `json:"namespace"`
		Hostname  string `json:"hostname"`
	} `json:"hostname"`
	Address *address `json:"address"`
	Port    uint32   `json:"hboneMtlsPort"`
}

// address is the text of an IP, which istiod gives in base64.
type address struct {
	Network string `json:"network"`
	Address []byte `json:"address"`
}

func (a address) key() string { return a.Network + "/" + string(a.Address) }

// read takes an answer piece by piece: it has one of each pod of a large cluster.
func (s *served) read(from *json.Decoder) error {
	if err := expect(from, json.Delim('{')); err != nil {
		return err
	}
	for from.More() {
		field, err := from.Token()
		if err != nil {
			return err
		}
		switch field {
		case "workloads":
			err = elements(from, func(w workload) {
				if len(w.Services) > 0 { // gateways, and pods of no service
					s.workloads = append(s.workloads, w)
				}
			})
		case "services":
			err = elements(from, func(one service) { s.services = append(s.services, one) })
		default:
			var rest json.RawMessage
			err = from.Decode(&rest)
		}
		if err != nil {
			return err
		}
	}
	return expect(from, json.Delim('}'))
}

// elements reads a list, which may be null.
func elements[T any](from *json.Decoder, take func(T)) error {
	start, err := from.Token()
	if err != nil || start == nil {
		return err
	}
	if start != json.Delim('[') {
		return fmt.Errorf("its answer has %v where a list is expected", start)
	}
	for from.More() {
		var one T
		if err := from.Decode(&one); err != nil {
			return err
		}
		take(one)
	}
	return expect(from, json.Delim(']'))
}

func expect(from *json.Decoder, want json.Delim) error {
	got, err := from.Token()
	if err == nil && got != want {
		err = fmt.Errorf("its answer has %v where %v is expected", got, want)
	}
	return err
}

// view puts the answer together.
func (a *answer) view() peering.View {
	v := peering.View{Exports: peering.Exports{Network: a.network, Gateways: a.gateways}, Keeps: map[string][]string{}}
	for namespace, services := range a.spaces {
		v.Keeps[namespace] = nil
		for name, exported := range services {
			if !exported {
				v.Keeps[namespace] = append(v.Keeps[namespace], name)
			}
		}
		slices.Sort(v.Keeps[namespace])
	}
	names, addresses := a.served.names()
	exports := map[string]*peering.Exported{}
	for _, s := range a.served.services {
		if exported := a.spaces[s.Namespace][s.Name]; !exported || names[s.Namespace+"/"+s.Hostname] == "" {
			continue
		}
		e := &peering.Exported{Namespace: s.Namespace, Name: s.Name, Waypoint: waypointOf(s.Waypoint, addresses)}
		for _, p := range s.Ports {
			e.Ports = append(e.Ports, peering.Port{Port: p.ServicePort, Target: p.TargetPort})
		}
		exports[e.Key()] = e
	}
	a.endpoints(names, exports, &v)
	for _, key := range slices.Sorted(maps.Keys(exports)) {
		v.Exports.Services = append(v.Exports.Services, *exports[key])
	}
	return v
}

// names of services by namespace/hostname, and by network/address. A ServiceEntry
// has the name of no Service.
func (s *served) names() (byHost, byAddress map[string]string) {
	byHost, byAddress = map[string]string{}, map[string]string{}
	for _, one := range s.services {
		if !strings.HasPrefix(one.Hostname, one.Name+"."+one.Namespace+".svc.") {
			continue
		}
		byHost[one.Namespace+"/"+one.Hostname] = one.Namespace + "/" + one.Name
		for _, at := range one.Addresses {
			byAddress[at.key()] = one.Namespace + "/" + one.Name
		}
	}
	return byHost, byAddress
}

// waypointOf is the Service of a waypoint.
func waypointOf(w *place, byAddress map[string]string) string {
	switch {
	case w == nil:
		return ""
	case w.Hostname != nil:
		name, _, _ := strings.Cut(w.Hostname.Hostname, ".")
		return w.Hostname.Namespace + "/" + name
	case w.Address != nil:
		if name := byAddress[w.Address.key()]; name != "" {
			return name
		}
		return w.Address.key()
	}
	return ""
}

// endpoints counts those of the member's own services, and those elsewhere.
func (a *answer) endpoints(names map[string]string, exports map[string]*peering.Exported, v *peering.View) {
	accounts := map[string]map[string]bool{}
	remotes := map[[3]string]*peering.Remote{}
	for _, w := range a.served.workloads {
		for host := range w.Services {
			key := names[host]
			switch own := exports[key]; {
			case key == "":
			case w.NetworkGateway != nil:
				see(remotes, w, w.NetworkGateway.text(), key, max(w.Capacity, 1))
			case w.ClusterID != a.question.Member:
				if w.Status != unready {
					see(remotes, w, "", key, 1)
				}
			case own == nil:
			case w.Status == unready:
				own.Unready++
			default:
				own.Ready++
			}
			if exports[key] != nil && w.NetworkGateway == nil && w.ClusterID == a.question.Member {
				if accounts[key] == nil {
					accounts[key] = map[string]bool{}
				}
				accounts[key][w.Namespace+"/"+cmp.Or(w.ServiceAccount, "default")] = true
			}
		}
	}
	for key, of := range accounts {
		exports[key].Accounts = slices.Sorted(maps.Keys(of))
	}
	for _, key := range slices.SortedFunc(maps.Keys(remotes), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) }) {
		v.Sees = append(v.Sees, *remotes[key])
	}
}

func see(remotes map[[3]string]*peering.Remote, w workload, gateway, service string, endpoints uint32) {
	at := [3]string{w.Network, w.ClusterID, gateway}
	if remotes[at] == nil {
		remotes[at] = &peering.Remote{Network: w.Network, Member: w.ClusterID, Gateway: gateway, Services: map[string]uint32{}}
	}
	remotes[at].Services[service] += endpoints
}

// text of a place as address:port.
func (p *place) text() string {
	port := strconv.Itoa(int(p.Port))
	switch {
	case p.Address != nil:
		return net.JoinHostPort(string(p.Address.Address), port)
	case p.Hostname != nil:
		return net.JoinHostPort(p.Hostname.Hostname, port)
	}
	return ":" + port
}
