package reconciler

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// accepted is a commit that loaded, validated and rendered whole.
type accepted struct {
	commit   string
	branch   string
	path     string          // of the fleet in the repository
	only     string          // is the one member to work on; empty for all
	others   map[string]bool // networks of the members that are none of ours
	networks []*v1alpha1.ApplicationNetwork
	members  []*v1alpha1.Member
	bundles  map[string]bundle.Bundle // by member name
	observed plan.Observed            // that the bundles were planned with
}

// desired is what one member is held to.
type desired struct {
	commit, branch string
	network        *v1alpha1.ApplicationNetwork
	bundle         bundle.Bundle
	// elsewhere says that the network has members that are none of ours.
	elsewhere bool
}

// store holds the accepted commit of every fleet, between the controllers of
// fleets and of members. It is a cache of Git: after a start it is filled anew.
type store struct {
	mu     sync.RWMutex
	fleets map[types.NamespacedName]*accepted
	next   chan struct{} // closed and replaced when a commit is accepted
}

func newStore() *store {
	return &store{fleets: map[types.NamespacedName]*accepted{}, next: make(chan struct{})}
}

func (s *store) accept(fleet types.NamespacedName, a *accepted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleets[fleet] = a
	close(s.next)
	s.next = make(chan struct{})
}

// superseded returns when a member of a fleet is held to another bundle than the
// one of a digest, to none, or to a pause; or when ctx ends, which is false.
func (s *store) superseded(ctx context.Context, fleet types.NamespacedName, member, digest string) bool {
	for {
		s.mu.RLock()
		next := s.next
		s.mu.RUnlock()
		want, ok := s.member(fleet, member)
		if a := s.fleet(fleet); a != nil && (!ok || want.bundle.Digest != digest || a.suspends(member)) {
			return true
		}
		select {
		case <-next:
		case <-ctx.Done():
			return false
		}
	}
}

// suspends reports whether the commit pauses a member.
func (a *accepted) suspends(member string) bool {
	return slices.ContainsFunc(a.members, func(m *v1alpha1.Member) bool { return m.Name == member && m.Spec.Suspend })
}

func (s *store) forget(fleet types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.fleets, fleet)
}

// fleet returns the accepted commit of a fleet, or nil.
func (s *store) fleet(name types.NamespacedName) *accepted {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fleets[name]
}

// member returns what a member of a fleet is held to; false when its fleet has
// no accepted commit yet, or that commit does not have the member.
func (s *store) member(fleet types.NamespacedName, member string) (desired, bool) {
	a := s.fleet(fleet)
	if a == nil {
		return desired{}, false
	}
	b, ok := a.bundles[member]
	if !ok {
		return desired{}, false
	}
	return desired{commit: a.commit, branch: a.branch, network: a.network(b.Network), bundle: b, elsewhere: a.others[b.Network]}, true
}

func (a *accepted) network(name string) *v1alpha1.ApplicationNetwork {
	for _, network := range a.networks {
		if network.Name == name {
			return network
		}
	}
	return nil
}

// isOf says whether the fleet is still to be read as it was for this.
func (a *accepted) isOf(f *v1alpha1.Fleet) bool {
	return a.path == f.Spec.Path && a.only == f.Spec.Member
}

// keepOnly leaves one member of the fleet, for a reconciler inside that member.
// The others were loaded, checked and rendered like it, and are none of its
// business. Networks stay: the guard looks at what they allow.
func (a *accepted) keepOnly(name string) {
	if name == "" {
		return
	}
	a.only, a.others = name, map[string]bool{}
	a.members = slices.DeleteFunc(slices.Clone(a.members), func(m *v1alpha1.Member) bool { return m.Name != name })
	maps.DeleteFunc(a.bundles, func(member string, b bundle.Bundle) bool {
		if member != name {
			a.others[b.Network] = true
		}
		return member != name
	})
}

// published are the networks that belong on the hub: all, or those of the one
// member.
func (a *accepted) published() []*v1alpha1.ApplicationNetwork {
	if a.only == "" {
		return a.networks
	}
	return slices.DeleteFunc(slices.Clone(a.networks), func(n *v1alpha1.ApplicationNetwork) bool {
		return !slices.ContainsFunc(a.members, func(m *v1alpha1.Member) bool { return m.Spec.ApplicationNetwork == n.Name })
	})
}

// memberNames returns the members of the commit, sorted.
func (a *accepted) memberNames() []string { return slices.Sorted(maps.Keys(a.bundles)) }

// hasMembers reports whether the commit has a member of a network.
func (a *accepted) hasMembers(network string) bool {
	for _, b := range a.bundles {
		if b.Network == network {
			return true
		}
	}
	return a.others[network]
}
