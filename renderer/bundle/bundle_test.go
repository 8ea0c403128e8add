package bundle_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

var target = bundle.Target{Member: "eastus-1", Network: "prod", SystemNamespace: "applink-system", Release: "1.30.4"}

// object of an API version, kind, namespace and name, such as "v1 ConfigMap applink-system a".
func object(stage bundle.Stage, component bundle.Component, identity string) bundle.Object {
	parts := strings.Fields(identity)
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetAPIVersion(parts[0])
	o.SetKind(parts[1])
	if parts[2] != "-" {
		o.SetNamespace(parts[2])
	}
	o.SetName(parts[3])
	if component != "" {
		o.SetLabels(map[string]string{bundle.ComponentLabel: string(component)})
	}
	return bundle.Object{Stage: stage, Object: o}
}

func some() []bundle.Object {
	return []bundle.Object{
		object(bundle.StageGateways, bundle.ComponentGateway, "gateway.networking.k8s.io/v1 Gateway shop waypoint"),
		object(bundle.StageZtunnel, bundle.ComponentZtunnel, "apps/v1 DaemonSet applink-system ztunnel"),
		object(bundle.StageControlPlane, bundle.ComponentIstiod, "v1 ConfigMap applink-system istio"),
		object(bundle.StageControlPlane, bundle.ComponentIstiod, "apps/v1 Deployment applink-system istiod"),
		object(bundle.StageFoundation, bundle.ComponentCRDs, "apiextensions.k8s.io/v1 CustomResourceDefinition - a.example.com"),
		object(bundle.StageFoundation, bundle.ComponentNamespaces, "v1 Namespace - applink-system"),
	}
}

func mustNew(t *testing.T, target bundle.Target, objects []bundle.Object) bundle.Bundle {
	t.Helper()
	b, err := bundle.New(target, objects)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNewSorts(t *testing.T) {
	var got []string
	for _, o := range mustNew(t, target, some()).Objects {
		got = append(got, string(o.Stage)+" "+o.Object.GetKind())
	}
	want := []string{
		"foundation CustomResourceDefinition", "foundation Namespace",
		"control-plane ConfigMap", "control-plane Deployment",
		"ztunnel DaemonSet", "gateways Gateway",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestDigest(t *testing.T) {
	first := mustNew(t, target, some()).Digest
	if !strings.HasPrefix(first, "sha256:") || len(first) != len("sha256:")+64 {
		t.Errorf("digest %q", first)
	}
	reversed := some()
	slices.Reverse(reversed)
	if got := mustNew(t, target, reversed).Digest; got != first {
		t.Error("the order of the objects shows in the digest")
	}
	changed := some()
	changed[2].Object.Object["data"] = map[string]any{"mesh": "x"}
	staged := some()
	staged[2].Stage = bundle.StageCNI
	other := target
	other.Release = "1.31.0"
	for reason, digest := range map[string]string{
		"an object changed":       mustNew(t, target, changed).Digest,
		"a stage changed":         mustNew(t, target, staged).Digest,
		"an object is gone":       mustNew(t, target, some()[1:]).Digest,
		"it is of another member": mustNew(t, other, some()).Digest,
	} {
		if digest == first {
			t.Errorf("%s, and the digest is the same", reason)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		object bundle.Object
		want   string
		reason string
	}{
		{object(bundle.StageCNI, bundle.ComponentIstiod, "v1 Secret applink-system cacerts"), "no secrets", "key material is never in a bundle"},
		{object(bundle.StageCNI, "", "v1 ConfigMap applink-system a"), "no label", "it would not be found again"},
		{object("later", bundle.ComponentIstiod, "v1 ConfigMap applink-system a"), "unknown stage", "it would not be delivered"},
		{object(bundle.StageCNI, bundle.ComponentIstiod, "v1 ConfigMap applink-system a"), "", "a plain object is fine"},
		{object(bundle.StageControlPlane, bundle.ComponentIstiod, "apps/v1beta1 Deployment applink-system istiod"), "twice", "one object by two versions is one object"},
	}
	for _, tt := range tests {
		_, err := bundle.New(target, append(some(), tt.object))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: error = %v, want %q", tt.reason, err, tt.want)
		}
	}
}

func TestFiles(t *testing.T) {
	second := target
	second.Member = "westus-1"
	files, err := bundle.Files([]bundle.Bundle{mustNew(t, target, some()), mustNew(t, second, some())})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range files {
		if !strings.HasPrefix(name, "members/westus-1/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := []string{
		"members/eastus-1/control-plane/configmap-istio.yaml",
		"members/eastus-1/control-plane/deployment-istiod.yaml",
		"members/eastus-1/data-plane/daemonset-ztunnel.yaml",
		"members/eastus-1/gateway/shop/gateway-waypoint.yaml",
		"members/eastus-1/inventory.json",
		"members/eastus-1/kustomization.yaml",
		"members/eastus-1/namespaces/namespace-applink-system.yaml",
		"releases/1.30.4/crds/a.example.com.yaml",
		"releases/1.30.4/crds/kustomization.yaml",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if !strings.Contains(string(files["members/eastus-1/kustomization.yaml"]), "- ../../releases/1.30.4/crds\n") {
		t.Errorf("the member does not build the release's CRDs:\n%s", files["members/eastus-1/kustomization.yaml"])
	}
}

// Objects that differ in their API group only would have one file name.
func TestFilesKeepBothOfOneName(t *testing.T) {
	files, err := bundle.Files([]bundle.Bundle{mustNew(t, target, []bundle.Object{
		object(bundle.StageGateways, bundle.ComponentGateway, "gateway.networking.k8s.io/v1 Gateway applink-system g"),
		object(bundle.StageGateways, bundle.ComponentGateway, "networking.istio.io/v1 Gateway applink-system g"),
	})})
	if err != nil {
		t.Fatal(err)
	}
	content := string(files["members/eastus-1/gateway/gateway-g.yaml"])
	if strings.Count(content, "kind: Gateway") != 2 || strings.Count(content, "\n---\n") != 1 {
		t.Errorf("want two documents:\n%s", content)
	}
}

// What has not changed since the last time is not encoded again, and what is gone
// is not kept.
func TestLayoutKeepsFiles(t *testing.T) {
	second := target
	second.Member = "westus-1"
	changed := some()
	changed[3].Object.Object["spec"] = map[string]any{"replicas": int64(2)}
	before := []bundle.Bundle{mustNew(t, target, some()), mustNew(t, second, some())}
	after := []bundle.Bundle{mustNew(t, target, some()), mustNew(t, second, changed)}
	var layout bundle.Layout
	for step, bundles := range [][]bundle.Bundle{before, after, before[:1], before} {
		want, err := bundle.Files(bundles)
		if err != nil {
			t.Fatal(err)
		}
		got, err := layout.Files(bundles)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d (-from nothing +again):\n%s", step, diff)
		}
	}
	first, _ := layout.Files(before)
	again, err := layout.Files(after)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range again {
		made := &content[0] != &first[name][0]
		want := slices.Contains([]string{
			"members/westus-1/control-plane/deployment-istiod.yaml", "members/westus-1/inventory.json", "members/westus-1/kustomization.yaml",
		}, name)
		if made != want {
			t.Errorf("%s was made anew: %t", name, made)
		}
	}
}
