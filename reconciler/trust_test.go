package reconciler

import (
	"crypto/x509"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
)

var trustStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// twoRoots are a network's roots, with a member's chain under the first.
func twoRoots(t *testing.T) (*trust.Authority, []trust.Root, trust.Chain) {
	t.Helper()
	vault, err := trust.OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	must(t, err)
	authority := trust.NewAuthority(vault, func() time.Time { return trustStart })
	policy := policyOf(&v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}, 0)
	chain, err := authority.Issue(t.Context(), trust.Request{Policy: policy, Member: "east"})
	must(t, err)
	roots, err := authority.Roots(t.Context(), policy)
	must(t, err)
	_, err = authority.MakeRoot(t.Context(), policy, roots[0])
	must(t, err)
	roots, err = authority.Roots(t.Context(), policy)
	must(t, err)
	return authority, roots, chain
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLearned: what looks at a member prove, one after another.
func TestLearned(t *testing.T) {
	_, roots, chain := twoRoots(t)
	a, b := roots[0].Anchor(), roots[1].Anchor()
	both := []*x509.Certificate{a, b}
	of := func(some []*x509.Certificate, all []*x509.Certificate, issuer *x509.Certificate) proof.Finding {
		return proof.Finding{Some: some, Roots: all, Issuer: issuer}
	}
	mine := chain.Intermediate
	var known *v1alpha1.ProvenTrust
	for i, tt := range []struct {
		reason string
		found  proof.Finding
		trusts []trust.Root // in order of the looks since when
		since  []int        // look by look, for each of trusts
		list   int          // since when the list is what it is
		signer int          // since when, -1 for nobody
	}{
		{"the first look", of(both[:1], both[:1], mine), roots[:1], []int{0}, 0, 0},
		{"the same again", of(both[:1], both[:1], mine), roots[:1], []int{0}, 0, 0},
		{"nothing heard: what is known stays", proof.Finding{Why: "no istiod runs"}, roots[:1], []int{0}, 0, 0},
		{"one replica has a second root: not all do", of(both, both[:1], mine), roots[:1], []int{0}, 0, 0},
		{"all have", of(both, both, mine), roots, []int{0, 4}, 4, 0},
		{"replicas sign with different CAs", of(both, both, nil), roots, []int{0, 4}, 4, -1},
		{"and agree again", of(both, both, mine), roots, []int{0, 4}, 4, 6},
		{"one replica has given the first root up: it is still there", of(both, both[1:], mine), roots, []int{0, 4}, 4, 6},
		{"all have", of(both[1:], both[1:], mine), roots[1:], []int{4}, 8, 6},
		{"a foreign CA takes all away", proof.Finding{Foreign: true, Why: "it has made a CA itself"}, nil, nil, 0, -1},
		{"and all begins anew", of(both, both, mine), roots, []int{10, 10}, 10, 10},
	} {
		at := func(look int) time.Time { return trustStart.Add(time.Duration(look) * time.Minute) }
		known, _ = learned(known, tt.found, chain, roots, at(i))
		want := map[trust.Fingerprint]time.Time{}
		for j, root := range tt.trusts {
			want[root.Trusts()] = at(tt.since[j])
		}
		o := observedOf(&v1alpha1.Member{Status: v1alpha1.MemberStatus{Trust: &v1alpha1.MemberTrustStatus{Proven: known}}})
		if !maps.EqualFunc(o.Trusts, want, time.Time.Equal) {
			t.Errorf("%s: trusts %v, want %v", tt.reason, o.Trusts, want)
		}
		if len(want) > 0 && !o.TrustsSince.Equal(at(tt.list)) {
			t.Errorf("%s: the list is since %s, want %s", tt.reason, o.TrustsSince, at(tt.list))
		}
		if tt.signer < 0 && o.Signer != "" || tt.signer >= 0 && (o.Signer != roots[0].Signs() || !o.SignerSince.Equal(at(tt.signer))) {
			t.Errorf("%s: signed by %q since %s", tt.reason, o.Signer, o.SignerSince)
		}
	}
}

// TestIssuedInStatus: what goes into a status comes out of it.
func TestIssuedInStatus(t *testing.T) {
	authority, _, _ := twoRoots(t)
	policy := policyOf(&v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}, 0)
	for _, member := range []string{"east", "none-yet"} {
		issued, err := authority.Issued(t.Context(), policy, member)
		must(t, err)
		if issued.Trusts == nil {
			issued.Trusts = map[trust.Fingerprint]time.Time{}
		}
		if diff := cmp.Diff(&issued, issuedOf(issuedStatus(issued))); diff != "" {
			t.Errorf("%s (-issued +read):\n%s", member, diff)
		}
	}
	if issuedOf(nil) != nil {
		t.Error("what is not known is taken for nothing")
	}
}

// TestProofPace: an istiod that has followed is left alone, one that has not is
// asked ever more rarely, and a change of it or of its CA is looked at.
func TestProofPace(t *testing.T) {
	at := metav1.NewTime(trustStart)
	behind := &v1alpha1.MemberTrustStatus{Issued: &v1alpha1.IssuedTrust{Serial: "2"}, Proven: &v1alpha1.ProvenTrust{Serial: "1", At: &at}}
	there := &v1alpha1.MemberTrustStatus{Issued: &v1alpha1.IssuedTrust{Serial: "2"}, Proven: &v1alpha1.ProvenTrust{Serial: "2", At: &at}}
	var p proofPace
	now := trustStart
	if p.due(now, there) || p.wait(now, there) != 0 || !p.due(now, behind) {
		t.Error("at first, only what is not proven is asked")
	}
	if !p.due(now.Add(proofEvery), there) {
		t.Error("what is proven is never asked again")
	}
	p.changed([]apply.Change{{Subject: apply.Subject{Kind: "Secret", Name: "cacerts"}, Action: apply.Unchanged}})
	if p.due(now, there) {
		t.Error("asked again because nothing has changed")
	}
	p.changed([]apply.Change{{Subject: apply.Subject{Kind: "Deployment", Name: "istiod"}, Action: apply.Configured}})
	if !p.due(now, there) || p.wait(now, there) != soon {
		t.Error("not asked though istiod has changed")
	}
	looks := 0
	for end := now.Add(time.Hour); now.Before(end); now = now.Add(time.Second) {
		if p.due(now, behind) {
			p.took(now, false, false)
			looks++
		}
	}
	if looks < 8 || looks > 20 {
		t.Errorf("%d looks in the first hour at what does not follow", looks)
	}
	p.took(now, true, false)
	if p.due(now, there) {
		t.Error("asked on though it has followed")
	}
}

// TestLedgerWakes: members are woken when they are to do something else, once, and
// a network that nobody asked about is left alone.
func TestLedgerWakes(t *testing.T) {
	vault, err := trust.OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	must(t, err)
	now := time.Now().Truncate(time.Second)
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	wakes := newWakes()
	l := newLedger(newVaults(vault, Options{}, nil), Options{Log: logr.Discard(), LeafLife: time.Hour}, wakes)
	l.now = func() time.Time { return now }
	l.vaults.directory = trust.NewAuthority(vault, l.now)
	authority, failure := l.vaults.of(t.Context(), network)
	if failure != nil {
		t.Fatal(failure)
	}
	policy := policyOf(network, time.Hour)
	follows := following{network: network, fleet: types.NamespacedName{Namespace: "n", Name: "f"}}
	members := map[string]*v1alpha1.Member{}
	for _, name := range []string{"east", "west"} {
		chain, err := authority.Issue(t.Context(), trust.Request{Policy: policy, Member: name})
		must(t, err)
		issued, err := authority.Issued(t.Context(), policy, name)
		must(t, err)
		m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: name}}
		m.Spec.ApplicationNetwork = "prod"
		m.Status.Trust = &v1alpha1.MemberTrustStatus{Issued: issuedStatus(issued)}
		m.Status.Trust.Proven, _ = learned(nil, proof.Finding{Some: chain.Trusts, Roots: chain.Trusts, Issuer: chain.Intermediate}, chain, nil, now)
		m.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: status.ReasonApplied}}
		members[name] = m
		l.observe(m)
	}
	woken := func() []string {
		for _, network := range l.takeDirty() {
			l.look(t.Context(), network)
		}
		var out []string
		for len(wakes.members) > 0 {
			out = append(out, (<-wakes.members).Object.GetName())
		}
		slices.Sort(out)
		return out
	}
	if got := woken(); len(got) > 0 {
		t.Errorf("woken before anybody asked: %v", got)
	}
	p, failure := l.where(t.Context(), follows, nil)
	if failure != nil || p.Step != trust.StepSettled {
		t.Fatalf("step %s: %v", p.Step, failure)
	}
	if got := woken(); len(got) > 0 {
		t.Errorf("woken though nothing is to be done: %v", got)
	}
	// A member that is as its status told is told what the last look found.
	self := observedOf(members["east"])
	if again, ok := l.still(follows, self); !ok || again.Step != trust.StepSettled {
		t.Errorf("the last look does not stand: %t, step %s", ok, again.Step)
	}
	renewed := self
	renewed.Issued = &trust.Issued{Serial: "other", Signer: self.Issued.Signer, Trusts: self.Issued.Trusts}
	if _, ok := l.still(follows, renewed); ok {
		t.Error("the last look stands for a member that has something new")
	}
	l.observe(members["east"])
	if got := l.takeDirty(); len(got) > 0 {
		t.Errorf("a status that says the same has %v looked at", got)
	}
	// A new root is asked for: it is made, and both are to trust it.
	network = network.DeepCopy()
	now = now.Add(time.Minute)
	network.Spec.Trust.Root.ReplaceIssuedBefore = &metav1.Time{Time: now}
	follows.network = network
	p, failure = l.where(t.Context(), follows, nil)
	if failure != nil || p.Step != trust.StepTrustBoth || len(p.roots) != 2 {
		t.Fatalf("step %s with %d roots: %v", p.Step, len(p.roots), failure)
	}
	if _, ok := l.still(follows, self); ok {
		t.Error("the last look stands though Git asks for a new root")
	}
	if got := woken(); !slices.Equal(got, []string{"east", "west"}) {
		t.Errorf("woken %v, want both", got)
	}
	if got := woken(); len(got) > 0 {
		t.Errorf("woken again: %v", got)
	}
	if p, _ = l.where(t.Context(), follows, nil); len(p.roots) != 2 {
		t.Errorf("%d roots after a second look", len(p.roots))
	}
	// With a clock that is wrong, the root that was just made is due already.
	l.vaults.directory = trust.NewAuthority(vault, func() time.Time { return now.Add(-time.Hour) })
	network.Spec.Trust.Root.ReplaceIssuedBefore = &metav1.Time{Time: now.Add(time.Minute)}
	now = now.Add(2 * time.Minute)
	if p, _ = l.where(t.Context(), follows, nil); len(p.roots) != 2 {
		t.Errorf("%d roots, of which nobody has the second", len(p.roots))
	}
	// Members on other hubs, of which nothing is known here, hold it up.
	follows.elsewhere = true
	if p, _ = l.where(t.Context(), follows, nil); !slices.ContainsFunc(p.Blockers, func(b trust.Blocker) bool { return b.Reason == trust.BlockedUnknown }) {
		t.Errorf("nothing waits for members on other hubs: %+v", p.Blockers)
	}
	l.forget(types.NamespacedName{Namespace: "n", Name: "west"})
	if got := l.members(following{network: network}, nil); len(got) != 1 || got[0].Member != "east" {
		t.Errorf("after west is gone there are %v", got)
	}
}

func TestRootsAtStart(t *testing.T) {
	for release, want := range map[string]bool{
		"1.27.9": true, "1.28.2": true, "1.28.6": false, "1.29.1": true, "1.29.2": false, "1.30.0": false, "1.31.0": false, "": true,
	} {
		if rootsAtStart(release) != want {
			t.Errorf("%s: %v", release, !want)
		}
	}
}

// TestRevokedBefore: a CA is not revoked while the member's istiods sign by it.
func TestRevokedBefore(t *testing.T) {
	authority, _, _ := twoRoots(t)
	issued, err := authority.Issued(t.Context(), policyOf(&v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}, 0), "east")
	must(t, err)
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "east"}}
	m.Status.Trust = &v1alpha1.MemberTrustStatus{Issued: issuedStatus(issued)}
	known := m.Status.Trust
	proven := &v1alpha1.ProvenTrust{Serial: known.Issued.Serial, Signer: known.Issued.Signer, Trusts: known.Issued.Trusts, At: stamp(issued.Made().Add(time.Hour))}
	older := proven.DeepCopy()
	older.Serial = "older"
	for _, tt := range []struct {
		reason string
		said   time.Time
		proven *v1alpha1.ProvenTrust
		want   bool
	}{
		{"Git says nothing", time.Time{}, proven, false},
		{"the CA is newer, and its istiods sign by it", issued.Made(), proven, true},
		{"the CA is still to be replaced", issued.Made().Add(time.Second), proven, false},
		{"its istiods sign by the one before", issued.Made(), older, false},
		{"nothing is proven", issued.Made(), nil, false},
	} {
		known.Proven = tt.proven
		m.Spec.Trust = &v1alpha1.MemberTrust{RevokeIssuedBefore: stamp(tt.said)}
		if got := revokedBefore(m); got.IsZero() == tt.want || tt.want && !got.Equal(tt.said) {
			t.Errorf("%s: %s", tt.reason, got)
		}
	}
	m.Spec.Trust = nil
	if got := revokedBefore(m); !got.IsZero() {
		t.Errorf("Git has nothing about trust: %s", got)
	}
}
