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

// fleetOf reads one network and members named one, two, …, each given as its
// spec but for what every member has.
func fleetOf(t *testing.T, network string, members ...string) *fleet.Fleet {
	t.Helper()
	files := fstest.MapFS{"network.yaml": {Data: []byte(
		"apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  " + network + "\n")}}
	for i, member := range members {
		name := []string{"one", "two", "three"}[i]
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil,
			"apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: %s}\nspec:\n  applicationNetwork: prod\n  %s\n",
			name, strings.Replace(member, "CLUSTER", "type: Kubernetes, kubeconfigRef: {name: "+name+"}", 1))}
	}
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	return f
}

const (
	digests = "digests: [{release: 1.30.4, pilot: D, proxy: D, cni: D, ztunnel: D}]"
	digest  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func TestRules(t *testing.T) {
	seen := func(release, kubernetes string) plan.Observed {
		return plan.Observed{Members: map[string]plan.Seen{"one": {Release: release, Kubernetes: kubernetes}}}
	}
	pin := "components: {images: {" + strings.ReplaceAll(digests, "D,", digest+",") + "}}"
	pin = strings.ReplaceAll(pin, "D}", digest+"}")
	tests := []struct {
		reason   string
		network  string
		members  []string
		observed plan.Observed
		want     []string
	}{
		{
			"going back one minor is said", "upgrade: {}", []string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, seen("1.31.0", ""),
			[]string{`warning Rollback one.yaml:7: spec.upgrade.version: member "one" goes back from "1.31.0" to "1.30.4"`},
		},
		{
			"going back two is refused", "upgrade: {}", []string{"cluster: {CLUSTER}\n  upgrade: {version: 1.29.1}"}, seen("1.31.0", ""),
			[]string{`error RollbackTooFar one.yaml:7: spec.upgrade.version: member "one" goes back from "1.31.0" to "1.29.1", more than one minor`},
		},
		{
			"a patch back is no rollback", "upgrade: {}", []string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, seen("1.30.5", ""), nil,
		},
		{
			"a cluster that is too old, as the fleet declares it", "upgrade: {}",
			[]string{"cluster: {CLUSTER, kubernetesVersion: \"1.31\"}\n  upgrade: {version: 1.30.4}"}, plan.Observed{},
			[]string{`error KubernetesTooOld one.yaml:7: spec.upgrade.version: release "1.30.4" needs Kubernetes 1.32-1.36, and member "one" has 1.31`},
		},
		{
			"what was seen goes before what is declared", "upgrade: {}",
			[]string{"cluster: {CLUSTER, kubernetesVersion: \"1.31\"}\n  upgrade: {version: 1.30.4}"}, seen("", "1.33.4"), nil,
		},
		{
			"what runs already is left alone", "upgrade: {}",
			[]string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, seen("1.30.4", "1.31.9"), nil,
		},
		{
			"a cluster that is newer than what was tested", "upgrade: {}",
			[]string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, seen("1.30.4", "1.37.0"),
			[]string{`warning KubernetesTooNew one.yaml:7: spec.upgrade.version: release "1.30.4" is tested with Kubernetes 1.32-1.36, and member "one" has 1.37.0`},
		},
		{
			"a trust domain stays while members run", "trust: {domain: new.example}",
			[]string{"cluster: {CLUSTER}"}, plan.Observed{TrustDomains: map[string]string{"prod": "old.example"}},
			[]string{`error TrustDomainChanged network.yaml:5: spec.trust.domain: members of network "prod" run with trust domain "old.example"`},
		},
		{
			"members that would take revoked certificates", "trust: {revocation: CRL}\n  acceptedHazards: [PeerRotationGap, PeerRotationStaleAmbient, PeerInformerStuck, PeerLeak, ReadyBeforePeers, GatewayDenyAll, RevocationOfClientsOnly, RevocationNotInGateways]",
			[]string{"cluster: {CLUSTER}\n  upgrade: {version: 1.28.2}", "cluster: {CLUSTER}\n  upgrade: {version: 1.28.2}", "cluster: {CLUSTER}\n  upgrade: {version: 1.29.1}"},
			plan.Observed{}, []string{
				`error RevocationNotRead network.yaml:5: spec.trust.revocation: node proxies read no list of what is revoked on "one" (1.28.2), "two" (1.28.2)`,
			},
		},
		{
			"what revocation does not do is told", "trust: {revocation: CRL}",
			[]string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, plan.Observed{},
			[]string{`warning KnownFaults one.yaml:7: spec.upgrade.version: release "1.30.4" has known faults that concern network "prod": RevocationOfClientsOnly, RevocationNotInGateways`},
		},
		{
			"an image that is not pinned among others that are", pin, []string{"cluster: {CLUSTER}\n  upgrade: {version: 1.31.0}"}, plan.Observed{},
			[]string{`error ImageNotPinned network.yaml:5: spec.components.images.digests: no digests of release "1.31.0", which member "one" is to run`},
		},
		{
			"pinned images", pin, []string{"cluster: {CLUSTER}\n  upgrade: {version: 1.30.4}"}, plan.Observed{}, nil,
		},
		{
			"a plugin's needs are told once", "upgrade: {}",
			[]string{"cluster: {CLUSTER, cni: Cilium}", "cluster: {CLUSTER, cni: Cilium}\n  connectivity: {network: one}"}, plan.Observed{},
			[]string{`warning NetworkPlugin one.yaml:6: spec.cluster.cni: Cilium removes other CNI plugins' configuration, and its BPF masquerade and default-deny policies catch the health probes of pods in the mesh (CiliumExclusive; members that have it: 2)`},
		},
		{
			"what people have accepted is not told", "acceptedHazards: [CiliumExclusive]",
			[]string{"cluster: {CLUSTER, cni: Cilium}"}, plan.Observed{}, nil,
		},
		{
			"a hazard that does not exist accepts nothing", "acceptedHazards: [CiliumExclusif]",
			[]string{"cluster: {CLUSTER}"}, plan.Observed{},
			[]string{`error UnknownHazard network.yaml:5: spec.acceptedHazards[0]: the catalog has no hazard "CiliumExclusif"`},
		},
	}
	for _, tt := range tests {
		var got []string
		for _, p := range plan.Make(fleetOf(t, tt.network, tt.members...), catalog.Builtin(), tt.observed).Problems {
			got = append(got, fmt.Sprintf("%s %s %s", p.Severity, p.Reason, p))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: problems (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestChannels(t *testing.T) {
	tests := []struct {
		reason           string
		channel          string
		seen             plan.Seen
		release, because string
	}{
		{"the channel's own release", "Stable", plan.Seen{Kubernetes: "1.34.1"}, "1.30.4", `channel "Stable" of the member`},
		{"the newest before it that the cluster can run", "Rapid", plan.Seen{Kubernetes: "1.31.2"}, "1.29.1", `channel "Rapid" of the member for Kubernetes 1.31.2`},
		{"no release supports it: the rule says so", "Stable", plan.Seen{Kubernetes: "1.40.0"}, "1.30.4", `channel "Stable" of the member`},
		{"a slower channel takes nobody back", "Stable", plan.Seen{Release: "1.31.0"}, "1.31.0", `channel "Stable" of the member is at 1.30.4: keeps the newer one that it runs`},
		{"a channel leads on", "Rapid", plan.Seen{Release: "1.30.4"}, "1.31.0", `channel "Rapid" of the member`},
	}
	for _, tt := range tests {
		f := fleetOf(t, "upgrade: {}", "cluster: {CLUSTER}\n  upgrade: {mode: FullyManaged, channel: "+tt.channel+"}")
		got := plan.Make(f, catalog.Builtin(), plan.Observed{Members: map[string]plan.Seen{"one": tt.seen}})
		if len(got.Decisions) != 1 {
			t.Errorf("%s: problems %v", tt.reason, got.Problems)
			continue
		}
		d := got.Decisions[0]
		if diff := cmp.Diff([]string{tt.release, tt.because}, []string{d.Release.Version, d.Reason}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}
