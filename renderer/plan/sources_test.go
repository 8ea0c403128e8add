package plan_test

import (
	"embed"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// declares is spec.releases with a version and charts of which the first digit of
// every digest is given.
func declares(version, digit string) string {
	digest := "sha256:" + strings.Repeat(digit, 64)
	return fmt.Sprintf("releases: [{version: %s, charts: {repository: registry.example.com/charts, digests: {base: %q, istiod: %q, cni: %q, ztunnel: %q}}}]",
		version, digest, digest, digest, digest)
}

// complete is the built-in catalog with what a fleet needs, as if fetched.
func complete(f *fleet.Fleet) *catalog.Catalog {
	needs := plan.Needs(f, catalog.Builtin(), plan.Observed{})
	for i := range needs.Releases {
		needs.Releases[i].Charts = embed.FS{}
	}
	return catalog.Builtin().With(catalog.Additions{Releases: needs.Releases})
}

func TestDeclaredReleases(t *testing.T) {
	tests := []struct {
		network, upgrade string
		release          string
		problems         []string
		reason           string
	}{
		{declares("1.31.9", "a"), `{version: "1.31"}`, "1.31.9", nil, "the newest patch of a minor"},
		{declares("1.31.9", "a"), "{mode: FullyManaged, channel: Rapid}", "1.31.0", nil, "channels stay as they are"},
		{declares("1.31.0", "a"), "{version: 1.31.0}", "1.31.0", []string{
			`warning ReleaseBuiltIn network.yaml:4: spec.releases[0].version: release "1.31.0" is part of this isthmus, whose own charts are taken`,
		}, "what is built in is not fetched"},
		{declares("1.32.1", "a"), "{version: 1.32.1}", "1.32.1", []string{
			`warning MinorUnknown network.yaml:4: spec.releases[0].version: nothing is known of 1.32, the minor of release "1.32.1": it is taken to support Kubernetes 1.32-1.36 and Gateway API v1.6.0`,
		}, "a minor that nobody knows is said to be so"},
	}
	for _, tt := range tests {
		f := load(t, "{"+tt.network+"}", "one: "+tt.upgrade)
		got := plan.Make(f, complete(f), plan.Observed{})
		if len(got.Decisions) != 1 || got.Decisions[0].Release.Version != tt.release {
			t.Errorf("%s: decisions %+v, want release %s", tt.reason, got.Decisions, tt.release)
		}
		var problems []string
		for _, p := range got.Problems {
			problems = append(problems, fmt.Sprintf("%s %s %s", p.Severity, p.Reason, p))
		}
		if diff := cmp.Diff(tt.problems, problems); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestReleaseThatWasNotFetched(t *testing.T) {
	f := load(t, "{"+declares("1.31.9", "a")+"}", "one: {version: 1.31.9}")
	release := plan.Needs(f, catalog.Builtin(), plan.Observed{}).Releases[0]
	got := plan.Make(f, catalog.Builtin().With(catalog.Additions{Releases: []catalog.Release{release}}), plan.Observed{})
	if len(got.Problems) != 1 || got.Problems[0].Reason != plan.ReasonReleaseNotFetched || len(got.Decisions) != 0 {
		t.Errorf("charts that are not there: %+v", got)
	}
}

// twoNetworks loads two networks, each with one member.
func twoNetworks(t *testing.T, one, two string) *fleet.Fleet {
	t.Helper()
	files := fstest.MapFS{}
	for name, spec := range map[string]string{"one": one, "two": two} {
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: net-%[1]s}
spec: {%[2]s}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: %[1]s}
spec:
  applicationNetwork: net-%[1]s
  cluster: {type: Kubernetes, kubeconfigRef: {name: %[1]s}}
  upgrade: {version: "1.31"}
`, name, spec))}
	}
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatal(problems.Errors())
	}
	return f
}

func TestNetworksDeclareForThemselves(t *testing.T) {
	f := twoNetworks(t, declares("1.31.9", "a"), "")
	var got []string
	for _, d := range plan.Make(f, complete(f), plan.Observed{}).Decisions {
		got = append(got, d.Member.Name+" "+d.Release.Version)
	}
	if diff := cmp.Diff([]string{"one 1.31.9", "two 1.31.0"}, got); diff != "" {
		t.Errorf("what one network declares upgrades the other (-want +got):\n%s", diff)
	}

	same := twoNetworks(t, declares("1.31.9", "a"), declares("1.31.9", "a"))
	if problems := plan.Make(same, complete(same), plan.Observed{}).Problems; len(problems) > 0 {
		t.Errorf("the same charts twice: %v", problems)
	}

	other := twoNetworks(t, declares("1.31.9", "a"), declares("1.31.9", "b"))
	problems := plan.Make(other, complete(other), plan.Observed{}).Problems.Errors()
	if len(problems) != 2 || !strings.HasPrefix(problems[1].String(), `two.yaml:4: spec.releases[0].version: network "net-one" declares release "1.31.9" with other digests`) {
		t.Errorf("other charts under the same version: %v", problems)
	}
}
