package reconciler

import (
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
	path     string // of the fleet in the repository
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
}

// store holds the accepted commit of every fleet, between the controllers of
// fleets and of members. It is a cache of Git: after a start it is filled anew.
type store struct {
	mu     sync.RWMutex
	fleets map[types.NamespacedName]*accepted
}

func newStore() *store { return &store{fleets: map[types.NamespacedName]*accepted{}} }

func (s *store) accept(fleet types.NamespacedName, a *accepted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleets[fleet] = a
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
	return desired{commit: a.commit, branch: a.branch, network: a.network(b.Network), bundle: b}, true
}

func (a *accepted) network(name string) *v1alpha1.ApplicationNetwork {
	for _, network := range a.networks {
		if network.Name == name {
			return network
		}
	}
	return nil
}

// memberNames returns the members of the commit, sorted.
func (a *accepted) memberNames() []string { return slices.Sorted(maps.Keys(a.bundles)) }
