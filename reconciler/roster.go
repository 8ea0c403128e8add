package reconciler

import (
	"context"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// roster has the hub's members by network, as their events tell. Lists of the cache
// copy each member: for each of a thousand members that looks at all others, that is a
// million copies for one commit. The zero value knows nobody and says so at once.
type roster struct {
	// concerns is called with a member of which others of its network are to hear: as
	// it was, and as it is, when the roster has it.
	concerns func(*v1alpha1.Member)
	// synced tells whether the members that there were at the start are in it; nil for
	// always.
	synced cache.InformerSynced

	mu       sync.RWMutex
	networks map[types.NamespacedName]map[string]*v1alpha1.Member
}

// network are the members of a member's network, itself included, sorted by name. They
// are the cache's own: they are not to be changed.
func (r *roster) network(ctx context.Context, m *v1alpha1.Member) ([]*v1alpha1.Member, error) {
	if r.synced != nil && !r.synced() && !cache.WaitForCacheSync(ctx.Done(), r.synced) {
		return nil, context.Cause(ctx)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	members := r.networks[networkOf(m)]
	out := make([]*v1alpha1.Member, 0, len(members))
	for _, one := range members {
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b *v1alpha1.Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// handler takes the members of the hub as they change. At a start everybody is looked
// at anyway.
func (r *roster) handler() cache.ResourceEventHandlerDetailedFuncs {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) {
			if m, ok := o.(*v1alpha1.Member); ok {
				r.replace(nil, m, !initial)
			}
		},
		UpdateFunc: func(o, n any) {
			before, ok := o.(*v1alpha1.Member)
			if after, also := n.(*v1alpha1.Member); ok && also {
				r.replace(before, after, concernsPeers(before, after))
			}
		},
		DeleteFunc: func(o any) {
			if m, ok := lastState(o).(*v1alpha1.Member); ok {
				r.replace(m, nil, true)
			}
		},
	}
}

// replace takes another state of a member, nil for none, and tells of both.
func (r *roster) replace(before, after *v1alpha1.Member, tell bool) {
	r.mu.Lock()
	if before != nil {
		delete(r.networks[networkOf(before)], before.Name)
	}
	if after != nil {
		if r.networks == nil {
			r.networks = map[types.NamespacedName]map[string]*v1alpha1.Member{}
		}
		if r.networks[networkOf(after)] == nil {
			r.networks[networkOf(after)] = map[string]*v1alpha1.Member{}
		}
		r.networks[networkOf(after)][after.Name] = after
	}
	r.mu.Unlock()
	if !tell {
		return
	}
	for _, m := range []*v1alpha1.Member{before, after} {
		if m != nil {
			r.concerns(m)
		}
	}
}

func networkOf(m *v1alpha1.Member) types.NamespacedName {
	return types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}
}

// lastState is what an object that was deleted was last known to be.
func lastState(o any) any {
	if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return o
}
