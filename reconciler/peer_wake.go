package reconciler

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// concernsPeers tells whether a change of a member matters to others of its network.
func concernsPeers(before, after *v1alpha1.Member) bool {
	is, was := seenOf(after), seenOf(before)
	if !maps.Equal(is.Labels, was.Labels) || is.Announced != was.Announced || is.Leaving != was.Leaving ||
		before.Spec.ApplicationNetwork != after.Spec.ApplicationNetwork || !reflect.DeepEqual(before.Spec.Cluster, after.Spec.Cluster) ||
		unreachableReason(before) != unreachableReason(after) || before.Status.ClusterUID != after.Status.ClusterUID {
		return true
	}
	has, had := after.Status.Discovery, before.Status.Discovery
	if has == nil || had == nil {
		return has != had
	}
	return has.Account != had.Account || !slices.Equal(has.Anchors, had.Anchors) || movedAnchors(had.Peers, has.Peers)
}

// movedAnchors tells whether a token hangs on another anchor than before, so that the
// peer may soon let the old one go.
func movedAnchors(before, after []v1alpha1.PeerStatus) bool {
	hung := map[string]string{}
	for _, one := range before {
		hung[one.Name] = anchorIn(one)
	}
	return slices.ContainsFunc(after, func(one v1alpha1.PeerStatus) bool {
		is, was := anchorIn(one), hung[one.Name]
		return is != "" && was != "" && is != was
	})
}

// accessChanged lets new credentials of a member act at its readers, too. At a start
// everybody is looked at anyway.
var accessChanged = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return !e.IsInInitialList },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion()
	},
	DeleteFunc: never[event.DeleteEvent], GenericFunc: never[event.GenericEvent],
}

// readersOfKubeconfig returns the members that read those whose credentials are in a
// Secret: it may have another address or CA of their API servers.
func (r *memberReconciler) readersOfKubeconfig(ctx context.Context, secret client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, request := range r.ofKubeconfig(ctx, secret) {
		var m v1alpha1.Member
		if err := r.Get(ctx, request.NamespacedName, &m); err == nil {
			out = append(out, r.readersOf(ctx, &m)...)
		}
	}
	return out
}

// readersOf are the members that read a member.
func (r *memberReconciler) readersOf(ctx context.Context, m *v1alpha1.Member) []reconcile.Request {
	return r.around(ctx, m, func(relation peering.Relation, self, other peering.Seen) bool { return relation.Reads(other, self) })
}

// tellPeers has the members looked at again that read another, and those that it reads.
func (r *memberReconciler) tellPeers(ctx context.Context, m *v1alpha1.Member, wake func(types.NamespacedName)) {
	concerned := r.around(ctx, m, func(relation peering.Relation, self, other peering.Seen) bool {
		return relation.Reads(other, self) || relation.Reads(self, other)
	})
	for _, request := range concerned {
		wake(request.NamespacedName)
	}
}

// around are the members of a member's network that it concerns.
func (r *memberReconciler) around(ctx context.Context, m *v1alpha1.Member, concerns func(relation peering.Relation, self, other peering.Seen) bool) []reconcile.Request {
	var network v1alpha1.ApplicationNetwork
	if err := r.Get(ctx, client.ObjectKey{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network); err != nil {
		return nil
	}
	members, err := r.roster.network(ctx, m)
	if err != nil {
		return nil
	}
	relation, self := peering.RelationOf(&network.Spec.Discovery), seenOf(m)
	self.Leaving = false // who read it until now is concerned too
	var out []reconcile.Request
	for _, other := range members {
		if concerns(relation, self, seenOf(other)) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(other)})
		}
	}
	return out
}
