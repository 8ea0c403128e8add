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
		Member: name, Reachable: true, Signer: signer.Signs(), SignerSince: since, TrustsSince: since,
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
