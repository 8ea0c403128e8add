package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/jitter"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/shard"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	defaultInterval = time.Minute
	defaultTimeout  = time.Minute
	// maxProblems in a fleet's status; all of them are one "isthmus validate" away.
	maxProblems = 20
)

// fleetReconciler follows the repositories of fleets.
type fleetReconciler struct {
	client.Client
	events record.EventRecorder
	looker looker
	store  *store
	ledger *ledger
	// changed wakes the controller of members.
	changed func(fleet types.NamespacedName, members []string)
	now     func() time.Time
	// replica shares the fleets with others; nil for one that is alone.
	replica *shard.Replica

	mu sync.Mutex
	// next look at each repository; a fleet is also reconciled because a member's
	// status changed, and that must not cost a fetch.
	next map[types.NamespacedName]time.Time
	// led are the fleets that this replica led when it last looked.
	led map[types.NamespacedName]bool
	// last is what the last look at each repository came to.
	last map[types.NamespacedName]lastLook
	// summary is when a member's change may make us look at its fleet again.
	summary map[types.NamespacedName]time.Time
	// hooks are nil when nothing listens for webhooks; wake makes the controller
	// look at a fleet, pushed are those that were pushed to since their last look,
	// and tokens says when each webhook's token was read.
	hooks  *hooks
	forges *forges
	wake   func(types.NamespacedName)
	pushed map[types.NamespacedName]bool
	tokens map[types.NamespacedName]tokenRead
	swept  sync.Once
	log    logr.Logger
}

// Reconcile leads the fleet, or follows the replica that does.
func (r *fleetReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var f v1alpha1.Fleet
	if err := r.Get(ctx, request.NamespacedName, &f); err != nil {
		if !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		r.store.forget(request.NamespacedName)
		r.forges.forget(request.NamespacedName)
		r.deafen(request.NamespacedName)
		return ctrl.Result{}, r.sweep(ctx)
	}
	r.summing(&f)
	r.swept.Do(func() {
		// Fleets may have gone while nothing ran; what is left of them is only disk.
		if err := r.sweep(ctx); err != nil {
			r.log.Info("cannot remove copies of repositories", "error", err.Error())
		}
	})
	path := r.listen(ctx, &f)
	entered, leave, err := r.replica.Enter(ctx, fleetWork(request.Name))
	if err != nil {
		return r.follow(ctx, &f)
	}
	defer leave()
	result, err := r.lead(entered, &f, path)
	if errors.Is(context.Cause(entered), shard.ErrNotOurs) {
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	return result, err
}

// lead looks at the repository when that is due, publishes what was accepted,
// and sums up the members. path is where it listens for the fleet's webhook.
func (r *fleetReconciler) lead(ctx context.Context, f *v1alpha1.Fleet, path string) (ctrl.Result, error) {
	if err := r.takeOver(ctx, f); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := f.DeepCopy()
	f.Status.WebhookPath = path
	outcome := r.reconcile(ctx, f)
	if err := context.Cause(ctx); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.report(ctx, before, f, outcome); err != nil {
		return ctrl.Result{}, err
	}
	if f.Spec.Forge != nil && !f.Spec.Suspend {
		if now, failure := r.published(ctx, f); failure == nil {
			attempted := source.CommitOf(f.Status.AttemptedRevision)
			r.forges.tell(f, rollout(r.store.fleet(client.ObjectKeyFromObject(f)), now.members, outcome, attempted))
		}
	}
	if f.Spec.Suspend {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: max(r.dueIn(f), time.Second)}, nil
}

// reconcile does the work and returns what happened; it changes only f.Status.
func (r *fleetReconciler) reconcile(ctx context.Context, f *v1alpha1.Fleet) status.Fleet {
	key := client.ObjectKeyFromObject(f)
	outcome := status.Fleet{Suspended: f.Spec.Suspend, Verify: f.Spec.Verify != nil, Accepted: source.CommitOf(f.Status.AcceptedRevision)}
	if f.Spec.Suspend {
		return outcome
	}
	now, failure := r.published(ctx, f)
	if failure != nil {
		outcome.Failure = failure
		return outcome
	}
	if r.due(f) {
		r.look(ctx, f, now)
	}
	last := r.lastLook(key)
	outcome.Failure, outcome.Verified = last.failure, last.verified
	if a := r.store.fleet(key); a != nil {
		outcome.Accepted = a.commit
		f.Status.AcceptedRevision = source.Revision(a.branch, a.commit)
		if failure := r.publish(ctx, f, a, now); failure != nil {
			outcome.Failure = failure
		}
	}
	if now, failure = r.published(ctx, f); failure != nil {
		outcome.Failure = failure
		return outcome
	}
	outcome.Members = summaries(now.members)
	return outcome
}

// look reads the repository once and takes over what it accepted.
func (r *fleetReconciler) look(ctx context.Context, f *v1alpha1.Fleet, now published) {
	key := client.ObjectKeyFromObject(f)
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(f))
	defer cancel()
	r.takePush(key)
	held := r.store.fleet(key)
	found := r.looker.look(ctx, f, held, now)
	r.looked(f, found)
	if found.head.Commit != "" {
		f.Status.AttemptedRevision = found.head.Revision()
	}
	if held == nil || found.head.Commit != held.commit || found.accepted != nil || found.failure != nil {
		f.Status.Problems = nil
		for i, problem := range found.problems {
			if i == maxProblems {
				break
			}
			f.Status.Problems = append(f.Status.Problems, problem.String())
		}
	}
	if requested, ok := meta.ReconcileAnnotationValue(f.Annotations); ok {
		f.Status.LastHandledReconcileAt = requested
	}
	if found.accepted == nil {
		return
	}
	r.store.accept(key, found.accepted)
	log.FromContext(ctx).Info("accepted commit", "commit", found.accepted.commit, "members", len(found.accepted.bundles))
	r.changed(key, found.accepted.memberNames())
}

// due says whether the repository is to be looked at now.
func (r *fleetReconciler) due(f *v1alpha1.Fleet) bool {
	requested, ok := meta.ReconcileAnnotationValue(f.Annotations)
	return r.dueIn(f) <= 0 || r.pushWaits(client.ObjectKeyFromObject(f)) ||
		(ok && requested != f.Status.LastHandledReconcileAt) ||
		f.Generation != f.Status.ObservedGeneration
}

func (r *fleetReconciler) dueIn(f *v1alpha1.Fleet) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next[client.ObjectKeyFromObject(f)].Sub(r.now())
}

// lastLook is what a look came to, kept until the next.
type lastLook struct {
	failure  *status.Failure
	verified *status.Verified
}

func (r *fleetReconciler) looked(f *v1alpha1.Fleet, found look) {
	interval := f.Spec.Interval.Duration
	if interval <= 0 {
		interval = defaultInterval
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(f)
	r.next[key] = r.now().Add(jitter.JitteredIntervalDuration(interval))
	verified := found.verified
	if verified == nil {
		verified = r.last[key].verified
	}
	r.last[key] = lastLook{failure: found.failure, verified: verified}
}

func (r *fleetReconciler) lastLook(key types.NamespacedName) lastLook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[key]
}

// report writes the status of the fleet and of its networks.
func (r *fleetReconciler) report(ctx context.Context, before, f *v1alpha1.Fleet, outcome status.Fleet) error {
	if !f.Spec.Suspend {
		f.Status.Members = int32(len(outcome.Members))
		f.Status.ReadyMembers = 0
		everywhere := outcome.Accepted != ""
		for _, member := range outcome.Members {
			if member.Ready == metav1.ConditionTrue {
				f.Status.ReadyMembers++
			}
			everywhere = everywhere && member.Ready == metav1.ConditionTrue && member.Applied == outcome.Accepted
		}
		if everywhere {
			f.Status.AppliedRevision = f.Status.AcceptedRevision
		}
	}
	f.Status.ObservedGeneration = f.Generation
	setConditions(f, outcome.Conditions(), f.Generation)
	announce(r.events, before, f)
	if err := writeStatus(ctx, r.Client, before, f); err != nil {
		return fmt.Errorf("write status of fleet %q: %w", f.Name, err)
	}
	return r.reportNetworks(ctx, f, outcome)
}

func (r *fleetReconciler) reportNetworks(ctx context.Context, f *v1alpha1.Fleet, outcome status.Fleet) error {
	if outcome.Accepted == "" || f.Spec.Suspend {
		return nil
	}
	now, failure := r.published(ctx, f)
	if failure != nil {
		return errors.New(failure.Message)
	}
	for i := range now.networks {
		network := &now.networks[i]
		before := network.DeepCopy()
		var mine []v1alpha1.Member
		for _, member := range now.members {
			if member.Spec.ApplicationNetwork == network.Name {
				mine = append(mine, member)
			}
		}
		network.Status.Members = int32(len(mine))
		r.reportTrust(ctx, f, network)
		network.Status.ObservedGeneration = network.Generation
		setConditions(network, status.Network{Accepted: outcome.Accepted, Members: summaries(mine)}.Conditions(), network.Generation)
		if err := writeStatus(ctx, r.Client, before, network); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("write status of network %q: %w", network.Name, err)
		}
	}
	return nil
}

// reportTrust puts into a network's status where its CAs are. What is not known at
// the moment stays as it was.
func (r *fleetReconciler) reportTrust(ctx context.Context, f *v1alpha1.Fleet, network *v1alpha1.ApplicationNetwork) {
	key := client.ObjectKeyFromObject(f)
	a := r.store.fleet(key)
	if a == nil || a.network(network.Name) == nil || network.Status.Members == 0 {
		return
	}
	p, failure := r.ledger.where(ctx, following{network: a.network(network.Name), fleet: key, elsewhere: a.others[network.Name]}, nil)
	if failure != nil {
		return
	}
	before := network.Status.Trust
	network.Status.Trust = networkStatus(p.Decision, p.roots)
	turned(before, network.Status.Trust, p.policy, p.Decision, r.ledger.now())
	observeNetwork(network)
	if is := network.Status.Trust; before == nil || before.Step != is.Step {
		r.events.Eventf(network, corev1.EventTypeNormal, ReasonTrustStep, "root CA: %s: %s", is.Step, is.Why)
	}
}

// summaries tells what the fleet needs to know of its members. A member whose
// status speaks of an older spec is not ready, whatever it says.
func summaries(members []v1alpha1.Member) []status.MemberSummary {
	out := make([]status.MemberSummary, 0, len(members))
	for i := range members {
		member := &members[i]
		summary := status.MemberSummary{
			Name: member.Name, Ready: metav1.ConditionUnknown,
			Applied: source.CommitOf(member.Status.AppliedRevision),
		}
		ready := apimeta.FindStatusCondition(member.Status.Conditions, meta.ReadyCondition)
		if ready != nil && ready.ObservedGeneration == member.Generation {
			summary.Ready, summary.Message = ready.Status, ready.Message
		}
		out = append(out, summary)
	}
	return out
}

// announce emits an event when the Ready condition changed its meaning.
func announce(events record.EventRecorder, before, after client.Object) {
	was := readyOf(before)
	is := readyOf(after)
	if is == nil || is.Status == metav1.ConditionUnknown || (was != nil && was.Reason == is.Reason && was.Message == is.Message) {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	events.Event(after, kind, is.Reason, is.Message)
}
