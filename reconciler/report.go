package reconciler

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// report writes the status of one member: once at the end of a reconcile, and
// in between only to say what a long one waits for.
type report struct {
	hub    client.Client
	events record.EventRecorder
	member *v1alpha1.Member
	// within is how soon drift needs a look; zero for none.
	within time.Duration
	// superseded: a newer commit has called the delivery off.
	superseded bool

	// mu is held while the member's status changes.
	mu sync.Mutex
	// written is the member as the hub last had it: the base of the next patch.
	written *v1alpha1.Member
	// elsewhere says that the member's network has members of other hubs.
	elsewhere bool
	// steps of a member that leaves; nil for others.
	steps func() []v1alpha1.LeaveStep
}

func newReport(hub client.Client, events record.EventRecorder, m *v1alpha1.Member) *report {
	return &report{hub: hub, events: events, member: m, written: m.DeepCopy()}
}

// write makes the hub's status say what the outcome means. Of work that was
// called off it says nothing: somebody else goes on with it.
func (r *report) write(ctx context.Context, outcome status.Member) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member
	m.Status.ObservedGeneration = m.Generation
	m.Status.Objects = int32(outcome.Objects)
	if r.steps != nil {
		m.Status.Leave = r.steps()
	}
	outcome.Trust = trustOutcome(m, outcome.Trust.Unavailable)
	outcome.Peers = peersOutcome(m, r.elsewhere)
	setConditions(m, outcome.Conditions(), m.Generation)
	if !stayed(r.written, m) {
		announce(r.events, r.written, m)
	}
	announceTrust(r.events, r.written, m)
	announceRestart(r.events, r.written, m)
	announcePeers(r.events, r.written, m)
	if err := writeStatus(ctx, r.hub, r.written, m); err != nil {
		return fmt.Errorf("write status of member %q: %w", m.Name, err)
	}
	r.written = m.DeepCopy()
	observeMember(m)
	return nil
}

// stayed tells whether a member is as it was, by another commit: nothing is to be
// told of it, and of a thousand it would be a thousand events.
func stayed(before, after *v1alpha1.Member) bool {
	return before.Status.Digest != "" && before.Status.Digest == after.Status.Digest &&
		apimeta.IsStatusConditionTrue(before.Status.Conditions, meta.ReadyCondition) &&
		apimeta.IsStatusConditionTrue(after.Status.Conditions, meta.ReadyCondition)
}

// setSteps makes each write tell of the steps of a leave.
func (r *report) setSteps(steps func() []v1alpha1.LeaveStep) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = steps
}

// onNodes records how many nodes the mesh's agents are on; zero for not known now.
func (r *report) onNodes(nodes int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if nodes > 0 {
		r.member.Status.Nodes = nodes
	}
}

// delivered records what the member now has.
func (r *report) delivered(want desired, chain trust.Chain, m *v1alpha1.Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	revision := source.Revision(want.branch, want.commit)
	m.Status.AttemptedRevision, m.Status.AppliedRevision = revision, revision
	m.Status.Digest, m.Status.Release = want.bundle.Digest, want.bundle.Release
	if chain.Intermediate != nil {
		policy := policyOf(want.network, 0)
		m.Status.Certificates = []v1alpha1.CertificateStatus{
			certificateStatus("Root", chain.Root, policy.Root),
			certificateStatus("Intermediate", chain.Intermediate, policy.Intermediate),
		}
	}
	if requested, ok := meta.ReconcileAnnotationValue(m.Annotations); ok {
		m.Status.LastHandledReconcileAt = requested
	}
}

// certificateStatus is what a status says of a CA.
func certificateStatus(tier string, c *x509.Certificate, l trust.Lifetime) v1alpha1.CertificateStatus {
	return v1alpha1.CertificateStatus{
		Tier: tier, Serial: c.SerialNumber.Text(16), NotAfter: metav1.NewTime(c.NotAfter),
		RenewalTime: stamp(trust.DueAt(c, l.RotateAt)),
	}
}

// follower tells the hub what a long call waits for.
type follower struct {
	latest chan string
	done   chan struct{}
}

// follow reports the progress of a call until stop.
func (r *report) follow(ctx context.Context, outcome status.Member) *follower {
	f := &follower{latest: make(chan string, 1), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		for waiting := range f.latest {
			if waiting == "" || waiting == outcome.Waiting {
				continue
			}
			outcome.Waiting = waiting
			// A status that cannot be written now is written at the end.
			_ = r.write(ctx, outcome)
		}
	}()
	return f
}

// progress takes a step of the call; a newer one replaces one not yet written.
func (f *follower) progress(p apply.Progress) {
	waiting := ""
	if len(p.Waiting) > 0 {
		waiting = p.Waiting[0].Subject.String()
	}
	select {
	case <-f.latest:
	default:
	}
	select {
	case f.latest <- waiting:
	default:
	}
}

func (f *follower) stop() {
	close(f.latest)
	<-f.done
}

// readyIsWaiting says whether the member's last run ended before everything was
// healthy.
func readyIsWaiting(m *v1alpha1.Member) bool {
	ready := apimeta.FindStatusCondition(m.Status.Conditions, meta.ReadyCondition)
	return ready != nil && ready.Reason == status.ReasonApplying
}

// withoutFinalizer returns the finalizers without ours.
func withoutFinalizer(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(f string) bool { return f == memberFinalizer })
}
