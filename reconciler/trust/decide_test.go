package trust

import (
	"slices"
	"testing"
	"time"
)

// testRoots makes generations of a root, half a life apart.
func testRoots(t *testing.T, count int) []Root {
	t.Helper()
	a, _, now := authority(t)
	roots, err := a.Roots(t.Context(), testPolicy())
	check(t, err)
	for len(roots) < count {
		*now = now.Add(184 * day)
		_, err := a.MakeRoot(t.Context(), testPolicy(), roots[len(roots)-1])
		check(t, err)
		roots, err = a.Roots(t.Context(), testPolicy())
		check(t, err)
	}
	return roots
}

// served is a member that is proven to serve what was issued for it, since a time.
func served(name string, since time.Time, signer Root, trusts ...Root) Observed {
	o := Observed{
		Member: name, Reachable: true, ProvenAt: since, Signer: signer.Signs(), SignerSince: since, TrustsSince: since,
		Trusts: map[Fingerprint]time.Time{}, Issued: &Issued{Signer: signer.Signs(), SignerSince: since, Trusts: map[Fingerprint]time.Time{}},
	}
	for _, root := range trusts {
		o.Trusts[root.Trusts()], o.Issued.Trusts[root.Trusts()] = since, since
	}
	return o
}

func generations(roots []Root) []int {
	var out []int
	for _, root := range roots {
		out = append(out, root.Generation)
	}
	return out
}

// TestDecideSteps goes through a rotation of two members, step by step.
func TestDecideSteps(t *testing.T) {
	roots := testRoots(t, 2)
	a, b := roots[0], roots[1]
	late := start.Add(190 * day) // past the rotation point of generation 1
	long := late.Add(-7 * day)
	now := late.Add(time.Minute)
	for _, tt := range []struct {
		reason  string
		roots   []Root
		members []Observed
		step    Step
		make    bool
		trusts  []int
		signer  int
	}{
		{"no root yet", nil, nil, StepNewRoot, true, nil, 0},
		{"one root that is due", roots[:1], []Observed{served("x", long, a, a), served("y", long, a, a)}, StepNewRoot, true, []int{1}, 1},
		{"the new one is there, nobody has it", roots, []Observed{served("x", long, a, a), served("y", long, a, a)}, StepTrustBoth, false, []int{1, 2}, 1},
		{"one has it", roots, []Observed{served("x", long, a, a, b), served("y", long, a, a)}, StepTrustBoth, false, []int{1, 2}, 1},
		{"both have it, one not for long", roots, []Observed{served("x", long, a, a, b), served("y", late, a, a, b)}, StepTrustBoth, false, []int{1, 2}, 1},
		{"both have had it for long", roots, []Observed{served("x", long, a, a, b), served("y", long, a, a, b)}, StepSignByNew, false, []int{1, 2}, 2},
		{"both sign by it, one not for long", roots, []Observed{served("x", long, b, a, b), served("y", late, b, a, b)}, StepSignByNew, false, []int{1, 2}, 2},
		{"both have signed by it for long", roots, []Observed{served("x", long, b, a, b), served("y", long, b, a, b)}, StepTrustNew, false, []int{2}, 2},
		{"one has done with the old one", roots, []Observed{served("x", long, b, b), served("y", long, b, a, b)}, StepTrustNew, false, []int{2}, 2},
		{"both have", roots, []Observed{served("x", long, b, b), served("y", long, b, b)}, StepSettled, false, []int{2}, 2},
	} {
		d := Decide(testPolicy(), tt.roots, tt.members, now)
		if d.Step != tt.step || d.Make != tt.make {
			t.Errorf("%s: step %s, make %t, want %s, %t; %v", tt.reason, d.Step, d.Make, tt.step, tt.make, d.Blockers)
		}
		for _, member := range []string{"y", "joins"} {
			if target, ok := d.Target(member); ok && (!slices.Equal(generations(target.Trusts), tt.trusts) || target.Signer.Generation != tt.signer) {
				t.Errorf("%s: %s trusts %v and is signed by %d, want %v and %d", tt.reason, member, generations(target.Trusts), target.Signer.Generation, tt.trusts, tt.signer)
			}
		}
	}
}

// TestDecideSpecialCases are what people and faults do to a rotation.
func TestDecideSpecialCases(t *testing.T) {
	roots := testRoots(t, 2)
	a, b := roots[0], roots[1]
	now := start.Add(190 * day)
	long, recent := now.Add(-7*day), now.Add(-time.Hour)
	with := func(o Observed, changes ...func(*Observed)) Observed {
		for _, change := range changes {
			change(&o)
		}
		return o
	}
	away := func(o *Observed) { o.Reachable = false }
	lost := func(o *Observed) { o.Trusts, o.Signer = nil, "" }
	unknown := func(o *Observed) { o.Issued = nil }
	atStart := func(o *Observed) { o.RootsAtStart = true }
	restarted := func(o *Observed) { o.Restarted = recent }
	policy := func(change func(*Policy)) Policy {
		p := testPolicy()
		change(&p)
		return p
	}
	set := func(rotation Rotation) Policy { return policy(func(p *Policy) { p.Rotation = rotation }) }
	emergency := policy(func(p *Policy) { p.Emergency = true })
	external := policy(func(p *Policy) { p.External = true })
	for _, tt := range []struct {
		reason  string
		policy  Policy
		roots   []Root
		x, y    Observed
		at      time.Time
		step    Step
		blocked BlockerReason // of the first blocker; empty: none
		trusts  []int         // of x
		signer  int
		restart bool
	}{
		{"on hold, no root is made", set(RotationHold), roots[:1], served("x", long, a, a), served("y", long, a, a), now, StepNewRoot, BlockedHold, []int{1}, 1, false},
		{"on hold, a root that is there goes nowhere", set(RotationHold), roots, served("x", long, a, a), served("y", long, a, a), now, StepTrustBoth, BlockedHold, []int{1}, 1, false},
		{"on hold half way, all stay as they are", set(RotationHold), roots, served("x", long, a, a, b), served("y", long, b, a, b), now, StepSignByNew, BlockedHold, []int{1, 2}, 1, false},
		{"on hold, the old one stays", set(RotationHold), roots, served("x", long, b, a, b), served("y", long, b, a, b), now, StepSignByNew, BlockedHold, []int{1, 2}, 2, false},
		{"back, the old one signs at once", set(RotationBack), roots, served("x", long, b, a, b), served("y", long, a, a, b), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 1, false},
		{"back, and certificates of the new one have run out", set(RotationBack), roots, served("x", long, a, a, b), served("y", long, a, a, b), now, StepTrustNew, BlockedUnproven, []int{1}, 1, false},
		{"back, from the first step", set(RotationBack), roots, served("x", long, a, a), served("y", long, a, a, b), now, StepTrustNew, BlockedUnproven, []int{1}, 1, false},
		{"back, too late", set(RotationBack), roots, served("x", long, b, a, b), served("y", long, b, b), now, StepSignByNew, BlockedHold, []int{1, 2}, 2, false},
		{"back, and nothing under way", set(RotationBack), roots, served("x", long, a, a), served("y", long, a, a), now, StepSettled, "", []int{1}, 1, false},
		{"away without the new root, nobody signs by it", testPolicy(), roots, served("x", long, a, a, b), with(served("y", long, a, a), away), now, StepTrustBoth, BlockedUnreachable, []int{1, 2}, 1, false},
		{"away with the new root, the others sign by it", testPolicy(), roots, served("x", long, a, a, b), with(served("y", long, a, a, b), away), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"away and named, the others sign by it", policy(func(p *Policy) { p.ProceedWithout = []string{"y"} }), roots, served("x", long, a, a, b), with(served("y", long, a, a), away), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"named members do not help in the last step", policy(func(p *Policy) { p.ProceedWithout = []string{"y"} }), roots, served("x", long, b, a, b), with(served("y", long, a, a), away), now, StepSignByNew, BlockedUnreachable, []int{1, 2}, 2, false},
		{"proofs are lost, nothing is reversed", testPolicy(), roots, with(served("x", long, b, a, b), lost), with(served("y", long, b, a, b), lost), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"what was issued is not known", testPolicy(), roots, served("x", long, b, a, b), with(served("y", long, b, a, b), unknown), now, StepSignByNew, BlockedUnknown, []int{1, 2}, 2, false},
		{"a proxy that knows roots from its start is restarted first", testPolicy(), roots, with(served("x", long, a, a, b), atStart), served("y", long, a, a, b), now, StepTrustBoth, BlockedRestart, []int{1, 2}, 1, true},
		{"no wait in an emergency, but restarts", emergency, roots, served("x", recent, a, a, b), served("y", recent, a, a, b), now, StepTrustBoth, BlockedRestart, []int{1, 2}, 1, true},
		{"restarted, in an emergency", emergency, roots, with(served("x", recent, a, a, b), restarted), with(served("y", recent, a, a, b), restarted), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"away, in an emergency, holds up the last step only", emergency, roots, with(served("x", recent, a, a, b), restarted), with(served("y", long, a, a), away), now, StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"restarted again when signed by the new one", emergency, roots, served("x", recent, b, a, b), with(served("y", recent, b, a, b), restarted), now, StepSignByNew, BlockedRestart, []int{1, 2}, 2, true},
		{"and again to forget the old one", emergency, roots, served("x", recent, b, b), with(served("y", recent, b, b), restarted), now, StepSettled, "", []int{2}, 2, true},
		{"external, a new one has to be imported", external, roots[:1], served("x", long, a, a), served("y", long, a, a), now, StepNewRoot, BlockedImport, []int{1}, 1, false},
		{"the old root is about to end, and would take all along", testPolicy(), roots, served("x", long, a, a, b), with(served("y", long, a, a), away), start.Add(364 * day), StepSignByNew, BlockedUnproven, []int{1, 2}, 2, false},
		{"the old root has expired, nothing waits for it", testPolicy(), roots, served("x", recent, b, a, b), served("y", recent, b, a, b), start.Add(366 * day), StepTrustNew, BlockedUnproven, []int{2}, 2, false},
		{"serves another list than was issued, gets no third one", testPolicy(), roots, with(served("x", long, b, a, b), func(o *Observed) { o.Issued.Trusts = map[Fingerprint]time.Time{b.Trusts(): long} }), served("y", long, b, a, b), now, StepTrustNew, BlockedUnproven, []int{2}, 2, false},
		{"after a turn the gates stay closed", policy(func(p *Policy) { p.RotationSince = now.Add(-time.Minute) }), roots, served("x", long, a, a, b), served("y", long, a, a, b), now, StepTrustBoth, BlockedWaiting, []int{1, 2}, 1, false},
	} {
		d := Decide(tt.policy, tt.roots, []Observed{tt.x, tt.y}, tt.at)
		var blocked BlockerReason
		if len(d.Blockers) > 0 {
			blocked = d.Blockers[0].Reason
		}
		if d.Step != tt.step || blocked != tt.blocked || d.Make {
			t.Errorf("%s: step %s, blocked by %v, want %s, %q", tt.reason, d.Step, d.Blockers, tt.step, tt.blocked)
		}
		target, _ := d.Target("x")
		if !slices.Equal(generations(target.Trusts), tt.trusts) || target.Signer.Generation != tt.signer || target.RestartAfter.IsZero() == tt.restart {
			t.Errorf("%s: x trusts %v, is signed by %d, restarts after %s; want %v, %d, %t", tt.reason,
				generations(target.Trusts), target.Signer.Generation, target.RestartAfter, tt.trusts, tt.signer, tt.restart)
		}
	}
}

// TestDecideOnDemand: a time in Git makes a root due once, and one that is made
// after it is not.
func TestDecideOnDemand(t *testing.T) {
	roots := testRoots(t, 1)
	now := start.Add(10 * day)
	policy := testPolicy()
	members := []Observed{served("x", start, roots[0], roots[0])}
	for _, tt := range []struct {
		reason string
		before time.Time
		make   bool
	}{
		{"nothing is said", time.Time{}, false},
		{"a time before it was made", start.Add(-day), false},
		{"a time that has not come", now.Add(time.Hour), false},
		{"a time since it was made", now.Add(-time.Hour), true},
	} {
		policy.ReplaceRootsBefore = tt.before
		if d := Decide(policy, roots, members, now); d.Make != tt.make {
			t.Errorf("%s: make %t", tt.reason, d.Make)
		}
	}
	policy.Rotation = RotationBack
	if d := Decide(policy, roots, members, now); d.Make || d.Step != StepSettled {
		t.Errorf("back: %s, make %t", d.Step, d.Make)
	}
}

// TestDecideForNobody: without members the newest root is the one to join with; a
// member is not told anything while what the others have is unknown.
func TestDecideForNobody(t *testing.T) {
	roots := testRoots(t, 2)
	now := start.Add(190 * day)
	target, ok := Decide(testPolicy(), roots, nil, now).Target("first")
	if !ok || target.Signer.Generation != 2 || len(target.Trusts) != 1 {
		t.Errorf("the first member: %v", target)
	}
	other := served("x", start, roots[0], roots[0])
	other.Issued = nil
	if target, ok := Decide(testPolicy(), roots, []Observed{other}, now).Target("joins"); ok {
		t.Errorf("a member joins with %v while it is not known what the others have", target)
	}
}
