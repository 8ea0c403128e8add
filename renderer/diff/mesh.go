package diff

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func mtlsStrict(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		if before.Spec.DataPlane.MTLS == v1alpha1.MTLSPermissive && after.Spec.DataPlane.MTLS == v1alpha1.MTLSStrict {
			s.networkEffect(report, Effect{Area: AreaMTLS, Risk: RiskHigh, Network: after.Name,
				Title: "mTLS Permissive → Strict: enrolled workloads refuse plain text",
				Notes: []string{"clients outside of the mesh, probes of other systems and load balancers that speak plain text are cut off"}})
		}
	})
}

func mtlsPermissive(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		if before.Spec.DataPlane.MTLS == v1alpha1.MTLSStrict && after.Spec.DataPlane.MTLS == v1alpha1.MTLSPermissive {
			s.networkEffect(report, Effect{Area: AreaMTLS, Risk: RiskHigh, Network: after.Name,
				Title: "mTLS Strict → Permissive: enrolled workloads take plain text again",
				Notes: []string{"whoever reaches a pod may speak to it without an identity, unless a policy asks for one"}})
		}
	})
}

func systemNamespaceChanges(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.DataPlane.Namespace, after.Spec.DataPlane.Namespace
		if was != is && len(s.staying(after.Name)) > 0 {
			s.networkEffect(report, Effect{Area: AreaNamespaces, Risk: RiskHigh, Network: after.Name,
				Title: fmt.Sprintf("the system namespace moves from %q to %q: the reconciler refuses that while the network has members", was, is),
				Notes: []string{"members' inventories are in it; make a new network and move members one by one"}})
		}
	})
}

// namespacesOf a network, by name.
func namespacesOf(n *v1alpha1.ApplicationNetwork) map[string]v1alpha1.MeshNamespace {
	out := map[string]v1alpha1.MeshNamespace{}
	for _, namespace := range n.Spec.Namespaces {
		out[namespace.Name] = namespace
	}
	return out
}

// eachNamespace calls for every namespace that is on either side; the zero value
// stands for one that is not.
func (s *scene) eachNamespace(do func(network string, name string, before, after v1alpha1.MeshNamespace)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := namespacesOf(before), namespacesOf(after)
		for _, n := range after.Spec.Namespaces {
			do(after.Name, n.Name, was[n.Name], n)
		}
		for _, n := range before.Spec.Namespaces {
			if _, stays := is[n.Name]; !stays {
				do(after.Name, n.Name, n, v1alpha1.MeshNamespace{})
			}
		}
	})
}

func namespaceEnrolled(s *scene, report func(Effect)) {
	s.eachNamespace(func(network, name string, before, after v1alpha1.MeshNamespace) {
		if !before.Ambient && after.Ambient {
			s.networkEffect(report, Effect{Area: AreaNamespaces, Risk: RiskMedium, Network: network,
				Title: fmt.Sprintf("namespace %q joins the mesh: the traffic of its pods goes through ztunnel from then on, with mTLS between them", name),
				Notes: []string{"no pod restarts; connections that are open go on as they are"}})
		}
	})
}

func namespaceReleased(s *scene, report func(Effect)) {
	s.eachNamespace(func(network, name string, before, after v1alpha1.MeshNamespace) {
		if before.Ambient && !after.Ambient {
			s.networkEffect(report, Effect{Area: AreaNamespaces, Risk: RiskHigh, Network: network,
				Title: fmt.Sprintf("namespace %q leaves the mesh: the traffic of its pods is plain text from then on", name),
				Notes: []string{"workloads that refuse plain text refuse its pods; the namespace itself stays"}})
		}
	})
}

func waypointAppears(s *scene, report func(Effect)) {
	s.eachNamespace(func(network, name string, before, after v1alpha1.MeshNamespace) {
		if before.Waypoint == nil && after.Waypoint != nil {
			s.networkEffect(report, Effect{Area: AreaWaypoint, Risk: RiskMedium, Network: network,
				Title: fmt.Sprintf("namespace %q gets waypoint %q: the traffic to its services goes through it", name, after.Waypoint.Name)})
		}
	})
}

func waypointGoes(s *scene, report func(Effect)) {
	s.eachNamespace(func(network, name string, before, after v1alpha1.MeshNamespace) {
		if before.Waypoint != nil && after.Waypoint == nil {
			s.networkEffect(report, Effect{Area: AreaWaypoint, Risk: RiskHigh, Network: network,
				Title: fmt.Sprintf("namespace %q loses waypoint %q: the traffic to its services no longer goes through it", name, before.Waypoint.Name),
				Notes: []string{"policies and routes that the waypoint enforces are enforced by nobody"}})
		}
	})
}

func waypointChanges(s *scene, report func(Effect)) {
	s.eachNamespace(func(network, name string, before, after v1alpha1.MeshNamespace) {
		was, is := before.Waypoint, after.Waypoint
		if was == nil || is == nil || *was == *is {
			return
		}
		e := Effect{Area: AreaWaypoint, Risk: RiskMedium, Network: network}
		switch {
		case was.Name != is.Name:
			e.Title = fmt.Sprintf("waypoint %q of namespace %q is replaced by %q", was.Name, name, is.Name)
			e.Notes = []string{"the old one goes with its open connections"}
		case is.Global:
			e.Title = fmt.Sprintf("waypoint %q of namespace %q serves clients on other members, too", is.Name, name)
		default:
			e.Title = fmt.Sprintf("waypoint %q of namespace %q no longer serves clients on other members", is.Name, name)
			e.Risk = RiskHigh
		}
		s.networkEffect(report, e)
	})
}

// pairs calls for each pair of members that stay in a network, in which one
// discovers the other on one side and not on the other.
func (s *scene) pairs(do func(network, reader, peer string, appears bool)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		names := s.staying(after.Name)
		if reflect.DeepEqual(before.Spec.Discovery, after.Spec.Discovery) && !s.relabelled(names) {
			return
		}
		was, is := s.base.Fleet.Discovery(after.Name), s.head.Fleet.Discovery(after.Name)
		for _, reader := range names {
			for _, peer := range names {
				if reader == peer {
					continue
				}
				if is.Discovers(reader, peer) != was.Discovers(reader, peer) {
					do(after.Name, reader, peer, is.Discovers(reader, peer))
				}
			}
		}
	})
}

// relabelled tells whether one of the members has other labels than before.
func (s *scene) relabelled(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return !maps.Equal(s.before[name].member.Labels, s.after[name].member.Labels)
	})
}

// pairEffects calls once for each member with pairs that appear, or that go.
func (s *scene) pairEffects(appears bool, report func(network, reader string, peers []string)) {
	type key struct{ network, reader string }
	peers := map[key][]string{}
	var order []key
	s.pairs(func(network, reader, peer string, is bool) {
		if is != appears {
			return
		}
		k := key{network, reader}
		if peers[k] == nil {
			order = append(order, k)
		}
		peers[k] = append(peers[k], peer)
	})
	for _, k := range order {
		report(k.network, k.reader, peers[k])
	}
}

func peersAppear(s *scene, report func(Effect)) {
	s.pairEffects(true, func(network, reader string, peers []string) {
		report(Effect{Area: AreaPeers, Risk: RiskLow, Network: network, Members: []string{reader},
			Title: "discovers the services of " + listed(peers),
			Notes: []string{"a credential is made for each; its istiod reads their API servers"}})
	})
}

func peersGo(s *scene, report func(Effect)) {
	s.pairEffects(false, func(network, reader string, peers []string) {
		report(Effect{Area: AreaPeers, Risk: RiskHigh, Network: network, Members: []string{reader},
			Title: "no longer discovers the services of " + listed(peers),
			Notes: []string{"its workloads reach their global services no more; the credentials are revoked"}})
	})
}

func exportsChange(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Discovery.Exports, after.Spec.Discovery.Exports
		gone := without(was, is)
		added := without(is, was)
		for _, e := range gone {
			s.networkEffect(report, Effect{Area: AreaPeers, Risk: RiskHigh, Network: after.Name,
				Title: fmt.Sprintf("services of namespace %q%s are no longer exported: other members reach those only that another export or the label istio.io/global=true covers", e.Namespace, selected(e))})
		}
		for _, e := range added {
			s.networkEffect(report, Effect{Area: AreaPeers, Risk: RiskMedium, Network: after.Name,
				Title: fmt.Sprintf("services of namespace %q%s are exported: their traffic goes to ready pods of every member that has them", e.Namespace, selected(e))})
		}
	})
}

// without returns the exports that the others have not.
func without(exports, others []v1alpha1.Export) []v1alpha1.Export {
	return slices.DeleteFunc(slices.Clone(exports), func(e v1alpha1.Export) bool {
		return slices.ContainsFunc(others, func(o v1alpha1.Export) bool { return len(specChanges(e, o)) == 0 })
	})
}

func selected(e v1alpha1.Export) string {
	if e.Selector == nil {
		return ""
	}
	return " with " + short(encode(fieldsOf(e.Selector)))
}

func credentialsReplaced(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Discovery.Credentials.ReplaceIssuedBefore, after.Spec.Discovery.Credentials.ReplaceIssuedBefore
		if newer(was, is) {
			s.networkEffect(report, Effect{Area: AreaPeers, Risk: RiskLow, Network: after.Name,
				Title: fmt.Sprintf("peers' credentials issued before %s are replaced, and revoked once no istiod uses them", when(is))})
		}
	})
}

func gatewayAppears(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if !before.Gateway && after.Gateway {
			report(Effect{Area: AreaGateway, Risk: RiskLow, Network: after.network.Name, Members: []string{name},
				Title: "gets an east-west gateway: the network's members are on more than one pod network now"})
		}
	})
}

func gatewayGoes(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if before.Gateway && !after.Gateway {
			report(Effect{Area: AreaGateway, Risk: RiskHigh, Network: after.network.Name, Members: []string{name},
				Title: "loses its east-west gateway: the network's members are all on one pod network now",
				Notes: []string{"connections through it are cut; its load balancer goes"}})
		}
	})
}

// GatewayIsPublic is the effect of an east-west gateway that becomes reachable from
// the internet.
const GatewayIsPublic = "GatewayIsPublic"

func gatewayChanges(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if !before.Gateway || !after.Gateway {
			return
		}
		was, is := before.member.Spec.Connectivity.EastWestGateway, after.member.Spec.Connectivity.EastWestGateway
		changes := specChanges(was, is)
		if len(changes) == 0 {
			return
		}
		e := Effect{Area: AreaGateway, Risk: RiskMedium, Network: after.network.Name, Members: []string{name},
			Title: "its east-west gateway changes", Notes: saidAll(changes)}
		if was.Visibility != is.Visibility {
			e.Title = fmt.Sprintf("its east-west gateway is %s instead of %s", is.Visibility, was.Visibility)
			e.Notes = append(e.Notes, "its load balancer may get another address: peers do not reach its services until their istiods have learned it")
			if is.Visibility == v1alpha1.VisibilityExternal {
				e.ID, e.Risk = GatewayIsPublic, RiskHigh
				e.Notes = append(e.Notes, "it is reachable from the internet; it lets only mTLS of this network in")
			}
		}
		if was.Address != is.Address {
			e.Notes = append(e.Notes, "peers do not reach its services until their istiods have learned the new address")
		}
		report(e)
	})
}

func podNetworkChanges(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		was, is := before.member.Spec.Connectivity.Network, after.member.Spec.Connectivity.Network
		if was == is {
			return
		}
		report(Effect{Area: AreaGateway, Risk: RiskHigh, Network: after.network.Name, Members: []string{name},
			Title: fmt.Sprintf("pod network %q → %q: members that name the same one reach its pods directly, all others by its gateway", was, is),
			Notes: append([]string{"while members learn of it, they may try the way that is wrong"}, restartNotes(s.changes[name], before)...)})
	})
}

func controlPlaneMoves(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		changes := specChanges(before.member.Spec.ControlPlane, after.member.Spec.ControlPlane)
		if len(changes) > 0 {
			report(Effect{Area: AreaIstiod, Risk: RiskHigh, Network: after.network.Name, Members: []string{name},
				Title: "its control plane moves", Notes: append(saidAll(changes), restartNotes(s.changes[name], before)...)})
		}
	})
}
