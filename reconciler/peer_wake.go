package reconciler

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// peerChanged lets the members that read another, and those that it reads, know what
// concerns them. At a start everybody is looked at anyway.
var peerChanged = predicate.Funcs{
	CreateFunc:  func(e event.CreateEvent) bool { return !e.IsInInitialList },
	GenericFunc: never[event.GenericEvent],
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Member)
		after, also := e.ObjectNew.(*v1alpha1.Member)
		return ok && also && concernsPeers(before, after)
	},
}

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
	return has.Account != had.Account || !slices.Equal(has.Anchors, had.Anchors)
}

// peersOf are the members that read a member, and those that it reads.
func (r *memberReconciler) peersOf(ctx context.Context, object client.Object) []reconcile.Request {
	m, ok := object.(*v1alpha1.Member)
	if !ok {
		return nil
	}
	var network v1alpha1.ApplicationNetwork
	if err := r.Get(ctx, client.ObjectKey{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network); err != nil {
		return nil
	}
	members, err := sameNetwork(ctx, r.Client, m)
	if err != nil {
		return nil
	}
	relation, self := peering.RelationOf(&network.Spec.Discovery), seenOf(m)
	self.Leaving = false // who read it until now is concerned too
	var out []reconcile.Request
	for _, other := range members {
		if seen := seenOf(other); relation.Reads(seen, self) || relation.Reads(self, seen) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(other)})
		}
	}
	return out
}
