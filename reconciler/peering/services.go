package peering

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// The reasons why a service does not answer from another member, or is not as it
// should be. Frozen once released.
const (
	// NotGlobalEverywhere: the member has a Service of that name that is not global,
	// and serves only that.
	NotGlobalEverywhere = "NotGlobalEverywhere"
	// NamespaceMissing: the member lacks the namespace.
	NamespaceMissing = "NamespaceMissing"
	// PortsDiffer: the Service has other ports than on most members.
	PortsDiffer = "PortsDiffer"
	// WaypointNotGlobal: the waypoint that it is behind is not discovered.
	WaypointNotGlobal = "WaypointNotGlobal"
	// WaypointMissing: it is behind a waypoint on others, and not behind the same here.
	WaypointMissing = "WaypointMissing"
	// NoEndpoints: no endpoint is ready.
	NoEndpoints = "NoEndpoints"
	// NoGateway: the member that has it has no gateway with an address.
	NoGateway = "NoGateway"
	// NotSynced: istiod has not read the member that has it.
	NotSynced = "NotSynced"
	// NotServed: nothing is wrong, and istiod does not serve it; or what is known of one
	// of the two is older than a change of the other.
	NotServed = "NotServed"
	// NotDiscovered: the one member is not to discover the other. It is no problem.
	NotDiscovered = "NotDiscovered"
	// NotAsked: nothing is known of the member, or not yet.
	NotAsked = "NotAsked"
)

// Member is one member of a network, for finding who reaches what.
type Member struct {
	Name string
	// View is what is known of it; nil for nothing.
	View *View
	// Peers that it is to discover, as its status has them.
	Peers []v1alpha1.PeerStatus
}

// Has says what a member has of a service.
type Has string

// What a member has of a service.
const (
	// HasExported: a Service that others discover.
	HasExported Has = "Exported"
	// HasLocal: a Service that stays in the member.
	HasLocal Has = "Local"
	// HasNone: no Service of that name.
	HasNone Has = "None"
	// HasUnknown: nothing is known of the member.
	HasUnknown Has = "Unknown"
)

// Service is a service of a network that others discover from at least one member.
type Service struct {
	// Name as namespace/name.
	Name string `json:"name"`
	// Members of the network, sorted by name.
	Members []InMember `json:"members"`
	// Problems sorted by member, then reason.
	Problems []Problem `json:"problems,omitempty"`
}

// InMember is a service in one member.
type InMember struct {
	Member string `json:"member"`
	Has    Has    `json:"has"`
	// Network that the member's pods are in.
	Network string `json:"network,omitempty"`
	// What follows is of the member's own Service.
	Ready    int    `json:"ready,omitempty"`
	Unready  int    `json:"unready,omitempty"`
	Ports    []Port `json:"ports,omitempty"`
	Waypoint string `json:"waypoint,omitempty"`
	// Gateway is the first address by which other networks reach it.
	Gateway string `json:"gateway,omitempty"`
	// From is how the service of each other member that exports it is reached from
	// here, sorted by name.
	From []Path `json:"from,omitempty"`
}

// Path from one member to the service in another.
type Path struct {
	Member string `json:"member"`
	// Endpoints that istiod reckons with; those of all members of a network that is
	// not its own. 0 where it is not reached, and Reason says why.
	Endpoints uint32 `json:"endpoints,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
}

// Problem is something to be changed.
type Problem struct {
	// Member whose Service it is, or from which it is not reached.
	Member  string `json:"member"`
	Service string `json:"service"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Network is what is known of the members of a network.
type Network struct {
	members []*known // sorted by name
	// exporters of each service, sorted by member.
	exporters map[string][]exporter
}

// known is a member with what is looked up in it.
type known struct {
	Member
	pairs map[string]v1alpha1.PeerStatus
	// What istiod serves by network, and in the own network by member, then service;
	// nil until the first question.
	networks, neighbours map[string]map[string]uint32
}

// exporter is a member with its Service.
type exporter struct {
	*known
	own *Exported
}

// Join puts together what is known of the members of a network. What a member Sees is
// needed only of those that are asked for.
func Join(members []Member) *Network {
	n := &Network{exporters: map[string][]exporter{}}
	for _, m := range members {
		k := &known{Member: m, pairs: map[string]v1alpha1.PeerStatus{}}
		for _, p := range m.Peers {
			k.pairs[p.Name] = p
		}
		n.members = append(n.members, k)
	}
	slices.SortFunc(n.members, func(a, b *known) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range n.members {
		if m.View == nil {
			continue
		}
		for i := range m.View.Exports.Services {
			own := &m.View.Exports.Services[i]
			n.exporters[own.Key()] = append(n.exporters[own.Key()], exporter{m, own})
		}
	}
	return n
}

func (k *known) index() {
	k.networks, k.neighbours = map[string]map[string]uint32{}, map[string]map[string]uint32{}
	if k.View == nil {
		return
	}
	for _, r := range k.View.Sees {
		into, key := k.networks, r.Network
		if r.Gateway == "" {
			into, key = k.neighbours, r.Member
		}
		if into[key] == nil {
			into[key] = map[string]uint32{}
		}
		for service, endpoints := range r.Services {
			into[key][service] += endpoints
		}
	}
}

func (k *known) network() string {
	if k.View == nil {
		return ""
	}
	return k.View.Exports.Network
}

// keeps tells whether the member has a Service that stays in it.
func (k *known) keeps(service string) bool {
	namespace, name, _ := strings.Cut(service, "/")
	return k.View != nil && slices.Contains(k.View.Keeps[namespace], name)
}

// sees is how many endpoints of a service in another member istiod serves.
func (k *known) sees(peer *known, service string) uint32 {
	if k.networks == nil {
		k.index()
	}
	if peer.network() == k.network() {
		return k.neighbours[peer.Name][service]
	}
	return k.networks[peer.network()][service]
}

// names of the services that any member exports, sorted.
func (n *Network) names() []string { return slices.Sorted(maps.Keys(n.exporters)) }

// Services of the network, sorted by name.
func (n *Network) Services() []Service {
	out := []Service{}
	for _, name := range n.names() {
		s := Service{Name: name}
		for _, m := range n.members {
			s.Members = append(s.Members, n.in(m, name))
			s.Problems = append(s.Problems, n.problems(m, name)...)
		}
		out = append(out, s)
	}
	return out
}

// Problems of one member, sorted by service, then reason.
func (n *Network) Problems(member string) []Problem {
	i := slices.IndexFunc(n.members, func(k *known) bool { return k.Name == member })
	if i < 0 {
		return nil
	}
	var out []Problem
	for _, name := range n.names() {
		out = append(out, n.problems(n.members[i], name)...)
	}
	return out
}

// own is the Service that a member exports; nil for none.
func (n *Network) own(m *known, service string) *Exported {
	for _, e := range n.exporters[service] {
		if e.known == m {
			return e.own
		}
	}
	return nil
}

// in is a service in one member.
func (n *Network) in(m *known, service string) InMember {
	out := InMember{Member: m.Name, Network: m.network()}
	switch own := n.own(m, service); {
	case m.View == nil:
		out.Has = HasUnknown
	case own != nil:
		out.Has, out.Ready, out.Unready, out.Ports, out.Waypoint = HasExported, own.Ready, own.Unready, own.Ports, own.Waypoint
		out.Gateway = slices.Concat(m.View.Exports.Gateways, []string{""})[0]
	case m.keeps(service):
		out.Has = HasLocal
	default:
		out.Has = HasNone
	}
	out.From = n.from(m, service)
	return out
}

// from are the paths to a service, from one member to each other that exports it.
func (n *Network) from(m *known, service string) []Path {
	var out []Path
	for _, e := range n.exporters[service] {
		if e.known != m {
			out = append(out, path(m, e))
		}
	}
	return out
}

// path goes by an ordered list of what may be wrong.
func path(m *known, peer exporter) Path {
	service := peer.own.Key()
	p := Path{Member: peer.Name}
	because := func(reason, message string, a ...any) Path {
		p.Reason, p.Message = reason, fmt.Sprintf(message, a...)
		return p
	}
	pair, discovers := m.pairs[peer.Name]
	switch p.Endpoints = m.sees(peer.known, service); {
	case m.View == nil:
		return because(NotAsked, "%s was not asked yet what it serves, or does not answer", m.Name)
	case m.keeps(service):
		return because(NotGlobalEverywhere, "%s has a Service of that name that stays in it, and serves only that", m.Name)
	case p.Endpoints > 0:
		return p
	case !discovers:
		return because(NotDiscovered, "%s is not to discover %s", m.Name, peer.Name)
	case peer.own.Ready == 0:
		return because(NoEndpoints, "no endpoint is ready on %s", peer.Name)
	case peer.network() != m.network() && len(peer.View.Exports.Gateways) == 0:
		return because(NoGateway, "the east-west gateway of %s has no address", peer.Name)
	case pair.State != v1alpha1.PeerSynced:
		return because(NotSynced, "istiod of %s has not read %s (%s)", m.Name, peer.Name, cmp.Or(pair.Reason, string(pair.State)))
	}
	return because(NotServed, "istiod of %s has read %s and does not serve it", m.Name, peer.Name)
}

// problems of a service in one member, sorted by reason.
func (n *Network) problems(m *known, service string) []Problem {
	if m.View == nil {
		return nil
	}
	var out []Problem
	add := func(reason, message string, a ...any) {
		out = append(out, Problem{Member: m.Name, Service: service, Reason: reason, Message: shortened(fmt.Sprintf(message, a...))})
	}
	var others []string
	for _, e := range n.exporters[service] {
		if e.known != m {
			others = append(others, e.Name)
		}
	}
	namespace, _, _ := strings.Cut(service, "/")
	own := n.own(m, service)
	_, there := m.View.Keeps[namespace]
	switch {
	case own != nil:
		n.ownProblems(m, own, add)
	case m.keeps(service):
		add(NotGlobalEverywhere, "its own Service is not discovered by others, so only that is served here and not that of %s: give it the label istio.io/global=true, or name it in discovery.exports", listed(others))
		return out
	case !there && m.discoversAny(others):
		add(NamespaceMissing, "there is no namespace %s, which %s has: declare it under namespaces of the network, so that it is the same everywhere", namespace, listed(others))
	}
	failed := map[string][]string{}
	for _, p := range n.from(m, service) {
		failed[p.Reason] = append(failed[p.Reason], p.Member)
	}
	if peers := failed[NotSynced]; peers != nil {
		add(NotSynced, "istiod has not read %s, so that its endpoints are not served here: isthmus peers says why", listed(peers))
	}
	if peers := failed[NotServed]; peers != nil {
		add(NotServed, "istiod has read %s and does not serve its endpoints: if it stays so, see what istiod logs of the service", listed(peers))
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return strings.Compare(a.Reason, b.Reason) })
	return out
}

// ownProblems are those of a Service that others discover from the member.
func (n *Network) ownProblems(m *known, own *Exported, add func(reason, message string, a ...any)) {
	service := own.Key()
	if usual, on := n.usual(service, ports); usual != ports(own) {
		add(PortsDiffer, "its ports are %s, and %s on %s: clients of all members call it at the ports of their own", ports(own), usual, listed(on))
	}
	if own.Waypoint != "" && m.keeps(own.Waypoint) {
		add(WaypointNotGlobal, "its waypoint %s is not discovered by others, which then cannot go through it: give its Gateway the label istio.io/global=true", own.Waypoint)
	}
	if waypoint, on := n.usual(service, func(e *Exported) string { return e.Waypoint }); waypoint != own.Waypoint {
		add(WaypointMissing, "it is behind the waypoint %s on %s, and %s here: waypoints have to have the same name on all members", waypoint, listed(on), behind(own.Waypoint))
	}
	if !slices.ContainsFunc(n.exporters[service], func(e exporter) bool { return e.own.Ready > 0 }) {
		add(NoEndpoints, "no endpoint is ready on any member")
	}
	elsewhere := func(k *known) bool { return k.View != nil && k.network() != m.network() }
	if len(m.View.Exports.Gateways) == 0 && slices.ContainsFunc(n.members, elsewhere) {
		add(NoGateway, "the east-west gateway of its member has no address, so that other networks cannot reach it: see its Service of type LoadBalancer")
	}
}

func (k *known) discoversAny(peers []string) bool {
	return slices.ContainsFunc(peers, func(peer string) bool { _, ok := k.pairs[peer]; return ok })
}

// usual is what most members have that have any, and which; of as many the first.
func (n *Network) usual(service string, of func(*Exported) string) (string, []string) {
	on, best := map[string][]string{}, ""
	for _, e := range n.exporters[service] {
		if has := of(e.own); has != "" {
			on[has] = append(on[has], e.Name)
		}
	}
	for _, e := range n.exporters[service] {
		if has := of(e.own); len(on[has]) > len(on[best]) {
			best = has
		}
	}
	return best, on[best]
}

// ports that a service is called at.
func ports(e *Exported) string {
	all := make([]uint32, 0, len(e.Ports))
	for _, p := range e.Ports {
		all = append(all, p.Port)
	}
	slices.Sort(all)
	var text []byte
	for i, port := range slices.Compact(all) {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = strconv.AppendUint(text, uint64(port), 10)
	}
	return string(text)
}

func behind(waypoint string) string {
	if waypoint == "" {
		return "behind none"
	}
	return "behind " + waypoint
}

// maxListed names of members are told, and maxMessage bytes in a message.
const maxListed, maxMessage = 4, 512

// listed tells members in a message.
func listed(members []string) string {
	if more := len(members) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(members[:maxListed], ", "), more)
	}
	return strings.Join(members, ", ")
}

func shortened(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage-len("…")], "") + "…"
}
