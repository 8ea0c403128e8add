package fleet_test

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const minimal = `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec: {}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: eastus-1}
spec:
  applicationNetwork: prod
  cluster:
    type: Kubernetes
    kubeconfigRef: {name: eastus-1}
`

// load returns the fleet of one file, which must have no errors.
func load(t testing.TB, text string) *fleet.Fleet {
	t.Helper()
	f, problems := fleet.Load(fstest.MapFS{"fleet.yaml": {Data: []byte(text)}})
	if f == nil {
		t.Fatalf("load: %v", problems)
	}
	return f
}

func TestExampleHasNothingToSay(t *testing.T) {
	f, problems := fleet.Load(os.DirFS("../fleet-example"))
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	if got := len(f.MembersOf("prod")); got != 2 {
		t.Errorf("network prod has %d members, want 2", got)
	}
}

// TestExampleNamesItsSchemas: an editor finds nothing at a path that is wrong,
// and says nothing about it.
func TestExampleNamesItsSchemas(t *testing.T) {
	modeline := regexp.MustCompile(`^# yaml-language-server: \$schema=(\S+)\n`)
	for file, kind := range map[string]string{
		"../fleet-example/networks/prod/network.yaml":          "applicationnetwork",
		"../fleet-example/networks/prod/members/eastus-1.yaml": "member",
		"../fleet-example/networks/prod/members/westus-1.yaml": "member",
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		match := modeline.FindSubmatch(data)
		if match == nil {
			t.Errorf("%s does not begin with a modeline", file)
			continue
		}
		want := "../docs/schema/" + kind + ".v1alpha1.json"
		if got := path.Join(path.Dir(file), string(match[1])); got != want {
			t.Errorf("%s names the schema %s, want %s", file, got, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	f := load(t, strings.Replace(minimal, "spec: {}", "spec: {namespaces: [{name: shop, waypoint: {}}]}", 1))
	hours := func(n int) *metav1.Duration { return &metav1.Duration{Duration: time.Duration(n) * time.Hour} }
	network := v1alpha1.ApplicationNetworkSpec{
		Trust: v1alpha1.Trust{
			Domain: "cluster.local",
			Vault:  v1alpha1.Vault{Type: "Directory"},
			Root: v1alpha1.RootCA{
				CertificateLifetime: v1alpha1.CertificateLifetime{Validity: hours(8760), RotateAt: "50%"},
				Key:                 v1alpha1.RootKey{Algorithm: "ECDSA-P256"}, Issuer: "SelfSigned", Rotation: "Proceed",
			},
			Intermediate: v1alpha1.IntermediateCA{CertificateLifetime: v1alpha1.CertificateLifetime{Validity: hours(2160), RotateAt: "50%"}},
			Delivery:     v1alpha1.Delivery{Mode: "Direct"}, Revocation: "Disabled",
			Workload: v1alpha1.CertificateLifetime{Validity: hours(24), RotateAt: "50%"},
		},
		DataPlane:     v1alpha1.DataPlane{Namespace: "applink-system", MTLS: "Permissive"},
		Discovery:     v1alpha1.Discovery{Mode: "RemoteCredentials"},
		Namespaces:    []v1alpha1.MeshNamespace{{Name: "shop", Waypoint: &v1alpha1.Waypoint{Name: "waypoint"}}},
		Upgrade:       &v1alpha1.Upgrade{Mode: "SelfManaged"},
		DeletionGuard: v1alpha1.DeletionGuard{Members: new(int32(1)), ObjectsPercent: new(int32(20))},
	}
	if diff := cmp.Diff(network, f.Networks[0].Spec); diff != "" {
		t.Errorf("network (-want +got):\n%s", diff)
	}
	member := v1alpha1.MemberSpec{
		ApplicationNetwork: "prod",
		Cluster:            v1alpha1.Cluster{Type: "Kubernetes", KubeconfigRef: &v1alpha1.SecretKeyReference{Name: "eastus-1"}},
		Connectivity:       v1alpha1.Connectivity{Network: "eastus-1", EastWestGateway: v1alpha1.EastWestGateway{Visibility: "Internal"}},
		ControlPlane:       v1alpha1.ControlPlane{Placement: "Member"},
		Upgrade:            &v1alpha1.Upgrade{Mode: "SelfManaged"},
	}
	if diff := cmp.Diff(member, f.Members[0].Spec); diff != "" {
		t.Errorf("member (-want +got):\n%s", diff)
	}
}

func TestUpgradeIsInherited(t *testing.T) {
	for _, tt := range []struct {
		reason, network, member string
		want                    v1alpha1.Upgrade
	}{
		{"nothing said: built in", "", "", v1alpha1.Upgrade{Mode: "SelfManaged"}},
		{"the network's, as a whole", `{version: "1.30"}`, "", v1alpha1.Upgrade{Mode: "SelfManaged", Version: "1.30"}},
		{"a channel has a default", "{mode: FullyManaged}", "", v1alpha1.Upgrade{Mode: "FullyManaged", Channel: "Stable"}},
		{"the member's own, nothing mixed in", `{version: "1.30"}`, "{mode: FullyManaged, channel: Rapid}", v1alpha1.Upgrade{Mode: "FullyManaged", Channel: "Rapid"}},
	} {
		text := minimal
		if tt.network != "" {
			text = strings.Replace(text, "spec: {}", "spec: {upgrade: "+tt.network+"}", 1)
		}
		if tt.member != "" {
			text += "  upgrade: " + tt.member + "\n"
		}
		if diff := cmp.Diff(tt.want, *load(t, text).Members[0].Spec.Upgrade); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestProblemAt(t *testing.T) {
	f := load(t, "# a comment\n"+minimal+"  upgrade:\n    version: \"1.30\"\n")
	for _, tt := range []struct {
		reason, kind, name, path string
		want                     string
	}{
		{"a field", "Member", "eastus-1", "spec.upgrade.version", "fleet.yaml:16: spec.upgrade.version: m"},
		{"a default: the nearest parent", "Member", "eastus-1", "spec.upgrade.mode", "fleet.yaml:15: spec.upgrade.mode: m"},
		{"an item: the nearest parent", "ApplicationNetwork", "prod", "spec.namespaces[3].name", "fleet.yaml:5: spec.namespaces[3].name: m"},
		{"the object itself", "Member", "eastus-1", "", "fleet.yaml:7: m"},
		{"no such object", "Member", "prod", "spec.suspend", "spec.suspend: m"},
	} {
		problem := f.ProblemAt(tt.kind, tt.name, tt.path, fleet.Problem{Message: "m", Reason: "R", Severity: fleet.SeverityWarning})
		if got := problem.String(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.reason, got, tt.want)
		}
		if problem.Reason != "R" || problem.Severity != fleet.SeverityWarning {
			t.Errorf("%s: reason or severity was not kept: %+v", tt.reason, problem)
		}
	}
}

func TestFleetIsSorted(t *testing.T) {
	f := load(t, strings.ReplaceAll(minimal, "eastus-1", "zzz")+"---\n"+strings.ReplaceAll(minimal, "prod", "other"))
	if f.Networks[0].Name != "other" || f.Members[0].Name != "eastus-1" {
		t.Errorf("first are %q and %q", f.Networks[0].Name, f.Members[0].Name)
	}
	if f.Network("prod") == nil || f.Member("zzz") == nil || f.Network("zzz") != nil {
		t.Error("objects are not found by name")
	}
}

func TestLargeFileOfOthersIsNotRead(t *testing.T) {
	f, problems := fleet.Load(fstest.MapFS{
		"fleet.yaml": {Data: []byte(minimal)},
		"large.yaml": {Data: bytes.Repeat([]byte("- x\n"), 1<<19)},
	})
	if f == nil || !has(problems.Warnings(), fleet.ReasonLimitExceeded) {
		t.Errorf("want a fleet and one warning, got %v", problems)
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	f, problems := fleet.Load(os.DirFS("testdata/there-is-no-such-folder"))
	if f != nil || !has(problems.Errors(), fleet.ReasonUnreadable) {
		t.Errorf("want an error %s, got %v", fleet.ReasonUnreadable, problems)
	}
}

func has(problems fleet.Problems, reason string) bool {
	for _, p := range problems {
		if p.Reason == reason {
			return true
		}
	}
	return false
}

// BenchmarkLoad1000 loads a fleet of a thousand members, one file each.
func BenchmarkLoad1000(b *testing.B) {
	template, err := os.ReadFile("../fleet-example/networks/prod/members/eastus-1.yaml")
	if err != nil {
		b.Fatal(err)
	}
	network, err := os.ReadFile("../fleet-example/networks/prod/network.yaml")
	if err != nil {
		b.Fatal(err)
	}
	files := fstest.MapFS{"networks/prod/network.yaml": {Data: network}}
	for i := range 1000 {
		name := fmt.Sprintf("member-%04d", i)
		files["networks/prod/members/"+name+".yaml"] = &fstest.MapFile{Data: bytes.ReplaceAll(template, []byte("eastus-1"), []byte(name))}
	}
	b.ReportAllocs()
	for b.Loop() {
		if f, problems := fleet.Load(files); f == nil || len(f.Members) != 1000 {
			b.Fatal(problems)
		}
	}
}
