package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/shard"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

const (
	// gatewayRetry is how soon a member whose objects are all applied, and whose
	// gateways have no address yet, is looked at again.
	gatewayRetry = 10 * time.Second
	// stalledRetry is how soon a member is tried again that a person must mend:
	// rights that are granted on the member send us no event.
	stalledRetry = 2 * time.Minute
)

// memberReconciler brings each member to its bundle and keeps it there.
type memberReconciler struct {
	client.Client
	events      record.EventRecorder
	store       *store
	ledger      *ledger
	connections *connections
	fullCompare time.Duration
	now         func() time.Time
	// replica shares the members with others; nil for one that is alone.
	replica *shard.Replica
	lanes   *lanes
	// live reads the hub past the cache; claims are made one at a time.
	live   client.Reader
	claims sync.Mutex
	views  *views
	roster *roster
	// endpoints of members, for the istiods of others.
	endpoints endpoints
}

func newMemberReconciler(ctx context.Context, manager ctrl.Manager, o Options, store *store, ledger *ledger, access *access, wake chan<- event.GenericEvent) *memberReconciler {
	members := &roster{}
	return &memberReconciler{
		Client: manager.GetClient(),
		events: manager.GetEventRecorderFor("isthmus"), //nolint:staticcheck // SA1019: as for fleets.
		store:  store, ledger: ledger,
		connections: newConnections(ctx, access, o, wake),
		fullCompare: o.FullCompare,
		now:         time.Now,
		live:        manager.GetAPIReader(),
		roster:      members,
		views:       newViews(manager.GetClient(), manager.GetCache(), members),
	}
}

// reconcile works on one member.
func (r *memberReconciler) reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var m v1alpha1.Member
	if err := r.Get(ctx, request.NamespacedName, &m); err != nil {
		r.connections.drop(request.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	report := newReport(r.Client, r.events, &m)
	if !m.DeletionTimestamp.IsZero() {
		return r.leave(ctx, &m, report)
	}
	outcome := r.outcomeOf(&m)
	why, failure := r.suspended(ctx, &m)
	if failure != nil {
		return ctrl.Result{}, fmt.Errorf("%s", failure.Message)
	}
	if why != "" {
		outcome.Suspended = true
		// The next apply after a pause compares everything.
		r.connections.drop(request.NamespacedName)
		return ctrl.Result{}, report.write(ctx, outcome)
	}
	want, ok := r.store.member(fleetOf(&m), m.Name)
	if !ok {
		// After a start the fleet is read first, which wakes us. What the status
		// says of the last run stays true until then.
		if len(m.Status.Conditions) > 0 {
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, report.write(ctx, outcome)
	}
	outcome.Attempted = want.commit
	outcome = r.deliver(ctx, &m, want, outcome, report)
	if err := report.write(ctx, outcome); err != nil {
		return ctrl.Result{}, err
	}
	return r.again(outcome, report.within)
}

// outcomeOf starts from what the status records of earlier runs.
func (r *memberReconciler) outcomeOf(m *v1alpha1.Member) status.Member {
	return status.Member{
		Suspended: m.Spec.Suspend,
		Leaving:   !m.DeletionTimestamp.IsZero(),
		Applied:   source.CommitOf(m.Status.AppliedRevision),
		Objects:   int(m.Status.Objects),
	}
}

// again says when to come back: by the queue's growing delays after a failure
// that time may mend; else for the full compare, somewhat later by chance, so that
// members that were delivered to together do not stay together. Within is how soon
// drift needs a look; zero for none.
func (r *memberReconciler) again(outcome status.Member, within time.Duration) (ctrl.Result, error) {
	after := r.fullCompare + rand.N(r.fullCompare/10+1) //nolint:gosec // G404: no secret.
	switch {
	case outcome.Failure != nil && outcome.Failure.Stalled:
		return ctrl.Result{RequeueAfter: stalledRetry}, nil
	case outcome.Failure != nil:
		return ctrl.Result{}, fmt.Errorf("%s: %s", outcome.Failure.Reason, outcome.Failure.Message)
	case outcome.Waiting != "":
		after = gatewayRetry
	}
	if within > 0 {
		after = min(after, within)
	}
	return ctrl.Result{RequeueAfter: after}, nil
}

// sooner is the shorter of two waits, of which zero is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// deliver connects, makes the member's CA and applies what is due.
func (r *memberReconciler) deliver(ctx context.Context, m *v1alpha1.Member, want desired, outcome status.Member, report *report) status.Member {
	c, failure := r.connect(ctx, m, want, outcome, report)
	if failure != nil {
		r.noteUnreached(ctx, m, want)
		outcome.Failure = failure
		return outcome
	}
	given, failure := r.authorize(ctx, c, m, want)
	if failure != nil {
		outcome.Failure = failure
		return outcome
	}
	outcome.Trust.Unavailable = given.unavailable
	bare, err := setOf(want, given.chain)
	if err != nil {
		outcome.Failure = &status.Failure{Reason: status.ReasonTrustFailed, Message: err.Error()}
		return outcome
	}
	pairs, failure := r.pairsOf(ctx, c, m, want)
	if failure != nil {
		outcome.Failure = failure
		return outcome
	}
	bare.Drift, bare.Adopt = driftPolicy(want.network, m), m.Annotations[apply.AdoptAnnotation] == apply.AdoptExisting
	bare.Drift.Hold = c.holds
	work := c.due(demand{
		fingerprint: want.bundle.Digest + "/" + given.chain.String() + "/" + pairs.String() + "/" + fingerprintOf(bare.Drift, bare.Adopt),
		requestedAt: m.Annotations[meta.ReconcileRequestAnnotation],
		handledAt:   m.Status.LastHandledReconcileAt,
		waiting:     readyIsWaiting(m),
		now:         r.now(), fullCompare: r.fullCompare,
	})
	set := bare
	if work.step != stepNothing {
		set = pairs.in(bare)
		if failure := r.recognise(ctx, c, m, identityAge, outcome, report); failure != nil {
			c.redo(work)
			outcome.Failure = failure
			return outcome
		}
	}
	switch work.step {
	case stepApply:
		if !work.repeat {
			if failure := r.checkGatewayAPI(ctx, c, set, m, want.network); failure != nil {
				c.redo(work)
				outcome.Failure = failure
				return outcome
			}
		}
		outcome = r.apply(ctx, c, set, work, outcome, report)
	case stepCorrect:
		outcome = r.correct(ctx, c, set, work, outcome, report)
	case stepNothing:
		report.drifted(c, apply.Result{}, work) // a contest may have ended
		outcome.Applied = want.commit
	}
	report.within = c.nextLook(r.now())
	if report.superseded {
		report.within = soon
		return outcome
	}
	if outcome.Failure == nil {
		report.delivered(want, given.chain, m)
	}
	report.within = sooner(report.within, r.discover(ctx, c, m, bare, pairs, outcome, report))
	r.prove(ctx, c, m, given)
	report.within = sooner(report.within, c.proof.wait(r.now(), m.Status.Trust))
	if given.unavailable != "" {
		report.within = sooner(report.within, vaultRetry)
	}
	report.within = sooner(report.within, r.restart(ctx, c, m, set, given))
	if outcome.Failure == nil {
		report.within = sooner(report.within, r.lookAtServices(ctx, c, m, want))
	}
	return outcome
}

// apply brings the whole set to the member.
func (r *memberReconciler) apply(ctx context.Context, c *connection, set apply.Set, work work, outcome status.Member, report *report) status.Member {
	if work.full {
		c.target.Doubt()
	}
	follow := report.follow(ctx, outcome)
	current, superseded := r.whileCurrent(ctx, report.member, set)
	c.setUnderWay(&underWay{ctx: current, set: set, report: report})
	result, err := apply.Apply(current, c.target, set, apply.Options{Progress: follow.progress, GatewayTimeout: work.gatewayTimeout})
	c.setUnderWay(nil)
	follow.stop()
	report.drifted(c, result, work)
	c.proof.changed(result.Changes)
	c.view.changed(result.Changes)
	c.peers.changed(result.Changes)
	outcome.Objects = len(result.Inventory.Entries)
	report.onNodes(result.Nodes)
	if report.superseded = superseded() && err != nil; report.superseded {
		c.redo(work)
		return outcome
	}
	if err != nil {
		c.redo(work)
		outcome.Failure = memberFailure(err)
		return outcome
	}
	c.applied(work)
	r.connections.watch(c)
	outcome.Applied = outcome.Attempted
	if len(result.Waiting) > 0 {
		outcome.Waiting = result.Waiting[0].Subject.String() + ": " + result.Waiting[0].Why
	}
	return outcome
}

// whileCurrent is a context that ends when a newer commit has another bundle for
// the member: what mends a delivery must not wait until that gives up. The
// returned function ends it too, and says whether a newer commit did.
func (r *memberReconciler) whileCurrent(ctx context.Context, m *v1alpha1.Member, set apply.Set) (context.Context, func() bool) {
	current, cancel := context.WithCancel(ctx)
	fleet, name, digest := fleetOf(m), m.Name, set.Digest
	over := make(chan bool, 1)
	go func() {
		newer := r.store.superseded(current, fleet, name, digest)
		cancel()
		over <- newer
	}()
	return current, func() bool {
		cancel()
		return <-over
	}
}

// correct puts single objects back that somebody else changed.
func (r *memberReconciler) correct(ctx context.Context, c *connection, set apply.Set, work work, outcome status.Member, report *report) status.Member {
	result, err := apply.Correct(ctx, c.target, set, work.subjects, apply.Options{})
	report.drifted(c, result, work)
	c.proof.changed(result.Changes)
	c.peers.changed(result.Changes)
	if err != nil {
		c.redo(work)
		outcome.Failure = memberFailure(err)
		return outcome
	}
	outcome.Applied = outcome.Attempted
	return outcome
}

// connect reaches the member and makes sure that no other Member has its cluster.
func (r *memberReconciler) connect(ctx context.Context, m *v1alpha1.Member, want desired, outcome status.Member, report *report) (*connection, *status.Failure) {
	c, failure := r.connections.get(ctx, m, meshOf(want.network))
	if failure != nil {
		return nil, failure
	}
	return c, r.recognise(ctx, c, m, c.credible(want.bundle.Digest, r.fullCompare), outcome, report)
}

// recognise makes sure that the cluster is the member's, by what it said within age.
func (r *memberReconciler) recognise(ctx context.Context, c *connection, m *v1alpha1.Member, age time.Duration, outcome status.Member, report *report) *status.Failure {
	is, err := c.identify(ctx, r.now(), age)
	if err != nil {
		return memberFailure(err)
	}
	m.Status.KubernetesVersion = is.kubernetes
	observeSkew(m.Name, c.member)
	return r.claim(ctx, m, string(is.uid), outcome, report)
}

// claim makes the cluster the member's, on the hub and before the first write to
// it: by this record a member that leaves knows that it has something to remove,
// and a second Member of the same cluster is refused.
func (r *memberReconciler) claim(ctx context.Context, m *v1alpha1.Member, uid string, outcome status.Member, report *report) *status.Failure {
	switch m.Status.ClusterUID {
	case uid:
		return nil
	case "":
	default:
		return &status.Failure{Reason: status.ReasonClusterChanged, Stalled: true,
			Message: "the credentials lead to another cluster than before: restore them, or remove this member and join the other cluster under a new name"}
	}
	r.claims.Lock()
	defer r.claims.Unlock()
	if failure := r.claimed(ctx, m, uid); failure != nil {
		return failure
	}
	m.Status.ClusterUID = uid
	if err := report.write(ctx, outcome); err != nil {
		return hubFailure("record the cluster", err)
	}
	// Another replica may have done the same for another member since, or begun to
	// take the mesh off the cluster for the one that leaves it. Then nobody keeps
	// the cluster, and one of the two is first at the next try.
	failure := r.claimed(ctx, m, uid)
	if failure != nil {
		failure.Stalled = false
		m.Status.ClusterUID = ""
	}
	return failure
}

// claimed fails when another member has the cluster, and keeps it or is taking the
// mesh off it.
func (r *memberReconciler) claimed(ctx context.Context, m *v1alpha1.Member, uid string) *status.Failure {
	all, failure := r.liveMembersOf(ctx, m.Namespace, uid)
	if failure != nil {
		return failure
	}
	if why := takeOver(m, uid, all); why != "" {
		return &status.Failure{Reason: status.ReasonClusterClaimed, Stalled: true, Message: why}
	}
	return nil
}

func fleetOf(m *v1alpha1.Member) types.NamespacedName {
	return types.NamespacedName{Namespace: m.Namespace, Name: m.Labels[fleetLabel]}
}

func meshOf(network *v1alpha1.ApplicationNetwork) apply.Mesh {
	return apply.Mesh{Network: network.Name, SystemNamespace: network.Spec.DataPlane.Namespace}
}

// setOf is everything that the member should have, its CA included where the
// reconciler is who brings it.
func setOf(want desired, chain trust.Chain) (apply.Set, error) {
	mesh := meshOf(want.network)
	set := apply.Set{
		Mesh: mesh, Release: want.bundle.Release, Commit: want.commit, Digest: want.bundle.Digest,
		Objects: want.bundle.Objects,
	}
	switch want.network.Spec.Trust.Delivery.Mode {
	case v1alpha1.DeliveryExternalSecret:
		return set, nil
	case v1alpha1.DeliverySecretProviderClass:
		set.MountedCA = true
		return set, nil
	}
	secret, err := chain.Secret(mesh.SystemNamespace)
	if err != nil {
		return apply.Set{}, err
	}
	secret.SetLabels(map[string]string{apply.LabelNetwork: mesh.Network, apply.LabelComponent: "trust"})
	set.Secrets = append(set.Secrets, secret)
	return set, nil
}

// memberFailure is the status of an error of a member's API.
func memberFailure(err error) *status.Failure {
	return &status.Failure{Reason: string(cmp.Or(member.ReasonOf(err), member.Unclassified)), Message: err.Error(), Stalled: apply.Stalls(err)}
}

// ofKubeconfig returns the members whose credentials are in a Secret, so that new
// ones act at once.
func (r *memberReconciler) ofKubeconfig(ctx context.Context, secret client.Object) []reconcile.Request {
	var all v1alpha1.MemberList
	// Only read, and not copied: at a start each Secret of a fleet asks.
	if err := r.List(ctx, &all, client.InNamespace(secret.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var out []reconcile.Request
	for i := range all.Items {
		if namesSecret(&all.Items[i], secret.GetName()) {
			r.endpoints.forget(client.ObjectKeyFromObject(&all.Items[i]))
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return out
}
