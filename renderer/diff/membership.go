package diff

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// joins calls for members that are new in their network: also those whose name
// stood for another cluster, and those from another network.
func (s *scene) joins(do func(name string, after view)) {
	for _, name := range s.names {
		after, is := s.after[name]
		before, was := s.before[name]
		if is && (!was || !stays(before, after)) {
			do(name, after)
		}
	}
}

// leaves calls for members that were and are no longer.
func (s *scene) leaves(do func(name string, before view)) {
	for _, name := range s.names {
		before, was := s.before[name]
		after, is := s.after[name]
		if was && (!is || !stays(before, after)) {
			do(name, before)
		}
	}
}

// findHeirs pairs members that leave with those that join as the same cluster. The hub
// is in a fleet once, and any other cluster by its address.
func (s *scene) findHeirs() map[string]string {
	joined := map[string]string{}
	s.joins(func(name string, after view) { joined[after.network.Name+" "+clusterOf(after.member)] = name })
	out := map[string]string{}
	s.leaves(func(name string, before view) {
		if heir, ok := joined[before.network.Name+" "+clusterOf(before.member)]; ok {
			out[name] = heir
		}
	})
	return out
}

func memberJoins(s *scene, report func(Effect)) {
	renamed := map[string]bool{}
	for _, heir := range s.heirs {
		renamed[heir] = true
	}
	s.joins(func(name string, after view) {
		if renamed[name] {
			return
		}
		notes := []string{"a CA of its own is issued, and its namespaces are enrolled: " + enrolled(after.network)}
		if n := s.head.Fleet.Discovery(after.network.Name).Readers(name); len(n) > 0 {
			notes = append(notes, counted(len(n), "member")+" discover it once its istiod serves and its gateway has an address")
		}
		if before, was := s.before[name]; was && before.network.Name != after.network.Name {
			notes = append(notes, fmt.Sprintf("it leaves network %q first: its workloads are in no mesh meanwhile", before.network.Name))
		}
		report(Effect{Area: AreaMembership, Risk: RiskLow, Network: after.network.Name, Members: []string{name},
			Title: fmt.Sprintf("joins network %q with release %s: %s", after.network.Name, after.Release.Version, counted(len(after.bundle.Objects), "object")),
			Notes: notes})
	})
}

// enrolled names the namespaces that are in the mesh.
func enrolled(n *v1alpha1.ApplicationNetwork) string {
	var names []string
	for _, namespace := range n.Spec.Namespaces {
		if namespace.Ambient {
			names = append(names, namespace.Name)
		}
	}
	return cmp.Or(listed(names), "none")
}

func memberLeaves(s *scene, report func(Effect)) {
	s.leaves(func(name string, before view) {
		if s.heirs[name] != "" {
			return
		}
		e := Effect{Area: AreaMembership, Risk: RiskHigh, Network: before.network.Name, Members: []string{name}}
		removed, released := 0, 0
		for _, o := range before.bundle.Objects {
			if removal(o.Object) == Release {
				released++
			} else {
				removed++
			}
		}
		switch before.member.Spec.Leave {
		case v1alpha1.LeaveOrphan:
			e.Title = fmt.Sprintf("leaves network %q and keeps everything: %s stay on the cluster", before.network.Name, counted(removed+released, "object"))
			e.Notes = append(e.Notes, "the mesh there goes on by itself until its CA certificate expires")
		case v1alpha1.LeaveForce:
			e.Title = fmt.Sprintf("leaves network %q, whatever is enrolled: %s removed", before.network.Name, counted(removed, "object"))
			e.Notes = append(e.Notes, "pods that people enrolled lose their network when ztunnel goes: restart them")
		default:
			e.Title = fmt.Sprintf("leaves network %q: %s removed", before.network.Name, counted(removed, "object"))
			e.Notes = append(e.Notes, "it waits while pods are enrolled that people labelled themselves")
		}
		if released > 0 && before.member.Spec.Leave != v1alpha1.LeaveOrphan {
			e.Notes = append(e.Notes, counted(released, "object")+" stay and lose our labels: the traffic of their pods is plain from then on")
		}
		if n := s.base.Fleet.Discovery(before.network.Name).Readers(name); len(n) > 0 {
			e.Notes = append(e.Notes, fmt.Sprintf("%s no longer reach its services: %s", counted(len(n), "member"), listed(n)))
		}
		if after, is := s.after[name]; is && after.network.Name == before.network.Name {
			e.Notes = append(e.Notes, "its name stands for another cluster now: "+clusterOf(after.member))
		}
		report(e)
	})
}

// GuardStops is the effect of a change that the deletion guard stops whole.
const GuardStops = "DeletionGuardStops"

func guardStops(s *scene, report func(Effect)) {
	are, guards := map[string]string{}, map[string]v1alpha1.DeletionGuard{}
	for name, before := range s.before {
		are[name] = before.network.Name
	}
	stays := func(name string) bool { _, is := s.after[name]; return is }
	inhabited := func(network string) bool { return len(s.head.Fleet.MembersOf(network)) > 0 }
	for _, n := range s.head.Fleet.Networks {
		guards[n.Name] = n.Spec.DeletionGuard
	}
	stops := func(network, why string) {
		report(Effect{Area: AreaMembership, Risk: RiskHigh, Network: network, Title: "the deletion guard stops the commit, since " + why})
	}
	for _, r := range deletion.Removals(are, stays, inhabited, guards) {
		if r.Last {
			stops(r.Network, "no member would be left: name those that are meant in spec.deletionGuard.allow, in a commit that keeps the network's file")
			continue
		}
		stops(r.Network, fmt.Sprintf("%d members leave (%s) and no more than %d may: name those that are meant in spec.deletionGuard.allow", len(r.Members), listed(r.Members), r.Limit))
	}
	before, after := byMember(s.base.Bundles), byMember(s.head.Bundles)
	for _, n := range s.base.Fleet.Networks {
		if why := guardedObjects(s.head.Fleet.Network(n.Name), before, after); why != "" {
			stops(n.Name, why)
		}
	}
}

// guardedObjects says why the objects of members that stay are too many to go; empty
// where they are not.
func guardedObjects(network *v1alpha1.ApplicationNetwork, before, after map[string]bundle.Bundle) string {
	if network == nil || network.Spec.DeletionGuard.ObjectsPercent == nil {
		return ""
	}
	gone := deletion.Of(network.Name, before, after)
	why, token := gone.Excess(int(*network.Spec.DeletionGuard.ObjectsPercent)), gone.Token()
	if why == "" || slices.Contains(network.Spec.DeletionGuard.Allow, token) {
		return ""
	}
	return fmt.Sprintf("it deletes %s: %s (%s): if that is meant, put %q into spec.deletionGuard.allow, which allows just these",
		counted(gone.Count(), "object"), why, gone, token)
}

func byMember(bundles []bundle.Bundle) map[string]bundle.Bundle {
	out := make(map[string]bundle.Bundle, len(bundles))
	for _, b := range bundles {
		out[b.Member] = b
	}
	return out
}

func memberRenamed(s *scene, report func(Effect)) {
	for old, name := range s.heirs {
		after := s.after[name]
		report(Effect{Area: AreaMembership, Risk: RiskHigh, Network: after.network.Name, Members: []string{name},
			Title: fmt.Sprintf("was %q: nothing is deleted, its name in the mesh changes", old),
			Notes: []string{
				"istiod and ztunnel restart with the new name; connections that live longer than ztunnel's drain are reset",
				"peers forget the old name and discover the new one: until then they do not reach its services",
			}})
	}
}

func memberSuspended(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if !before.member.Spec.Suspend && after.member.Spec.Suspend {
			report(Effect{Area: AreaMembership, Risk: RiskMedium, Network: after.network.Name, Members: []string{name},
				Title: "is suspended: nothing is written to it, drift is not put back, its CA is not renewed"})
		}
	})
}

func memberResumed(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if before.member.Spec.Suspend && !after.member.Spec.Suspend {
			report(Effect{Area: AreaMembership, Risk: RiskLow, Network: after.network.Name, Members: []string{name},
				Title: "is no longer suspended: what changed meanwhile, in Git or on it, is delivered now"})
		}
	})
}

func ringChanges(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		was, is := before.network.RingOf(before.member), after.network.RingOf(after.member)
		if was != is {
			report(Effect{Area: AreaRollout, Risk: RiskNone, Network: after.network.Name, Members: []string{name},
				Title: fmt.Sprintf("moves from ring %s to %s", ringName(was), ringName(is))})
		}
	})
}

func ringName(name string) string {
	if name == "" {
		return "(none)"
	}
	return name
}

// policiesChange: what holds reviews up should itself be reviewed.
func policiesChange(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		changes := specChanges(before.Spec.Review, after.Spec.Review)
		if len(changes) == 0 {
			return
		}
		e := Effect{Area: AreaRollout, Risk: RiskNone, Network: after.Name, Title: "what reviews have to keep to changes", Notes: saidAll(changes)}
		if before.Spec.Review != nil {
			e.Notes = append(e.Notes, "this review kept to the policies of before, too")
		}
		report(e)
	})
}
