package reconciler

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	// LeaveAnnotation on a Member of the hub with the value LeaveOrphan lets it go
	// without touching its cluster: for a cluster that is gone for good.
	LeaveAnnotation = "isthmus.dev/leave"
	// LeaveOrphan is the value of LeaveAnnotation.
	LeaveOrphan = "Orphan"
	// ReasonLeft is the reason of the event for a member that has left.
	ReasonLeft = "Left"
)

// leave takes everything of isthmus off the member's cluster, then lets the
// Member object go.
func (r *memberReconciler) leave(ctx context.Context, m *v1alpha1.Member, report *report) (ctrl.Result, error) {
	if !slices.Contains(m.Finalizers, memberFinalizer) {
		return ctrl.Result{}, nil
	}
	outcome := r.outcomeOf(m)
	how := "left: nothing of isthmus is on the cluster any more"
	if touch, why := mayTouch(m); touch {
		outcome = r.remove(ctx, m, outcome, report)
	} else {
		how = "left: " + why
	}
	if outcome.Failure != nil {
		if err := report.write(ctx, outcome); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		return r.again(outcome, 0)
	}
	r.connections.drop(client.ObjectKeyFromObject(m))
	forgetMember(m.Name)
	r.events.Event(m, corev1.EventTypeNormal, ReasonLeft, how)
	after := m.DeepCopy()
	after.Finalizers = withoutFinalizer(m.Finalizers)
	err := r.Patch(ctx, after, client.MergeFromWithOptions(m, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldManager))
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// mayTouch says whether leaving changes the cluster. A member that was never
// given its cluster, because another member has it, must not touch it.
func mayTouch(m *v1alpha1.Member) (bool, string) {
	switch {
	case m.Annotations[LeaveAnnotation] == LeaveOrphan:
		return false, "the cluster was left as it is, as the annotation " + LeaveAnnotation + " asks"
	case m.Status.ClusterUID == "":
		return false, "nothing was ever applied to its cluster"
	}
	return true, ""
}

// remove takes everything of isthmus off the member's cluster.
func (r *memberReconciler) remove(ctx context.Context, m *v1alpha1.Member, outcome status.Member, report *report) status.Member {
	var network v1alpha1.ApplicationNetwork
	err := r.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network)
	if apierrors.IsNotFound(err) {
		outcome.Failure = &status.Failure{Reason: status.ReasonLeaving, Stalled: true,
			Message: fmt.Sprintf("network %q is not on the hub, so what to remove is not known: annotate the Member with %s=%s to leave its cluster as it is", m.Spec.ApplicationNetwork, LeaveAnnotation, LeaveOrphan)}
		return outcome
	}
	if err != nil {
		outcome.Failure = hubFailure("read ApplicationNetwork "+m.Spec.ApplicationNetwork, err)
		return outcome
	}
	c, failure := r.connections.get(ctx, m, meshOf(&network))
	if failure != nil {
		failure.Message += fmt.Sprintf("; if the cluster is gone for good, annotate the Member with %s=%s", LeaveAnnotation, LeaveOrphan)
		outcome.Failure = failure
		return outcome
	}
	// What we delete must not come back as drift.
	c.close()
	follow := report.follow(ctx, outcome)
	result, err := apply.Remove(ctx, c.target, c.mesh, apply.Options{Progress: follow.progress})
	follow.stop()
	outcome.Objects = len(result.Inventory.Entries)
	if err != nil {
		outcome.Failure = memberFailure(err)
	}
	return outcome
}
