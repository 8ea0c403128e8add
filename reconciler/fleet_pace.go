package reconciler

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// pausePerMember is the least time from one summary of a fleet to the next one that
// a member's status asks for, per member of the fleet. A summary looks at every
// member, and each member that settles asks for one: without a pause a thousand
// members that receive a commit would keep a processor busy with nothing else. It
// is some times what the look at a member takes.
const pausePerMember = time.Millisecond

// fleetOfObject is the fleet that an object of the hub is of; false for none.
func fleetOfObject(object client.Object) (reconcile.Request, bool) {
	name := object.GetLabels()[fleetLabel]
	return reconcile.Request{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}, name != ""
}

// summing notes that a summary of the fleet begins: changes of members that come
// while it lasts, or soon after, are for the next one.
func (r *fleetReconciler) summing(f *v1alpha1.Fleet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary[client.ObjectKeyFromObject(f)] = r.now().Add(time.Duration(f.Status.Members) * pausePerMember)
}

// summaryIn is how long a change of a member waits for the summary of its fleet.
func (r *fleetReconciler) summaryIn(fleet types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.summary[fleet].Sub(r.now()))
}

// ofMember looks at the fleet of a member that changed, when its next summary is
// due: all changes until then share it.
func (r *fleetReconciler) ofMember() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	look := func(q queue, objects ...client.Object) {
		for _, object := range objects {
			if request, ok := fleetOfObject(object); ok {
				q.AddAfter(request, r.summaryIn(request.NamespacedName))
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { look(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { look(q, e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { look(q, e.Object) },
	}
}
