package reconciler

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// TestRestartOfMember follows one member through the restarts that a decision asks
// for, by its status alone.
func TestRestartOfMember(t *testing.T) {
	t.Parallel()
	now := trustStart.Add(time.Hour)
	_, roots, _ := twoRoots(t)
	policy := policyOf(&v1alpha1.ApplicationNetwork{}, 0)
	proven := now.Add(-10 * time.Minute)
	both := []v1alpha1.TrustedRoot{
		{Fingerprint: string(roots[0].Trusts()), Since: metav1.NewTime(now.Add(-1000 * time.Hour))},
		{Fingerprint: string(roots[1].Trusts()), Since: metav1.NewTime(proven)},
	}
	ready := []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: status.ReasonApplied}}
	m := &v1alpha1.Member{Status: v1alpha1.MemberStatus{Conditions: ready, Release: "1.30.4", Trust: &v1alpha1.MemberTrustStatus{
		Issued: &v1alpha1.IssuedTrust{Trusts: both, Signer: string(roots[0].Signs()), SignerSince: stamp(now.Add(-1000 * time.Hour)), Serial: "1"},
		Proven: &v1alpha1.ProvenTrust{Trusts: both, TrustsSince: stamp(proven), Signer: string(roots[0].Signs()), SignerSince: stamp(now.Add(-1000 * time.Hour)), Serial: "1", At: stamp(proven)},
	}}}
	m.Name = "eastus-1"
	decide := func() trust.Decision { return trust.Decide(policy, roots, []trust.Observed{observedOf(m)}, now) }

	if after := restartAfter(decided(decide()), m); !after.IsZero() {
		t.Errorf("without an emergency proxies of 1.30.4 are restarted, for %s", after)
	}
	for _, release := range []string{"1.28.5", ""} {
		m.Status.Release = release
		if after := restartAfter(decided(decide()), m); !after.Equal(proven) {
			t.Errorf("release %q: a restart for %s, want one for %s", release, after, proven)
		}
	}
	m.Status.Release, policy.Emergency = "1.30.4", true
	after := restartAfter(decided(decide()), m)
	if !after.Equal(proven) {
		t.Fatalf("a restart for %s, want one for %s", after, proven)
	}
	restarted(m.Status.Trust, after, nil, errors.New("the member does not answer"))
	if restartAfter(decided(decide()), m) != after || !strings.Contains(m.Status.Trust.Restarting, "does not answer") {
		t.Errorf("an error ends the restart: %+v", m.Status.Trust)
	}
	restarted(m.Status.Trust, after, []apply.Waiting{{Subject: apply.Subject{Kind: "DaemonSet", Name: "ztunnel"}, Why: "waiting for node-1"}}, nil)
	if restartAfter(decided(decide()), m) != after || m.Status.Trust.Restarting != "DaemonSet ztunnel: waiting for node-1" {
		t.Errorf("a rollout that is not complete ends the restart: %+v", m.Status.Trust)
	}
	if d := decide(); d.Step != trust.StepTrustBoth || !strings.Contains(d.Why, "three times in all") {
		t.Errorf("step %s before the restart is complete, and it says: %s", d.Step, d.Why)
	}
	restarted(m.Status.Trust, after, nil, nil)
	if d := decide(); !restartAfter(decided(d), m).IsZero() || d.Step != trust.StepSignByNew || m.Status.Trust.Restarting != "" {
		t.Errorf("step %s after the restart, which is asked for again for %s: %+v", d.Step, restartAfter(decided(d), m), m.Status.Trust)
	}
}

func decided(d trust.Decision) authorized { return authorized{position: position{Decision: d}} }

// TestRestartAfterRevocation: a member whose CAs are revoked has its proxies restarted,
// once; and once more for another revocation, and not for another CA.
func TestRestartAfterRevocation(t *testing.T) {
	t.Parallel()
	m := &v1alpha1.Member{Status: v1alpha1.MemberStatus{Trust: &v1alpha1.MemberTrustStatus{}}}
	if after := restartAfter(authorized{}, m); !after.IsZero() {
		t.Errorf("nothing is revoked, and a restart for %s", after)
	}
	for _, revoked := range []time.Time{trustStart, trustStart.Add(24 * time.Hour)} {
		given := authorized{revoked: revoked}
		after := restartAfter(given, m)
		if !after.Equal(revoked) {
			t.Errorf("revoked before %s, and a restart for %s", revoked, after)
		}
		restarted(m.Status.Trust, after, nil, nil)
		if again := restartAfter(given, m); !again.IsZero() {
			t.Errorf("revoked before %s, and another restart for %s", revoked, again)
		}
	}
}

// TestRestartIsTold: the begin and the end of a restart, once each, with what it
// waits for.
func TestRestartIsTold(t *testing.T) {
	t.Parallel()
	events := record.NewFakeRecorder(10)
	after := trustStart
	var told []string
	m := &v1alpha1.Member{}
	look := func(waiting ...apply.Waiting) {
		before := m.DeepCopy()
		if m.Status.Trust == nil {
			m.Status.Trust = &v1alpha1.MemberTrustStatus{}
		}
		restarted(m.Status.Trust, after, waiting, nil)
		announceRestart(events, before, m)
		for len(events.Events) > 0 {
			told = append(told, <-events.Events)
		}
	}
	ztunnel := apply.Waiting{Subject: apply.Subject{Kind: "DaemonSet", Name: "ztunnel"}, Why: "waiting for node-1"}
	look(ztunnel)
	look(ztunnel)
	look()
	look()
	after = after.Add(time.Hour)
	look() // complete at the first look
	want := []string{
		"Normal ProxiesRestarting restart node proxies, gateways and waypoints, for certificates that they are not to have any more; waiting for DaemonSet ztunnel: waiting for node-1",
		"Normal ProxiesRestarted all node proxies, gateways and waypoints have started after " + trustStart.UTC().Format(time.RFC3339),
		"Normal ProxiesRestarted all node proxies, gateways and waypoints have started after " + after.UTC().Format(time.RFC3339),
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestOldProofIsNoProof(t *testing.T) {
	t.Parallel()
	at := func(s int) metav1.Time { return metav1.NewTime(time.Unix(int64(s), 0)) }
	look := func(issued, proven int) *v1alpha1.MemberTrustStatus {
		since, asked := at(issued), at(proven)
		return &v1alpha1.MemberTrustStatus{
			Issued: &v1alpha1.IssuedTrust{Serial: "1", Signer: "a", Trusts: []v1alpha1.TrustedRoot{{Fingerprint: "a", Since: since}}, TrustsSince: &since},
			Proven: &v1alpha1.ProvenTrust{Serial: "1", Signer: "a", Trusts: []v1alpha1.TrustedRoot{{Fingerprint: "a", Since: at(1)}}, At: &asked},
		}
	}
	if hasFollowed(look(10, 9)) || !hasFollowed(look(10, 10)) {
		t.Error("a look from before the issue proves it, or one after it does not")
	}
	m := &v1alpha1.Member{Status: v1alpha1.MemberStatus{Trust: look(10, 9)}}
	if got := observedOf(m).ProvenAt; !got.Equal(time.Unix(9, 0)) {
		t.Errorf("proven at %s", got)
	}
}

// TestTurnsOfRotation: gates stay closed from a turn on until the hub has it, and
// for a while after that.
func TestTurnsOfRotation(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	l := newLedger(newVaults(nil, Options{}, nil), Options{}, nil)
	l.now = func() time.Time { return now }
	network := &v1alpha1.ApplicationNetwork{}
	network.Name = "prod"
	since := func(rotation trust.Rotation, want time.Time, reason string) {
		t.Helper()
		l.turn(network)
		if got := l.rotationSince("prod", trust.Policy{Rotation: rotation}); !got.Equal(want) {
			t.Errorf("%s: since %s, want %s", reason, got, want)
		}
	}
	rotating := trust.Decision{Step: trust.StepTrustBoth, Known: true, Old: make([]trust.Root, 1)}
	report := func(rotation trust.Rotation, d ...trust.Decision) {
		after := &v1alpha1.NetworkTrustStatus{}
		turned(network.Status.Trust, after, trust.Policy{Rotation: rotation}, append(d, rotating)[0], now)
		network.Status.Trust = after
	}
	since("", now, "the hub says nothing")
	report("")
	first := now
	now = now.Add(time.Hour)
	since(trust.RotationProceed, first, "the empty text is Proceed")
	report(trust.RotationProceed)
	since("", first, "it was reported again")
	since(trust.RotationBack, now, "a turn that was not reported")
	report(trust.RotationBack)
	turn := now
	now = now.Add(time.Hour)
	since(trust.RotationBack, turn, "a turn that was reported")
	since(trust.RotationProceed, now, "the turn back")
	network.Status.Trust = &v1alpha1.NetworkTrustStatus{}
	since(trust.RotationBack, now, "a status that was lost")
	report("", trust.Decision{Step: trust.StepSettled})
	since("", now, "settled, as far as it is known")
	report("", trust.Decision{Step: trust.StepNewRoot})
	since("", now, "a root is replaced before all is known")
	network.Status.Trust = nil
	report("", trust.Decision{Step: trust.StepSettled, Known: true})
	since("", time.Time{}, "all members have one root, so there was no other way")
	report("", rotating)
	since("", time.Time{}, "and it is replaced")
	report(trust.RotationHold, rotating)
	since(trust.RotationHold, now, "a turn after that")
}
