package diff_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/edits"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// goldens are the reviews of the edits.
var goldens = filepath.Join("..", "..", "test", "golden", "reviews")

// side renders a fleet.
func side(t testing.TB, r *renderer.Renderer, name string, files fs.FS, observed plan.Observed) diff.Side {
	t.Helper()
	loaded, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("%s: %v", name, problems.Errors())
	}
	result, err := r.Render(loaded, observed)
	if err != nil || len(result.Problems.Errors()) > 0 {
		t.Fatalf("%s: %v %v", name, err, result.Problems.Errors())
	}
	all := slices.Concat(problems, result.Problems)
	all.Sort()
	return diff.Side{Name: name, Fleet: loaded, Decisions: result.Decisions, Bundles: result.Bundles, Problems: all}
}

// TestReviewsOfEdits compares what a review says of each edit with what was read
// and found right.
func TestReviewsOfEdits(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	base := side(t, r, "base", edits.Base(), plan.Observed{})
	observed := plan.Observed{Members: map[string]plan.Seen{}}
	for _, d := range base.Decisions {
		observed.Members[d.Member.Name] = plan.Seen{Release: d.Release.Version}
	}
	known := map[string]bool{}
	for _, edit := range edits.All {
		known[edit.Name+".txt"] = true
		t.Run(edit.Name, func(t *testing.T) {
			files, err := edit.Apply()
			if err != nil {
				t.Fatal(err)
			}
			report := diff.Compare(base, side(t, r, "head", files, observed))
			got := report.Text(diff.TextOptions{Objects: true})
			golden := filepath.Join(goldens, edit.Name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if difference := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); difference != "" {
				t.Errorf("the review (-want +got), `make golden` rewrites it:\n%s", difference)
			}
		})
	}
	entries, err := os.ReadDir(goldens)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !known[entry.Name()] {
			t.Errorf("%s is of no edit", entry.Name())
		}
	}
}
