package upgrade_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/upgrade"
)

// files of a fleet of one network, prod, and members, each "name: upgrade" with the
// upgrade in YAML, or empty.
func files(network string, members ...string) fstest.MapFS {
	out := fstest.MapFS{"network.yaml": {Data: []byte(
		"apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  " + network + "\n")}}
	for _, member := range members {
		name, own, _ := strings.Cut(member, ": ")
		text := fmt.Sprintf("apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: %s}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: %s}}\n", name, name)
		if own != "" {
			text += "  upgrade: " + own + "\n"
		}
		out[name+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func load(t *testing.T, files fstest.MapFS) *fleet.Fleet {
	t.Helper()
	f, problems := fleet.Load(files)
	if f == nil {
		t.Fatalf("load: %v", problems.Errors())
	}
	return f
}

// released is a release that a newer isthmus may know.
func released(version, endOfLife string) catalog.Release {
	minor := catalog.Minor(version)
	return catalog.Release{
		Version: version, Minor: minor, Kubernetes: catalog.Range{Min: "1.30", Max: "1.40"}, GatewayAPI: "v1.5.1",
		UpgradeFrom: catalog.Previous(minor), EndOfLife: endOfLife, Charts: fstest.MapFS{},
	}
}

// said is a proposal in short: what, where, for whom, and by what it is held.
func said(proposals []upgrade.Proposal) []string {
	var out []string
	for _, p := range proposals {
		var at []string
		for _, d := range p.Documents {
			at = append(at, d.String())
		}
		text := fmt.Sprintf("%s: %s to %s at %s for %s", p.ID(), p.From, p.To, strings.Join(at, " "), strings.Join(p.Members, " "))
		if p.Held != "" {
			text += ", held: " + p.Held
		}
		out = append(out, text)
	}
	return out
}

func TestPropose(t *testing.T) {
	for _, tt := range []struct {
		reason  string
		today   string
		network string
		members []string
		more    []catalog.Release
		want    []string
		notes   []string
	}{
		{
			"the newest there is, and supported", "2026-09-01", "upgrade: {version: 1.31.0}", []string{"one"}, nil, nil, nil,
		},
		{
			"an older minor that is supported and without faults is left alone", "2026-09-01", "upgrade: {version: 1.30.4}", []string{"one"}, nil, nil, nil,
		},
		{
			"a newer patch", "2026-09-01", "upgrade: {version: 1.30.4}", []string{"one", "two"},
			[]catalog.Release{released("1.30.5", "2026-11"), released("1.30.6", "2026-11")},
			[]string{"prod-1.30: 1.30.4 to 1.30.6 at network.yaml:5 for one two"}, nil,
		},
		{
			"a minor leads to its newest patch by itself", "2026-09-01", `upgrade: {version: "1.30"}`, []string{"one"},
			[]catalog.Release{released("1.30.5", "2026-11")}, nil, nil,
		},
		{
			"a release candidate is never proposed", "2026-12-01", "upgrade: {version: 1.31.0}", []string{"one"},
			[]catalog.Release{released("1.32.0-rc.1", "2027-01")}, nil, nil,
		},
		{
			"a month before its end the next minor is proposed, in the form that is written", "2026-11-28", `upgrade: {version: "1.30"}`, []string{"one"}, nil,
			[]string{"prod-1.31: 1.30 to 1.31 at network.yaml:5 for one"}, nil,
		},
		{
			"and by its version where a version is written", "2026-11-28", "upgrade: {version: 1.30.4}", []string{"one"}, nil,
			[]string{"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for one"}, nil,
		},
		{
			"not before", "2026-10-30", "upgrade: {version: 1.30.4}", []string{"one"}, nil, nil, nil,
		},
		{
			"a patch and the next minor are two proposals", "2026-11-28", "upgrade: {version: 1.30.4}", []string{"one"},
			[]catalog.Release{released("1.30.5", "2026-11")},
			[]string{"prod-1.30: 1.30.4 to 1.30.5 at network.yaml:5 for one", "prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for one"}, nil,
		},
		{
			"one minor at a time, by one that has ended, too", "2026-11-28", "upgrade: {version: 1.28.2}", []string{"one"}, nil,
			[]string{"prod-1.29: 1.28.2 to 1.29.1 at network.yaml:5 for one"}, nil,
		},
		{
			"two where Istio says so: the nearest that is supported", "2026-09-01", "upgrade: {version: 1.28.2}", []string{"one"},
			[]catalog.Release{func() catalog.Release { r := released("1.30.7", "2026-11"); r.UpgradeFrom = "1.28"; return r }()},
			[]string{"prod-1.30: 1.28.2 to 1.30.7 at network.yaml:5 for one"}, nil,
		},
		{
			"known faults that the next minor cures", "2026-09-01", "upgrade: {version: 1.30.4}\n  trust: {revocation: CRL}", []string{"one"}, nil,
			[]string{"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for one"}, nil,
		},
		{
			"faults that people have accepted are no reason", "2026-09-01", "upgrade: {version: 1.30.4}\n  acceptedHazards: [RevocationOfClientsOnly]\n  trust: {revocation: CRL}", []string{"one"}, nil, nil, nil,
		},
		{
			"faults that the newest patch of the minor cures are a reason for that alone", "2026-07-01", "upgrade: {version: 1.29.1}", []string{"one", "two: {version: 1.30.4}"},
			[]catalog.Release{released("1.29.9", "2026-08")},
			[]string{"prod-1.29: 1.29.1 to 1.29.9 at network.yaml:5 for one", "prod-1.30: 1.29.1 to 1.30.4 at network.yaml:5 for one"}, nil,
		},
		{
			"a member's own version is proposed by itself, several of one version together", "2026-11-28", "upgrade: {version: 1.31.0}",
			[]string{"one", "three: {version: 1.30.4}", "two: {version: 1.30.4}"}, nil,
			[]string{"prod-1.30.4-to-1.31: 1.30.4 to 1.31.0 at three.yaml:7 two.yaml:7 for three two"}, nil,
		},
		{
			"what the network and a member write alike is one proposal", "2026-11-28", "upgrade: {version: 1.30.4}", []string{"one", "two: {version: 1.30.4}"}, nil,
			[]string{"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 two.yaml:7 for one two"}, nil,
		},
		{
			"held while others would be two minors behind; they are proposed", "2026-11-28", "upgrade: {version: 1.30.4}", []string{"one", "two: {version: 1.29.1}"}, nil,
			[]string{
				"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for one, held: other members of the network would be more than one minor behind: bring them to 1.30 first: two (1.29.1)",
				"prod-1.29.1-to-1.30: 1.29.1 to 1.30.4 at two.yaml:7 for two",
			}, nil,
		},
		{
			"what a member without a version runs is not known", "2026-11-28", "upgrade: {version: 1.30.4}", []string{"one", "two: {mode: SelfManaged}"}, nil,
			[]string{"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for one"}, nil,
		},
		{
			"a channel leads by itself", "2026-11-28", "upgrade: {mode: FullyManaged, channel: Stable}", []string{"one"}, nil,
			nil, []string{`network "prod" follows channel "Stable": nothing to propose`},
		},
		{
			"members that follow one are counted", "2026-11-28", "upgrade: {version: 1.31.0}", []string{"one: {mode: FullyManaged}", "three: {mode: FullyManaged, channel: Rapid}", "two: {mode: FullyManaged}"}, nil,
			nil, []string{`network "prod": members that follow channel "Rapid" by themselves: 1`, `network "prod": members that follow channel "Stable" by themselves: 2`},
		},
		{
			"no version is written", "2026-11-28", "upgrade: {}", []string{"one"}, nil,
			nil, []string{`network "prod" names no version: its members keep what they run`},
		},
		{
			"nothing newer is known", "2026-11-28", "upgrade: {version: 1.32.1}", []string{"one"}, []catalog.Release{released("1.32.1", "2026-10-31")},
			nil, []string{`network "prod": Istio 1.32 reached its end of life on 2026-10-31, and isthmus knows no release to move to from there: a newer isthmus may, or declare one in spec.releases`},
		},
		{
			"a network without members", "2026-11-28", "upgrade: {version: 1.30.4}", nil, nil,
			[]string{"prod-1.31: 1.30.4 to 1.31.0 at network.yaml:5 for "}, nil,
		},
	} {
		f := load(t, files(tt.network, tt.members...))
		c := catalog.Builtin().With(catalog.Additions{Releases: tt.more})
		got, notes := upgrade.Propose(f, plan.Make(f, c, plan.Observed{}).Decisions, c, upgrade.Options{Now: day(t, tt.today), Days: 30})
		if diff := cmp.Diff(tt.want, said(got)); diff != "" {
			t.Errorf("%s: proposals (-want +got):\n%s", tt.reason, diff)
		}
		if diff := cmp.Diff(tt.notes, notes); diff != "" {
			t.Errorf("%s: notes (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func day(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestWhy: the reasons are sentences that do not change from day to day, and faults
// are told by their ids.
func TestWhy(t *testing.T) {
	propose := func(today, network string, members ...string) upgrade.Proposal {
		t.Helper()
		f, c := load(t, files(network, members...)), catalog.Builtin()
		got, _ := upgrade.Propose(f, plan.Make(f, c, plan.Observed{}).Decisions, c, upgrade.Options{Now: day(t, today), Days: 30})
		if len(got) != 1 {
			t.Fatalf("%s: %q", network, said(got))
		}
		return got[0]
	}
	for _, tt := range []struct {
		today, network string
		why            []string
		cured, fresh   []string
		title          string
	}{
		{"2026-11-10", "upgrade: {version: 1.30.4}", []string{"Istio 1.30 reaches its end of life in 2026-11."}, nil, nil, "Upgrade prod to Istio 1.31.0 (from 1.30.4)"},
		{"2026-11-30", "upgrade: {version: 1.30.4}", []string{"Istio 1.30 reaches its end of life in 2026-11."}, nil, nil, "Upgrade prod to Istio 1.31.0 (from 1.30.4)"},
		{"2026-12-01", "upgrade: {version: 1.30.4}", []string{"Istio 1.30 reached its end of life in 2026-11."}, nil, nil, "Upgrade prod to Istio 1.31.0 (from 1.30.4)"},
		{
			"2026-09-15", "upgrade: {version: \"1.28\"}",
			[]string{"Istio 1.28 reached its end of life on 2026-07-01.", "Istio 1.29 reached its end of life in 2026-08, too: it is a step on the way, since Istio supports one minor at a time."},
			[]string{"PeerInformerStuck"}, nil, "Upgrade prod to Istio 1.29.1 (from 1.28.2)",
		},
		{
			"2026-09-15", "upgrade: {version: 1.30.4}\n  trust: {revocation: CRL}",
			[]string{"1.30.4, the newest patch of Istio 1.30 that isthmus knows, has known faults that concern network prod."},
			[]string{"RevocationOfClientsOnly"}, nil, "Upgrade prod to Istio 1.31.0 (from 1.30.4)",
		},
	} {
		p := propose(tt.today, tt.network, "one", "two")
		if diff := cmp.Diff([][]string{tt.why, tt.cured, tt.fresh, {tt.title}}, [][]string{p.Why, p.Cured, p.New, {p.Title()}}); diff != "" {
			t.Errorf("%s: %s: why, cured, new and title (-want +got):\n%s", tt.today, tt.network, diff)
		}
	}
	p := propose("2026-09-15", `upgrade: {version: "1.28"}`, "one")
	if len(p.Expect) != 1 || !strings.HasPrefix(p.Expect[0], "the CNI agent rewrites the rules of running pods when it starts: ") {
		t.Errorf("expected with 1.29: %q", p.Expect)
	}
	own := propose("2026-11-28", "upgrade: {version: 1.31.0}", "one: {version: 1.30.4}", "two: {version: 1.30.4}")
	if got, want := own.Title(), "Upgrade one of prod and 1 more to Istio 1.31.0 (from 1.30.4)"; got != want {
		t.Errorf("title %q, want %q", got, want)
	}
}

// TestNetworks: what another network declares, or writes, is its own.
func TestNetworks(t *testing.T) {
	all := files("upgrade: {version: 1.30.4}", "one")
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	charts := "{repository: registry.example.com/istio, digests: {base: D, istiod: D, cni: D, ztunnel: D}}"
	charts = strings.NewReplacer("D,", digest+",", "D}", digest+"}").Replace(charts)
	all["edge.yaml"] = &fstest.MapFile{Data: []byte("apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: edge}\nspec:\n" +
		"  releases: [{version: 1.30.9, charts: " + charts + "}]\n  upgrade: {version: 1.30.4}\n")}
	f := load(t, all)
	declared := plan.Needs(f, catalog.Builtin(), plan.Observed{}).Releases
	for i := range declared {
		declared[i].Charts = fstest.MapFS{}
	}
	c := catalog.Builtin().With(catalog.Additions{Releases: declared})
	decisions := plan.Make(f, c, plan.Observed{}).Decisions
	for network, want := range map[string][]string{
		"":     {"edge-1.30: 1.30.4 to 1.30.9 at edge.yaml:6 for "},
		"edge": {"edge-1.30: 1.30.4 to 1.30.9 at edge.yaml:6 for "},
		"prod": nil,
	} {
		got, _ := upgrade.Propose(f, decisions, c, upgrade.Options{Now: day(t, "2026-09-01"), Days: 30, Network: network})
		if diff := cmp.Diff(want, said(got)); diff != "" {
			t.Errorf("network %q: proposals (-want +got):\n%s", network, diff)
		}
	}
}

// TestVerify: an edit is what was proposed, or an error.
func TestVerify(t *testing.T) {
	before := files("upgrade: {version: 1.30.4}", "one", "two: {version: 1.30.4}", "three: {version: 1.31.0}")
	f, c := load(t, before), catalog.Builtin()
	proposals, _ := upgrade.Propose(f, plan.Make(f, c, plan.Observed{}).Decisions, c, upgrade.Options{Now: day(t, "2026-11-28"), Days: 30})
	if len(proposals) != 1 {
		t.Fatal(said(proposals))
	}
	edited, err := f.Replace(before, proposals[0].Replacements()...)
	if err != nil {
		t.Fatal(err)
	}
	after := load(t, files("upgrade: {version: 1.31.0}", "one", "two: {version: 1.31.0}", "three: {version: 1.31.0}"))
	if err := proposals[0].Verify(f, after); err != nil {
		t.Error(err)
	}
	reloaded, problems := fleet.Load(fleet.Edited{Under: before, Files: edited})
	if reloaded == nil {
		t.Fatal(problems)
	}
	if err := proposals[0].Verify(f, reloaded); err != nil {
		t.Errorf("the edit itself: %v", err)
	}
	for reason, other := range map[string]fstest.MapFS{
		"another field":      files("upgrade: {version: 1.31.0}\n  dataPlane: {mtls: Strict}", "one", "two: {version: 1.31.0}", "three: {version: 1.31.0}"),
		"a member too many":  files("upgrade: {version: 1.31.0}", "one", "two: {version: 1.31.0}", "three: {version: 1.31.0}", "four"),
		"a member's own":     files("upgrade: {version: 1.31.0}", "one", "two: {version: 1.30.4}", "three: {version: 1.31.0}"),
		"another member's":   files("upgrade: {version: 1.31.0}", "one", "two: {version: 1.31.0}", "three: {version: 1.30.4}"),
		"nothing":            before,
		"another version":    files("upgrade: {version: 1.30.4}", "one", "two: {version: 1.31.0}", "three: {version: 1.31.0}"),
		"a label of another": files("upgrade: {version: 1.31.0}\n  namespaces: [{name: shop, ambient: true}]", "one", "two: {version: 1.31.0}", "three: {version: 1.31.0}"),
	} {
		if err := proposals[0].Verify(f, load(t, other)); err == nil || !strings.Contains(err.Error(), "more than the version") {
			t.Errorf("%s: error %v", reason, err)
		}
	}
}
