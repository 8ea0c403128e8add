package reconciler

import (
	"cmp"
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// follow renders what the replica that leads the fleet has accepted, for the
// members that are ours. It writes nothing: what it cannot read it reads later,
// and what a member of ours has stays until then.
func (r *fleetReconciler) follow(ctx context.Context, f *v1alpha1.Fleet) (ctrl.Result, error) {
	key := client.ObjectKeyFromObject(f)
	r.leads(key, false)
	commit := source.CommitOf(f.Status.AcceptedRevision)
	if commit == "" || f.Spec.Suspend {
		return ctrl.Result{}, nil
	}
	now, failure := r.published(ctx, f)
	if failure == nil {
		ctx, cancel := context.WithTimeout(ctx, timeoutOf(f))
		defer cancel()
		var followed *accepted
		followed, failure = r.looker.followed(ctx, f, commit, r.store.fleet(key), now)
		if followed != nil {
			r.store.accept(key, followed)
			r.changed(key, followed.memberNames())
		}
	}
	if failure != nil {
		log.FromContext(ctx).Info("cannot follow the accepted commit", "commit", commit, "reason", failure.Reason, "message", failure.Message)
	}
	return ctrl.Result{RequeueAfter: cmp.Or(max(f.Spec.Interval.Duration, 0), defaultInterval)}, nil
}

// followed is the accepted commit freshly rendered, nil when held is it already.
func (l looker) followed(ctx context.Context, f *v1alpha1.Fleet, commit string, held *accepted, now published) (*accepted, *status.Failure) {
	seen := observed(now)
	if held != nil && held.commit == commit && held.isOf(f) && sameKubernetes(held.observed, seen) {
		return nil, nil
	}
	repository, failure := l.open(ctx, f)
	if failure != nil {
		return nil, failure
	}
	// The copy may have the commit from before, while the server is away.
	_, err := repository.Fetch(ctx, commit)
	found, _, failure := l.render(ctx, repository, f, f.Status.AcceptedRevision, seen)
	if failure != nil && err != nil {
		failure = sourceFailure(err)
	}
	return found, failure
}

// leads notes whether this replica leads a fleet, and says whether it did.
func (r *fleetReconciler) leads(key types.NamespacedName, now bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.led[key]
	r.led[key] = now
	return before
}

// takeOver makes what is held what the replica that led before has accepted last:
// a commit that this one followed earlier would set the fleet back.
func (r *fleetReconciler) takeOver(ctx context.Context, f *v1alpha1.Fleet) error {
	key := client.ObjectKeyFromObject(f)
	if r.replica == nil || r.leads(key, true) {
		return nil
	}
	if err := r.looker.hub.Get(ctx, key, f); err != nil {
		r.leads(key, false)
		return err
	}
	if held := r.store.fleet(key); held != nil && held.commit != source.CommitOf(f.Status.AcceptedRevision) {
		r.store.forget(key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.next, key) // look now
	return nil
}

func timeoutOf(f *v1alpha1.Fleet) time.Duration {
	if f.Spec.Timeout != nil && f.Spec.Timeout.Duration > 0 {
		return f.Spec.Timeout.Duration
	}
	return defaultTimeout
}

// acceptedElsewhere lets a fleet pass whose accepted commit has changed.
type acceptedElsewhere struct{ predicate.Funcs }

// Update compares the accepted revisions.
func (acceptedElsewhere) Update(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.Fleet)
	after, still := e.ObjectNew.(*v1alpha1.Fleet)
	return ok && still && before.Status.AcceptedRevision != after.Status.AcceptedRevision
}
