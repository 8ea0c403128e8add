package diff_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/edits"
)

// after is the fleet of an edit, rendered.
func after(t testing.TB, r *renderer.Renderer, edit edits.Edit) diff.Side {
	t.Helper()
	files, err := edit.Apply()
	if err != nil {
		t.Fatal(err)
	}
	return side(t, r, edit.Name, files, plan.Observed{})
}

// TestEveryChangedObjectIsTold compares a report with what a plain look at both
// sides' bundles finds, for every pair of two edits: none is missing, none is made up.
func TestEveryChangedObjectIsTold(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	sides := []diff.Side{side(t, r, "base", edits.Base(), plan.Observed{})}
	for _, edit := range edits.All {
		sides = append(sides, after(t, r, edit))
	}
	chance := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		base, head := sides[chance.IntN(len(sides))], sides[chance.IntN(len(sides))]
		report := diff.Compare(base, head)
		got := map[string]bool{}
		for _, c := range report.Objects {
			for _, name := range c.Members {
				got[fmt.Sprintf("%s %s %s %s/%s", name, written(c.Action), c.Kind, c.Namespace, c.Name)] = true
			}
		}
		want := plainly(base, head)
		for line := range want {
			if !got[line] {
				t.Errorf("from %s to %s: the report lacks %s", base.Name, head.Name, line)
			}
		}
		for line := range got {
			if !want[line] {
				t.Errorf("from %s to %s: the report makes up %s", base.Name, head.Name, line)
			}
		}
		if base.Name != head.Name && base.Name != "comment-only" && head.Name != "comment-only" && report.Empty() {
			t.Errorf("from %s to %s: nothing is told", base.Name, head.Name)
		}
		if base.Name == head.Name && !report.Empty() {
			t.Errorf("%s differs from itself: %s", base.Name, report.Text(diff.TextOptions{}))
		}
	}
}

// written is the action as far as bundles tell it.
func written(a diff.Action) diff.Action {
	if a == diff.Recreate {
		return diff.Change
	}
	return a
}

// plainly is what changes on members of both sides, as lines.
func plainly(base, head diff.Side) map[string]bool {
	objects := func(s diff.Side) map[string]map[string]bundle.Object {
		out := map[string]map[string]bundle.Object{}
		for _, b := range s.Bundles {
			out[b.Member] = map[string]bundle.Object{}
			for _, o := range b.Objects {
				out[b.Member][fmt.Sprintf("%s %s/%s", o.Object.GetKind(), o.Object.GetNamespace(), o.Object.GetName())] = o
			}
		}
		return out
	}
	before, now := objects(base), objects(head)
	out := map[string]bool{}
	for name := range before {
		if now[name] == nil {
			continue
		}
		for id, o := range now[name] {
			switch was, existed := before[name][id]; {
			case !existed:
				out[name+" Create "+id] = true
			case was.Digest != o.Digest:
				out[name+" Change "+id] = true
			}
		}
		for id, o := range before[name] {
			if _, stays := now[name][id]; !stays {
				action := " Remove "
				if o.Object.GetAnnotations()[bundle.PruneAnnotation] == bundle.PruneRelease {
					action = " Release "
				}
				out[name+action+id] = true
			}
		}
	}
	return out
}

// TestMarkdownFitsAndIsSafe: a comment stays below its limit, what matters comes
// first, and text of the fleet stays text.
func TestMarkdownFitsAndIsSafe(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	base := side(t, r, "base", edits.Base(), plan.Observed{})
	hostile := edits.Edit{Name: "hostile", Replace: []edits.Replacement{{
		File: "networks/prod/policies/cart.yaml", Old: "methods: [GET]",
		New: "methods: [GET], hosts: [\"@everyone ``` </details><script>alert(1)</script> | #1 | [x](https://evil.example)\"]",
	}}}
	for _, head := range []diff.Side{after(t, r, hostile), after(t, r, edits.All[len(edits.All)-5])} {
		report := diff.Compare(base, head)
		whole := report.Markdown(0)
		for _, limit := range []int{2_000, 5_000, 20_000, 65_536} {
			text := report.Markdown(limit)
			if len(text) > limit {
				t.Errorf("%s: %d bytes are more than %d", head.Name, len(text), limit)
			}
			if first := strings.SplitN(whole, "\n", 2)[0]; !strings.HasPrefix(text, first) {
				t.Errorf("%s: %d bytes do not begin with the headline", head.Name, limit)
			}
			if outside := outsideOfFences(text); strings.Count(outside, "<details>") != strings.Count(outside, "</details>") {
				t.Errorf("%s: %d bytes leave a fold open", head.Name, limit)
			}
		}
		outside := outsideOfFences(whole)
		for _, harmful := range []string{"@everyone", "<script>", "[x](https://evil", "#1 "} {
			if strings.Contains(outside, harmful) {
				t.Errorf("%s: %q is not escaped:\n%s", head.Name, harmful, outside)
			}
		}
		page, err := report.HTML()
		if err != nil || strings.Contains(page, "<script>") {
			t.Errorf("%s: the page runs text of the fleet (error %v)", head.Name, err)
		}
	}
}

// outsideOfFences leaves out blocks of code, which end at their own fence only.
func outsideOfFences(text string) string {
	var out []string
	fence := ""
	for line := range strings.Lines(text) {
		row := strings.TrimRight(line, "\n")
		ticks := row[:len(row)-len(strings.TrimLeft(row, "`"))]
		switch {
		case fence == "" && len(ticks) >= 3:
			fence = ticks
		case fence != "" && row == fence:
			fence = ""
		case fence == "":
			out = append(out, row)
		}
	}
	return strings.Join(out, "\n")
}

// TestReportIsTheSameBytes whatever runs beside it: goldens and comments depend on it.
func TestReportIsTheSameBytes(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	base := side(t, r, "base", edits.Base(), plan.Observed{})
	head := after(t, r, edits.All[slices.IndexFunc(edits.All, func(e edits.Edit) bool { return e.Name == "upgrade-network" })])
	want := encoded(t, diff.Compare(base, head))
	for range 5 {
		if got := encoded(t, diff.Compare(base, head)); got != want {
			t.Fatalf("two comparisons of the same differ:\n%s\n%s", want, got)
		}
	}
}

// TestNodesAreCounted where they are known, and of DaemonSets only.
func TestNodesAreCounted(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	base := side(t, r, "base", edits.Base(), plan.Observed{})
	report := diff.Compare(base, after(t, r, edits.All[slices.IndexFunc(edits.All, func(e edits.Edit) bool { return e.Name == "upgrade-network" })]))
	without := encoded(t, report)
	report.OnNodes(nil)
	if encoded(t, report) != without {
		t.Error("nodes are told of that are not known")
	}
	nodes, all := map[string]int{"not-one-of-them": 1000}, 0
	for i, name := range report.Impact.Members {
		nodes[name], all = i+2, all+i+2
	}
	report.OnNodes(nodes)
	text := report.Text(diff.TextOptions{})
	for _, want := range []string{"DaemonSet ztunnel on 3 members (" + strconv.Itoa(all) + " nodes)", "Deployment istiod on 3 members,"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func encoded(t testing.TB, report diff.Report) string {
	t.Helper()
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	page, err := report.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + report.Markdown(0) + page + report.Text(diff.TextOptions{Objects: true, YAML: true})
}

// TestGuardIsForetold: a review says what the deletion guard will.
func TestGuardIsForetold(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	base := side(t, r, "base", edits.Base(), plan.Observed{})
	const folder = "networks/prod/members/"
	two := []string{folder + "europe-1.yaml", folder + "westus-1.yaml"}
	for _, tt := range []struct {
		name string
		edit edits.Edit
		says string
	}{
		{"two of three", edits.Edit{Remove: two}, "2 members leave (europe-1, westus-1) and no more than 1 may"},
		{"two that are named", edits.Edit{Remove: two, Replace: []edits.Replacement{{File: "networks/prod/network.yaml",
			Old: "  rollout:\n", New: "  deletionGuard: {allow: [europe-1, westus-1]}\n  rollout:\n"}}}, ""},
		{"all", edits.Edit{Remove: append(slices.Clone(two), folder+"eastus-1.yaml")}, "no member would be left"},
		{"one", edits.Edit{Remove: two[:1]}, ""},
		{"two that are renamed, of which the reconciler learns later", edits.Edit{Replace: []edits.Replacement{
			{File: two[0], Old: "  name: europe-1\n", New: "  name: europe-2\n"}, {File: two[1], Old: "  name: westus-1\n", New: "  name: westus-2\n"},
		}}, "2 members leave"},
	} {
		text := diff.Compare(base, after(t, r, tt.edit)).Text(diff.TextOptions{})
		if said := strings.Contains(text, "deletion guard"); said != (tt.says != "") || !strings.Contains(text, tt.says) {
			t.Errorf("%s: want %q in\n%s", tt.name, tt.says, text)
		}
	}
}

// TestGuardOfObjectsIsForetold: as the reconciler says it, which has the same judge; and
// what lets it pass there does here.
func TestGuardOfObjectsIsForetold(t *testing.T) {
	r := renderer.New(catalog.Builtin())
	const network, resources = "networks/prod/network.yaml", "  resources:\n  - path: policies\n"
	with := func(configMaps int, guard string) diff.Side {
		t.Helper()
		files := many(t, 0)
		text := string(files[network].Data)
		if !strings.Contains(text, resources) {
			t.Fatal("the base has no resources")
		}
		files[network] = &fstest.MapFile{Data: []byte(strings.Replace(text, resources, resources+"  - path: many\n"+guard, 1))}
		all := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays, namespace: shop}\n"
		for i := range configMaps {
			all += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-%d, namespace: shop}\n", i)
		}
		files["networks/prod/many/all.yaml"] = &fstest.MapFile{Data: []byte(all)}
		return side(t, r, "a side", files, plan.Observed{})
	}
	said := func(report diff.Report) string {
		for _, e := range report.Effects {
			if e.ID == diff.GuardStops {
				return e.Title
			}
		}
		return ""
	}
	base := with(60, "")
	if got := said(diff.Compare(base, with(55, ""))); got != "" {
		t.Errorf("a few: %s", got)
	}
	got := said(diff.Compare(base, with(0, "")))
	if !strings.Contains(got, "deletes 180 objects") || !strings.Contains(got, "the guard lets 20 % pass") {
		t.Fatalf("most: %q", got)
	}
	_, token, _ := strings.Cut(got, `put "`)
	token, _, _ = strings.Cut(token, `"`)
	for _, guard := range []string{"allow: [" + token + "]", "objectsPercent: 100"} {
		if got := said(diff.Compare(base, with(0, "  deletionGuard: {"+guard+"}\n"))); got != "" {
			t.Errorf("with %s: %s", guard, got)
		}
	}
}

// many is the base with n more members.
func many(t testing.TB, n int) fstest.MapFS {
	t.Helper()
	out := fstest.MapFS{}
	base := edits.Base()
	if err := fs.WalkDir(base, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(base, name)
		out[name] = &fstest.MapFile{Data: data}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("m-%04d", i)
		out["networks/prod/members/"+name+".yaml"] = &fstest.MapFile{Data: []byte(fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: %s, labels: {ring: rest, region: us}}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: %[1]s}}
  connectivity: {network: net-%d}
`, name, i%50))}
	}
	return out
}

// edited is a copy with a text replaced everywhere.
func edited(files fstest.MapFS, old, replacement string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, file := range files {
		out[name] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(file.Data), old, replacement))}
	}
	return out
}

// BenchmarkReview renders and compares 1,000 members after an edit of one of them,
// and after a new release for all, warm (the base is rendered) and cold.
func BenchmarkReview(b *testing.B) {
	base := many(b, 1000)
	const reference = "kubeconfigRef: {name: m-0500}}\n"
	for _, edit := range []struct{ name, old, replacement string }{
		{"one member", reference, reference + "  upgrade: {mode: SelfManaged, version: \"1.31.0\"}\n"},
		{"all members", `version: "1.30.4"`, `version: "1.31.0"`},
	} {
		head := edited(base, edit.old, edit.replacement)
		b.Run(edit.name+"/warm", func(b *testing.B) {
			r := renderer.New(catalog.Builtin())
			for b.Loop() {
				b.StopTimer()
				before := side(b, r, "base", base, plan.Observed{})
				b.StartTimer()
				report := diff.Compare(before, side(b, r, "head", head, plan.Observed{}))
				b.ReportMetric(float64(len(report.Markdown(65_536))), "comment-bytes")
			}
		})
		b.Run(edit.name+"/cold", func(b *testing.B) {
			for b.Loop() {
				r := renderer.New(catalog.Builtin())
				before := side(b, r, "base", base, plan.Observed{})
				_ = diff.Compare(before, side(b, r, "head", head, plan.Observed{})).Markdown(65_536)
			}
		})
	}
}
