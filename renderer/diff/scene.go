package diff

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// scene is everything that rules look at.
type scene struct {
	base, head Side
	// before and after are the members of each side, by name.
	before, after map[string]view
	// names of the members of either side, sorted.
	names []string
	// heirs are the new names of clusters that only change their name, by the old one.
	heirs map[string]string
	// changes of objects of the members that are on both sides in the same network
	// and cluster, by member.
	changes map[string][]change
}

// view is one member on one side.
type view struct {
	member  *v1alpha1.Member
	network *v1alpha1.ApplicationNetwork
	plan.Decision
	bundle bundle.Bundle
}

func newScene(base, head Side) *scene {
	s := &scene{base: base, head: head, before: views(base), after: views(head), changes: map[string][]change{}}
	names := map[string]bool{}
	for name := range s.before {
		names[name] = true
	}
	for name := range s.after {
		names[name] = true
	}
	s.names = slices.Sorted(maps.Keys(names))
	s.heirs = s.findHeirs()
	compare := newComparer()
	s.each(func(name string, before, after view) {
		s.changes[name] = compare.bundles(before.bundle, after.bundle)
	})
	return s
}

func views(side Side) map[string]view {
	out := make(map[string]view, len(side.Decisions))
	for _, d := range side.Decisions {
		out[d.Member.Name] = view{member: d.Member, network: d.Network, Decision: d}
	}
	for _, b := range side.Bundles {
		v := out[b.Member]
		v.bundle = b
		out[b.Member] = v
	}
	return out
}

// each calls for the members that stay what they are: the same cluster in the same
// network.
func (s *scene) each(do func(name string, before, after view)) {
	for _, name := range s.names {
		before, was := s.before[name]
		after, is := s.after[name]
		if was && is && stays(before, after) {
			do(name, before, after)
		}
	}
}

// stays tells whether a name stands for the same member: another cluster, or the
// same one in another network, is one that leaves and one that joins.
func stays(before, after view) bool {
	return before.network.Name == after.network.Name && clusterOf(before.member) == clusterOf(after.member)
}

// clusterOf identifies a cluster as far as a fleet can.
func clusterOf(member *v1alpha1.Member) string {
	cluster := member.Spec.Cluster
	switch {
	case cluster.ResourceID != "":
		return "AKS cluster " + cluster.ResourceID
	case cluster.KubeconfigRef != nil:
		return "kubeconfig Secret " + cluster.KubeconfigRef.Name + "/" + cluster.KubeconfigRef.Key
	}
	return string(cluster.Type)
}

// eachNetwork calls for the networks of both sides.
func (s *scene) eachNetwork(do func(before, after *v1alpha1.ApplicationNetwork)) {
	for _, after := range s.head.Fleet.Networks {
		if before := s.base.Fleet.Network(after.Name); before != nil {
			do(before, after)
		}
	}
}

// staying returns the names of the members of a network on both sides, sorted.
func (s *scene) staying(network string) []string {
	var out []string
	s.each(func(name string, _, after view) {
		if after.network.Name == network {
			out = append(out, name)
		}
	})
	return out
}
