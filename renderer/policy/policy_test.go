package policy_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/policy"
	"github.com/isthmus-mesh/isthmus/test/edits"
)

const network = "networks/prod/network.yaml"

// shared runs the charts once for all tests.
var shared = renderer.New(catalog.Builtin())

// rendered is a fleet as a side.
func rendered(t testing.TB, files fs.FS) diff.Side {
	t.Helper()
	loaded, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatal(problems.Errors())
	}
	result, err := shared.Render(loaded, plan.Observed{})
	if err != nil || len(result.Problems.Errors()) > 0 {
		t.Fatal(err, result.Problems.Errors())
	}
	return diff.Side{Fleet: loaded, Decisions: result.Decisions, Bundles: result.Bundles}
}

// with has the fleet's network say a review, and an edit applied.
func with(t testing.TB, review string, names ...string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	merged := edits.Edit{Name: strings.Join(names, "+")}
	for _, name := range names {
		i := slices.IndexFunc(edits.All, func(e edits.Edit) bool { return e.Name == name })
		if i < 0 {
			t.Fatalf("there is no edit %q", name)
		}
		e := edits.All[i]
		merged.Replace = append(merged.Replace, e.Replace...)
		merged.Remove = append(merged.Remove, e.Remove...)
	}
	files, err := merged.Apply()
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if name == network && review != "" {
			data = append(data, []byte("  review:\n    "+strings.ReplaceAll(review, "\n", "\n    ")+"\n")...)
		}
		out[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rule is a review with one policy.
func rule(text string) string { return fmt.Sprintf("policies:\n- name: mine\n  rule: %q", text) }

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		reason string
		// review of the network before and after the change.
		before, after string
		// edits that are made; "member-leaves-too" takes out one more.
		edits []string
		// policies that are violated, each with the severity's first letter.
		want string
	}{
		{"a change that nothing is wrong with", "", "", []string{"upgrade-canary"}, ""},
		{"no change", rule("false"), rule("false"), nil, ""},
		{"words only", rule("false"), rule("false"), []string{"comment-only"}, ""},

		{"a public gateway", "", "", []string{"gateway-external"}, "e NoPublicGateway"},
		{"a public gateway that is meant", "", "accept: [NoPublicGateway]", []string{"gateway-external"}, "w NoPublicGateway"},
		{"what is accepted is one policy", "", "accept: [NoMTLSDowngrade]", []string{"gateway-external"}, "e NoPublicGateway"},
		{"a commit that the guard stops", "", "", []string{"member-leaves", "member-leaves-too"}, "e DeletionGuard"},

		{"one ring in a pull request", rule("rings.size() <= 1"), rule("rings.size() <= 1"), []string{"upgrade-network"}, "e mine"},
		{"one ring is one", rule("rings.size() <= 1"), rule("rings.size() <= 1"), []string{"upgrade-canary"}, ""},
		{"production needs a window", rule("members.all(m, !m.disrupted || m.ring == 'canary' || m.windows > 0)"), "", []string{"ztunnel-drain"}, "e mine"},
		{"labels are optional", rule("members.all(m, m.labels[?'env'].orValue('') != 'prod')"), "", []string{"ztunnel-drain"}, ""},
		{"objects are seen", rule("objects.filter(o, o.kind == 'DaemonSet').all(o, o.object.spec.template.spec.terminationGracePeriodSeconds <= 60)"), "", []string{"ztunnel-drain"}, "e mine"},
		{"restarts are seen", rule("restarts.size() == 0"), "", []string{"istiod-replicas"}, ""},
		{"releases are seen", rule("members.all(m, m.releaseAfter == m.releaseBefore)"), "", []string{"upgrade-canary"}, "e mine"},
		{"effects are seen", rule("!effects.exists(e, e.id == 'MTLSStrict')"), "", []string{"mtls-strict"}, "e mine"},
		{"risk is seen", rule("riskLevel < 3"), "", []string{"mtls-strict"}, "e mine"},
		{"a warning", "policies:\n- {name: mine, rule: 'false', severity: Warning}", "", []string{"mtls-strict"}, "w mine"},

		{"a policy that the change takes out holds", rule("riskLevel < 3"), "", []string{"mtls-strict"}, "e mine"},
		{"a policy that the change brings holds", "", rule("riskLevel < 3"), []string{"mtls-strict"}, "e mine"},
		{"a policy that the change softens holds as it was", rule("riskLevel < 3"), rule("riskLevel < 9"), []string{"mtls-strict"}, "e mine"},
		{"a rule that fails is violated", rule("members[7].name == ''"), rule("members[7].name == ''"), []string{"mtls-strict"}, "e mine"},
		{"a rule that costs too much is violated", rule("[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, [1,2,3,4,5,6,7,8,9,10].all(g, [1,2,3,4,5,6,7,8,9,10].all(h, a+b+c+d+e+f+g+h > 0))))))))"), "", []string{"ring-soak"}, "e mine"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			head := tt.edits
			extra := len(head) > 1
			if extra {
				head = head[:1]
			}
			files := with(t, tt.after, head...).(fstest.MapFS)
			if extra {
				delete(files, "networks/prod/members/westus-1.yaml")
			}
			before, after := rendered(t, with(t, tt.before)), rendered(t, files)
			var got []string
			for _, f := range policy.Check(before, after, diff.Compare(before, after)) {
				got = append(got, string(f.Severity[0])+" "+f.Policy)
				if f.Message == "" {
					t.Errorf("%s says nothing", f.Policy)
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("violated: %v, want %s", got, tt.want)
			}
		})
	}
}

// TestProblems: a rule that cannot be asked is found where fleets are checked.
func TestProblems(t *testing.T) {
	for _, tt := range []struct{ rule, says string }{
		{"risk ==", "not a rule in CEL: column"},
		{"members.size()", "a rule is true or false, this one is of type int"},
		{"member.size() > 0", "undeclared reference to 'member'"},
		{"risk == 3", "no matching overload"},
	} {
		loaded, problems := fleet.Load(with(t, rule(tt.rule)))
		if len(problems.Errors()) > 0 {
			t.Fatal(problems)
		}
		result, err := shared.Render(loaded, plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		found := result.Problems.Errors()
		if len(found) != 1 || !strings.Contains(found[0].Message, tt.says) || found[0].Line == 0 || found[0].File != network {
			t.Errorf("%q: %v, want %q at its line", tt.rule, found, tt.says)
		}
	}
}
