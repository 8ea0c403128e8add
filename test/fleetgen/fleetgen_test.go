package fleetgen_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/fleetgen"
)

func load(t *testing.T, o fleetgen.Options) *fleet.Fleet {
	t.Helper()
	t.Logf("seed %d", o.Seed)
	f, problems := fleet.Load(fleetgen.Files(o))
	if errs := problems.Errors(); len(errs) > 0 {
		t.Fatalf("%d problems, the first: %v", len(errs), errs[:min(len(errs), 9)])
	}
	return f
}

func TestFleetsLoadAndPlan(t *testing.T) {
	for seed := range uint64(20) {
		o := fleetgen.Options{Seed: seed, Networks: 1 + int(seed)%5, Members: 60}
		f := load(t, o)
		planned := plan.Make(f, catalog.Builtin(), plan.Observed{})
		if errs := planned.Problems.Errors(); len(errs) > 0 {
			t.Errorf("seed %d: %v", seed, errs)
		}
		if len(planned.Decisions) != o.Members {
			t.Errorf("seed %d: %d members planned", seed, len(planned.Decisions))
		}
		if diff := cmp.Diff(fleetgen.Files(o), fleetgen.Files(o)); diff != "" {
			t.Errorf("seed %d: two fleets (-first +second):\n%s", seed, diff)
		}
	}
}
