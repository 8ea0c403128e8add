package apply

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/catalog/fetch"
	"github.com/isthmus-mesh/isthmus/catalog/fetch/fetchtest"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

const gatewaysCRD = "gateways.gateway.networking.k8s.io"

// gatewayAPISet is a set with the real CRDs of a version; without a version it has
// none.
func gatewayAPISet(t *testing.T, version string) Set {
	t.Helper()
	set := Set{Mesh: Mesh{Network: "gwapi", SystemNamespace: "gwapi-system"}, Release: "1.31.0", Commit: "c1", Digest: "sha256:" + version}
	add := func(o *unstructured.Unstructured) {
		set.Objects = append(set.Objects, bundle.Object{Stage: bundle.StageFoundation, Object: o})
	}
	add(parse(t, "gwapi", "apiVersion: v1\nkind: Namespace\nmetadata: {name: SYSTEM}")[0])
	if version == "" {
		return set
	}
	api := catalog.GatewayAPI{Version: version, Channel: catalog.ChannelStandard}
	c, failures := fetch.New(fetch.Options{Cache: t.TempDir(), ModuleProxy: fetchtest.ModuleProxy(t, version)}).
		Fetch(context.Background(), catalog.Builtin(), catalog.Needs{GatewayAPIs: []catalog.GatewayAPI{api}})
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	files, _ := c.GatewayAPI(api)
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range strings.Split(string(content), "\n---") {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
				t.Fatal(err)
			}
			if o.Object == nil {
				continue
			}
			delete(o.Object, "status")
			o.SetLabels(map[string]string{LabelNetwork: "gwapi", LabelComponent: string(bundle.ComponentGatewayAPI)})
			add(o)
		}
	}
	return set
}

// TestGatewayAPI has a cluster of its own and one test after another: CRDs of the
// Gateway API are there once in a cluster. The system namespace is there before
// us and stays, so that no controller is needed.
func TestGatewayAPI(t *testing.T) {
	t.Parallel()
	own, err := plane.Cluster(context.Background(), "gwapi", controlplane.ClusterOptions{APIServerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	config, err := member.Config(own.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := connect(t, config)
	namespace := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "gwapi-system"}}}
	if _, err := client(t, m, "v1", "Namespace", "").Create(context.Background(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *controlplane.Cluster, *member.Member)
	}{
		{"delivered", gatewayAPIDelivered},
		{"goes with the last member", gatewayAPIGoesWithTheLastMember},
		{"of others", gatewayAPIOfOthers},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withoutGatewayAPI(t, m)
			tt.test(t, own, m)
		})
	}
}

// withoutGatewayAPI deletes what an earlier test left.
func withoutGatewayAPI(t *testing.T, m *member.Member) {
	t.Helper()
	ctx := context.Background()
	for _, kind := range []struct{ apiVersion, kind string }{
		{"admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"},
		{"admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"},
		{"apiextensions.k8s.io/v1", "CustomResourceDefinition"},
	} {
		in := client(t, m, kind.apiVersion, kind.kind, "")
		if err := in.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
		for left := 1; left > 0; time.Sleep(50 * time.Millisecond) {
			list, err := in.List(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			left = len(list.Items)
		}
	}
	// A policy that is gone is followed for a moment more.
	probe := parse(t, "probe", `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: probes.gateway.networking.k8s.io
  annotations:
    api-approved.kubernetes.io: unapproved, a test's
    gateway.networking.k8s.io/bundle-version: v0.1.0
    gateway.networking.k8s.io/channel: standard
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: Probe, plural: probes, singular: probe, listKind: ProbeList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`)[0]
	eventually(t, "no policy denies CRDs", func() bool {
		_, err := m.Dynamic.Resource(crds).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil
	})
	m.Forget()
}

// crd returns a CRD; nil where it is gone.
func crd(t *testing.T, m *member.Member, name string) *unstructured.Unstructured {
	t.Helper()
	found, err := get(m, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return found
}

func bundleVersion(t *testing.T, m *member.Member) string {
	t.Helper()
	return crd(t, m, gatewaysCRD).GetAnnotations()[annotationBundleVersion]
}

func gatewayAPIDelivered(t *testing.T, _ *controlplane.Cluster, m *member.Member) {
	target := NewTarget(m)
	_, err := target.GatewayAPI(context.Background())
	if member.ReasonOf(err) != GatewayAPIMissing || !Stalls(err) || !strings.Contains(err.Error(), gatewaysCRD) || !strings.Contains(err.Error(), "owner: isthmus") {
		t.Fatalf("a member without the CRDs: %v", err)
	}

	older, newer := gatewayAPISet(t, "v1.5.1"), gatewayAPISet(t, "v1.6.0")
	mustApply(t, target, older)
	found, err := target.GatewayAPI(context.Background())
	if err != nil || found != (catalog.GatewayAPI{Version: "v1.5.1", Channel: "standard"}) {
		t.Fatalf("after delivery: %v, %v", found, err)
	}
	for reason, again := range map[string]*Target{"the same process": target, "another process": NewTarget(m)} {
		if result := mustApply(t, again, older); result.Count(Unchanged) != len(older.Objects) {
			t.Errorf("%s writes what is there: %v", reason, result.Changes)
		}
	}

	mustApply(t, target, newer)
	if got := bundleVersion(t, m); got != "v1.6.0" {
		t.Errorf("after an upgrade the member has %s", got)
	}
	if crd(t, m, "tcproutes.gateway.networking.k8s.io") == nil {
		t.Error("a kind of the newer version is missing")
	}

	// Istio goes back a release; the CRDs do not.
	for _, again := range []*Target{target, NewTarget(m)} {
		mustApply(t, again, older)
		if got := bundleVersion(t, m); got != "v1.6.0" {
			t.Errorf("after a rollback the member has %s", got)
		}
	}
	if crd(t, m, "tcproutes.gateway.networking.k8s.io") == nil {
		t.Error("a rollback took a kind away")
	}

	// From now on they are the member's: nothing goes, and nothing stays ours.
	result := mustApply(t, target, gatewayAPISet(t, ""))
	if result.Count(Deleted) > 0 || result.Count(Released) == 0 {
		t.Errorf("giving the CRDs up: %v", result.Changes)
	}
	if label := crd(t, m, gatewaysCRD).GetLabels()[LabelNetwork]; label != "" {
		t.Errorf("a CRD that was given up is still labelled %q", label)
	}
	policy, err := get(m, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "", "safe-upgrades.gateway.networking.k8s.io")
	if err != nil || policy.GetLabels()[LabelNetwork] != "" || policy.Object["spec"] == nil {
		t.Errorf("the policy that was given up: %v, %v", policy, err)
	}
}

func gatewayAPIGoesWithTheLastMember(t *testing.T, _ *controlplane.Cluster, m *member.Member) {
	set := gatewayAPISet(t, "v1.5.1")
	target := NewTarget(m)
	mustApply(t, target, set)
	class := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": map[string]any{"name": "of-a-user"},
		"spec": map[string]any{"controllerName": "example.com/theirs"},
	}}
	if _, err := client(t, m, "gateway.networking.k8s.io/v1", "GatewayClass", "").Create(context.Background(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	mustRemove(t, target, set)
	if crd(t, m, "httproutes.gateway.networking.k8s.io") != nil {
		t.Error("a CRD that nobody uses stays")
	}
	used := crd(t, m, "gatewayclasses.gateway.networking.k8s.io")
	if used == nil || used.GetLabels()[LabelNetwork] != "" {
		t.Errorf("a CRD that somebody uses: %v", used)
	}
}

// What others deliver is theirs: it is named, not taken, and never fought over.
func gatewayAPIOfOthers(t *testing.T, own *controlplane.Cluster, m *member.Member) {
	ctx := context.Background()
	install := func(version string) {
		t.Helper()
		if err := own.InstallGatewayAPI(ctx, version); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(reason, version, stays, says string) {
		t.Helper()
		for range 2 { // the second time the inventory lists what was intended
			_, err := Apply(ctx, NewTarget(m), gatewayAPISet(t, version), quick)
			if member.ReasonOf(err) != GatewayAPIOwned || !Stalls(err) || !strings.Contains(err.Error(), controlplane.GatewayAPIManager) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v", reason, err)
			}
			if got := bundleVersion(t, m); got != stays {
				t.Errorf("%s: they had %s, and have %s", reason, stays, got)
			}
		}
	}
	install("v1.5.1")
	refused("an older one of others", "v1.6.0", "v1.5.1", "owner: Member")

	target := NewTarget(m)
	mustApply(t, target, gatewayAPISet(t, "v1.5.1"))
	if result := mustApply(t, target, gatewayAPISet(t, "v1.5.1")); result.Count(Configured) > 0 {
		t.Errorf("the same version, owned together, is written again: %v", result.Changes)
	}
	install("v1.6.0")
	refused("a newer one of others", "v1.5.1", "v1.6.0", "newer than v1.5.1")

	mustApply(t, target, gatewayAPISet(t, "v1.6.0"))
	result := mustRemove(t, target, gatewayAPISet(t, "v1.6.0"))
	deleted := slices.ContainsFunc(result.Changes, func(c Change) bool { return c.Action == Deleted && c.Subject.isGatewayAPI() })
	if got := bundleVersion(t, m); got != "v1.6.0" || deleted {
		t.Errorf("leaving took away what others delivered: %v", result.Changes)
	}
	if managers := othersOf(metadataOf(crd(t, m, gatewaysCRD))); !slices.Equal(managers, []string{controlplane.GatewayAPIManager}) {
		t.Errorf("after leaving, the CRD belongs to %v", managers)
	}
}

func metadataOf(o *unstructured.Unstructured) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{ManagedFields: o.GetManagedFields()}
}
