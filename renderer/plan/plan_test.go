package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// load reads a fleet of one network and the given members, each "name: upgrade"
// with upgrade in YAML or empty.
func load(t *testing.T, networkSpec string, members ...string) *fleet.Fleet {
	t.Helper()
	files := fstest.MapFS{"network.yaml": {Data: []byte(
		"apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec: " + networkSpec + "\n")}}
	for _, member := range members {
		name, upgrade, _ := strings.Cut(member, ": ")
		text := fmt.Sprintf("apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: %s}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: %s}}\n", name, name)
		if upgrade != "" {
			text += "  upgrade: " + upgrade + "\n"
		}
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	return f
}

// running is a fleet whose member one was seen to run the release.
func running(release string) plan.Observed {
	return plan.Observed{Members: map[string]plan.Seen{"one": {Release: release}}}
}

func TestMakeDecides(t *testing.T) {
	tests := []struct {
		network, upgrade, running string
		release, why              string
		reason                    string
	}{
		{"{}", "{version: 1.29.1}", "", "1.29.1", `version "1.29.1" of the member`, "a version is taken"},
		{"{}", `{version: "1.29"}`, "1.28.2", "1.29.1", `version "1.29" of the member`, "a minor is its newest patch"},
		{"{}", "{mode: FullyManaged, channel: Rapid}", "1.30.4", "1.31.0", `channel "Rapid" of the member`, "a channel leads"},
		{"{}", "{mode: FullyManaged}", "", "1.30.4", `channel "Stable" of the member`, "Stable is the usual channel"},
		{"{upgrade: {version: 1.29.1}}", "", "", "1.29.1", `version "1.29.1" of the network`, "the network's is the default"},
		{"{upgrade: {version: 1.29.1}}", "{version: 1.31.0}", "", "1.31.0", `version "1.31.0" of the member`, "the member's own goes first"},
		{"{}", "", "", "1.30.4", `no version set, and new: channel "Stable"`, "a new member gets Stable"},
		{"{}", "", "1.28.2", "1.28.2", "no version set: keeps what it runs", "an omitted version never upgrades"},
		{"{upgrade: {version: 1.29.1}}", "{mode: SelfManaged}", "1.28.2", "1.28.2", "no version set: keeps what it runs", "the member's own, even without a version"},
	}
	for _, tt := range tests {
		got := plan.Make(load(t, tt.network, "one: "+tt.upgrade), catalog.Builtin(), running(tt.running))
		if len(got.Decisions) != 1 {
			t.Errorf("%s: %d decisions: %v", tt.reason, len(got.Decisions), got.Problems)
			continue
		}
		d := got.Decisions[0]
		if diff := cmp.Diff([]string{tt.release, tt.why}, []string{d.Release.Version, d.Reason}); diff != "" {
			t.Errorf("%s: release and why (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestMakeReportsProblems(t *testing.T) {
	tests := []struct {
		network string
		members []string
		running plan.Observed
		want    []string
		reason  string
	}{
		{
			"{}", []string{"one: {version: 1.26.0}"}, plan.Observed{},
			[]string{`error UnknownRelease one.yaml:7: spec.upgrade.version: release "1.26.0" is not in the catalog`},
			"an unknown release is an error where it is written",
		},
		{
			"{upgrade: {version: 1.99.0}}", []string{"one", "two"}, plan.Observed{},
			[]string{
				`error UnknownRelease network.yaml:4: spec.upgrade.version: release "1.99.0" is not in the catalog`,
			},
			"one mistake in the network is told once, not per member",
		},
		{
			"{}", []string{"one"}, running("1.26.3"),
			[]string{`error UnknownRunningRelease network.yaml:4: spec.upgrade.version: no version set, and the release "1.26.3" that the member runs is not in the catalog`},
			"what cannot be rendered cannot be kept",
		},
		{
			"{}", []string{"one: {version: 1.31.0}"}, running("1.29.1"),
			[]string{`error MinorSkipped one.yaml:7: spec.upgrade.version: member "one" moves from "1.29.1" to "1.31.0", which skips a minor`},
			"Istio upgrades one minor at a time",
		},
		{
			"{}", []string{"one: {version: 1.31.0}"}, running("1.30.4"), nil,
			"the next minor is fine",
		},
		{
			"{}", []string{"one: {version: 1.30.4}", "two: {version: 1.31.0}"}, plan.Observed{}, nil,
			"neighbours without known faults are fine",
		},
		{
			"{}", []string{"one: {version: 1.29.1}"}, plan.Observed{}, nil,
			"faults between members do not concern one alone",
		},
		{
			"{}", []string{"one: {version: 1.29.1}", "two: {version: 1.29.1}"}, plan.Observed{},
			[]string{`warning KnownFaults one.yaml:7: spec.upgrade.version: release "1.29.1" has known faults that concern network "prod": PeerLeak, ReadyBeforePeers, GatewayDenyAll`},
			"known faults are told once per release",
		},
	}
	for _, tt := range tests {
		var got []string
		for _, p := range plan.Make(load(t, tt.network, tt.members...), catalog.Builtin(), tt.running).Problems {
			got = append(got, fmt.Sprintf("%s %s %s", p.Severity, p.Reason, p))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestMembersTooFarApart(t *testing.T) {
	got := plan.Make(load(t, "{}", "one: {version: 1.28.2}", "two: {version: 1.31.0}"), catalog.Builtin(), plan.Observed{})
	var reasons []string
	for _, p := range got.Problems {
		reasons = append(reasons, p.Reason)
	}
	if !strings.Contains(strings.Join(reasons, " "), plan.ReasonMembersTooApart) {
		t.Errorf("three minors apart, and only %v", reasons)
	}
}
