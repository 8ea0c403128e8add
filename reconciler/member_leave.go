package reconciler

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	// LeaveAnnotation on a Member of the hub goes before its spec.leave and takes
	// the same values: by it a person changes course after the member's file is gone.
	LeaveAnnotation = "isthmus.dev/leave"
	// ReasonLeft is the reason of the event for a member that has left.
	ReasonLeft = "Left"
	// clusterGone is the reason of a cluster that Azure does not have any more.
	clusterGone = "ClusterGone"
	// goneRetry is how long a leave that was stuck waits for what was deleted: it
	// holds no worker for longer than a look takes.
	goneRetry = 10 * time.Second
)

// leave takes everything of isthmus off the member's cluster, then lets the
// Member object go.
func (r *memberReconciler) leave(ctx context.Context, m *v1alpha1.Member, report *report) (ctrl.Result, error) {
	if !slices.Contains(m.Finalizers, memberFinalizer) {
		return ctrl.Result{}, nil
	}
	outcome := r.outcomeOf(m)
	exit, failure := r.exitOf(ctx, m)
	switch {
	case failure != nil:
		outcome.Failure = failure
	case exit.hold != "":
		r.connections.drop(client.ObjectKeyFromObject(m))
		outcome.Waiting = exit.hold
		return ctrl.Result{RequeueAfter: gatewayRetry}, client.IgnoreNotFound(report.write(ctx, outcome))
	case exit.touch:
		outcome = r.remove(ctx, m, exit, outcome, report)
		if outcome.Failure != nil && outcome.Failure.Reason == clusterGone {
			outcome.Failure, exit.touch, exit.how = nil, false, "its cluster is gone"
		}
	}
	if outcome.Failure == nil {
		outcome.Failure = r.revoke(ctx, m)
	}
	if outcome.Failure != nil {
		outcome.Failure.Message = "leaving: " + outcome.Failure.Message
		if err := report.write(ctx, outcome); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		return r.again(outcome, 0)
	}
	if !exit.touch {
		if note, _ := r.dropPeerCredentials(ctx, m); note != "" {
			exit.how += "; credentials at peers: " + note
		}
	}
	return ctrl.Result{}, r.letGo(ctx, m, exit.how)
}

// letGo ends the Member object.
func (r *memberReconciler) letGo(ctx context.Context, m *v1alpha1.Member, how string) error {
	r.connections.drop(client.ObjectKeyFromObject(m))
	forgetMember(m.Name)
	r.events.Event(m, corev1.EventTypeNormal, ReasonLeft, "left: "+how)
	after := m.DeepCopy()
	after.Finalizers = withoutFinalizer(m.Finalizers)
	err := r.Patch(ctx, after, client.MergeFromWithOptions(m, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldManager))
	return client.IgnoreNotFound(err)
}

// exit is how a member leaves.
type exit struct {
	// touch says that the cluster is changed; force that enrolled workloads do not
	// hinder it.
	touch, force bool
	// hold is what is waited for before anything is done; empty for nothing.
	hold string
	// how is for the event, once it has left.
	how string
}

// exitOf finds out how a member leaves.
func (r *memberReconciler) exitOf(ctx context.Context, m *v1alpha1.Member) (exit, *status.Failure) {
	mode, failure := leaveMode(m)
	if failure != nil || mode == v1alpha1.LeaveOrphan || m.Status.ClusterUID == "" {
		return decideExit(m, mode, heirs{}), failure
	}
	if why, failure := r.suspended(ctx, m); failure != nil || why != "" {
		return exit{hold: why}, failure
	}
	found, failure := r.heirsOf(ctx, m)
	if failure != nil {
		return exit{}, failure
	}
	return decideExit(m, mode, found), nil
}

// decideExit decides, first match first, how a member leaves. One that was never
// given its cluster, because another member has it, must not touch it; nor must
// one whose cluster goes on under another name.
func decideExit(m *v1alpha1.Member, mode v1alpha1.LeaveMode, found heirs) exit {
	switch {
	case mode == v1alpha1.LeaveOrphan:
		return exit{how: orphaned(m)}
	case m.Status.ClusterUID == "":
		return exit{how: "nothing was ever applied to its cluster"}
	case found.heir != "":
		return exit{how: fmt.Sprintf("its cluster goes on as the member %q, with all that is on it", found.heir)}
	case found.unknown != "" && mode != v1alpha1.LeaveForce:
		return exit{hold: fmt.Sprintf("the member %q, which is new and may be the same cluster, to be reached", found.unknown)}
	}
	return exit{touch: true, force: mode == v1alpha1.LeaveForce, how: "nothing of isthmus is on the cluster any more"}
}

// leaveMode is what the annotation says, else the spec.
func leaveMode(m *v1alpha1.Member) (v1alpha1.LeaveMode, *status.Failure) {
	mode, annotated := m.Spec.Leave, false
	if value, ok := m.Annotations[LeaveAnnotation]; ok {
		mode, annotated = v1alpha1.LeaveMode(value), true
	}
	switch mode {
	case v1alpha1.LeaveRemove, v1alpha1.LeaveForce, v1alpha1.LeaveOrphan:
		return mode, nil
	case "":
		if !annotated {
			return v1alpha1.LeaveRemove, nil
		}
	}
	return "", &status.Failure{Reason: status.ReasonLeaving, Stalled: true,
		Message: fmt.Sprintf("the annotation %s is %q: use Remove, Force or Orphan", LeaveAnnotation, mode)}
}

// orphaned says what stays on a cluster, and for how long it works.
func orphaned(m *v1alpha1.Member) string {
	how := fmt.Sprintf("the cluster is left as it is, with %d objects of isthmus", m.Status.Objects)
	for _, c := range m.Status.Certificates {
		if c.Tier == "Intermediate" {
			how += "; its CA certificate lasts until " + c.NotAfter.UTC().Format(time.RFC3339)
		}
	}
	return how
}

// suspended says why nothing may be written to a member; empty where it may.
func (r *memberReconciler) suspended(ctx context.Context, m *v1alpha1.Member) (string, *status.Failure) {
	if m.Spec.Suspend {
		return "the end of its suspension (spec.suspend of the Member)", nil
	}
	var f v1alpha1.Fleet
	err := r.Get(ctx, fleetOf(m), &f)
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", hubFailure("read Fleet "+fleetOf(m).Name, err)
	case f.Spec.Suspend:
		return fmt.Sprintf("the end of the suspension of fleet %q (its spec.suspend)", f.Name), nil
	}
	return "", nil
}

// remove takes everything of isthmus off the member's cluster.
func (r *memberReconciler) remove(ctx context.Context, m *v1alpha1.Member, exit exit, outcome status.Member, report *report) status.Member {
	plan := newLeavePlan(m.Status.Leave, exit.force)
	report.setSteps(plan.steps)
	c, failure := r.openToLeave(ctx, m)
	if failure == nil {
		failure = r.startLeaving(ctx, m, outcome, report)
	}
	if failure != nil {
		plan.end("", nil, failure)
		outcome.Failure = failure
		return outcome
	}
	// What we delete must not come back as drift.
	c.close()
	follow := report.follow(ctx, outcome)
	options := apply.Options{Progress: func(p apply.Progress) {
		plan.progress(p)
		follow.progress(p)
	}}
	if stuck(m.Status.Leave) {
		options.GoneTimeout = goneRetry
	}
	result, err := apply.Leave(ctx, c.target, c.mesh, apply.Leaving{
		Force: exit.force,
		Peers: func(ctx context.Context) (string, error) { return r.dropPeerCredentials(ctx, m) },
	}, options)
	follow.stop()
	outcome.Objects = len(result.Inventory.Entries)
	if err != nil {
		outcome.Failure = memberFailure(err)
		// A person has to see to a finalizer; the call has waited long enough.
		outcome.Failure.Stalled = outcome.Failure.Stalled || member.ReasonOf(err) == apply.NotGone
		outcome.Failure.Message += letGoHint(m, outcome.Failure.Reason)
	}
	plan.end(result.Step, result.Notes, outcome.Failure)
	return outcome
}

// openToLeave reaches the cluster that the member had, and no other.
func (r *memberReconciler) openToLeave(ctx context.Context, m *v1alpha1.Member) (*connection, *status.Failure) {
	var network v1alpha1.ApplicationNetwork
	err := r.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network)
	if apierrors.IsNotFound(err) {
		return nil, &status.Failure{Reason: status.ReasonLeaving, Stalled: true,
			Message: fmt.Sprintf("network %q is not on the hub, so what to remove is not known: bring it back, or leave the cluster as it is: %s", m.Spec.ApplicationNetwork, letGoCommand(m))}
	}
	if err != nil {
		return nil, hubFailure("read ApplicationNetwork "+m.Spec.ApplicationNetwork, err)
	}
	c, failure := r.connections.get(ctx, m, meshOf(&network))
	if failure == nil {
		uid, err := c.member.ClusterUID(ctx)
		switch {
		case err != nil:
			failure = memberFailure(err)
		case string(uid) != m.Status.ClusterUID:
			failure = &status.Failure{Reason: status.ReasonClusterChanged, Stalled: true,
				Message: "the credentials lead to another cluster than the one to leave, which is not touched: restore them"}
		}
	}
	if failure != nil {
		failure.Message += letGoHint(m, failure.Reason)
	}
	return c, failure
}

// startLeaving puts on the hub that the cluster is about to be changed, then
// looks whether another member took it over meanwhile: of two that meet, the
// one that joins waits, see takeOver.
func (r *memberReconciler) startLeaving(ctx context.Context, m *v1alpha1.Member, outcome status.Member, report *report) *status.Failure {
	begins := len(m.Status.Leave) == 0
	if err := report.write(ctx, outcome); err != nil {
		return hubFailure("record the steps", err)
	}
	all, failure := r.liveMembersOf(ctx, m.Namespace, m.Status.ClusterUID)
	if failure != nil {
		return failure
	}
	heir := heirAmong(all, m)
	if heir == "" {
		return nil
	}
	if begins {
		report.setSteps(nil) // nothing was changed yet
		m.Status.Leave = nil
	}
	return &status.Failure{Reason: status.ReasonLeaving, Message: fmt.Sprintf("member %q takes the cluster over", heir)}
}

// letGoHint is what to do about a cluster that does not answer; empty for other
// reasons.
func letGoHint(m *v1alpha1.Member, reason string) string {
	switch member.Reason(reason) {
	case member.Unreachable, member.CertificateRejected, member.CredentialsRejected, member.KubeconfigRefused,
		member.AccessDenied, status.ReasonSecretNotFound, status.ReasonClusterChanged:
		return "; if the cluster is gone for good, let it go: " + letGoCommand(m)
	}
	return ""
}

func letGoCommand(m *v1alpha1.Member) string {
	return fmt.Sprintf("kubectl annotate member %s -n %s %s=%s", m.Name, m.Namespace, LeaveAnnotation, v1alpha1.LeaveOrphan)
}

// leaveChanged lets the annotation act at once.
var leaveChanged = predicate.Funcs{
	CreateFunc: never[event.CreateEvent], DeleteFunc: never[event.DeleteEvent], GenericFunc: never[event.GenericEvent],
	UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[LeaveAnnotation] != e.ObjectNew.GetAnnotations()[LeaveAnnotation]
	},
}

// suspendChanged lets the members of a fleet rest and wake with it.
var suspendChanged = predicate.Funcs{
	CreateFunc: never[event.CreateEvent], DeleteFunc: never[event.DeleteEvent], GenericFunc: never[event.GenericEvent],
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.Fleet)
		after, also := e.ObjectNew.(*v1alpha1.Fleet)
		return ok && also && before.Spec.Suspend != after.Spec.Suspend
	},
}

func never[E any](E) bool { return false }

// ofFleet returns the members of a fleet.
func (r *memberReconciler) ofFleet(ctx context.Context, f client.Object) []reconcile.Request {
	var all v1alpha1.MemberList
	if err := r.List(ctx, &all, client.InNamespace(f.GetNamespace()), client.MatchingLabels{fleetLabel: f.GetName()}); err != nil {
		return nil
	}
	out := make([]reconcile.Request, len(all.Items))
	for i := range all.Items {
		out[i].NamespacedName = client.ObjectKeyFromObject(&all.Items[i])
	}
	return out
}
