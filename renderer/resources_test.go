package renderer_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

const (
	networkResources = `  resources:
  - path: manifests
    members: {matchLabels: {ring: canary}}
  - path: all.yaml
`
	policyManifest = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart, namespace: shop, labels: {team: shop}}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  action: ALLOW
  rules: [{to: [{operation: {methods: [GET]}}]}]
`
	routeManifest = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop, annotations: null}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
`
	configManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: defaults, namespace: applink-system, labels: {gateway.istio.io/defaults-for-class: istio-waypoint}}
data: {deployment: "spec: {replicas: 2}"}
`
)

// resourceFiles are two members of a network with manifests, one of them in the
// ring that gets all.
func resourceFiles() fstest.MapFS {
	canary := strings.Replace(memberFile("canary", "1.30.4"), `"canary"}`, `"canary", labels: {ring: canary}}`, 1)
	return fstest.MapFS{
		"network.yaml":          {Data: []byte(networkFile + networkResources)},
		"canary.yaml":           {Data: []byte(canary)},
		"rest.yaml":             {Data: []byte(memberFile("rest", "1.30.4"))},
		"all.yaml":              {Data: []byte(configManifest)},
		"manifests/policy.yaml": {Data: []byte(policyManifest)},
		"manifests/route.yaml":  {Data: []byte(routeManifest)},
	}
}

func TestManifestsAreDelivered(t *testing.T) {
	bundles := render(t, load(t, resourceFiles()))
	for _, tt := range []struct {
		reason string
		bundle bundle.Bundle
		want   []string
	}{
		{"selected by both entries", bundles[0], []string{"AuthorizationPolicy cart", "ConfigMap defaults", "HTTPRoute cart"}},
		{"selected by one", bundles[1], []string{"ConfigMap defaults"}},
	} {
		var got []string
		for _, object := range tt.bundle.Objects {
			labels := object.Object.GetLabels()
			if labels[bundle.ComponentLabel] != string(bundle.ComponentResources) {
				continue
			}
			got = append(got, object.Object.GetKind()+" "+object.Object.GetName())
			if labels[bundle.NetworkLabel] != "prod" || object.Stage != bundle.StageGateways {
				t.Errorf("%s: network %q, stage %q", id(object.Object), labels[bundle.NetworkLabel], object.Stage)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
	policy := find(bundles[0], "AuthorizationPolicy", "cart")
	want := map[string]any{
		"targetRefs": []any{map[string]any{"kind": "Service", "group": "", "name": "cart"}},
		"action":     "ALLOW",
		"rules":      []any{map[string]any{"to": []any{map[string]any{"operation": map[string]any{"methods": []any{"GET"}}}}}},
	}
	if diff := cmp.Diff(want, policy.Object["spec"]); diff != "" || policy.GetLabels()["team"] != "shop" {
		t.Errorf("labels %v, spec (-want +got):\n%s", policy.GetLabels(), diff)
	}
	if metadata := find(bundles[0], "HTTPRoute", "cart").Object["metadata"].(map[string]any); len(metadata) != 3 {
		t.Errorf("a null is in the metadata: %v", metadata)
	}
}

func TestKustomizeBuildGivesTheManifests(t *testing.T) {
	bundles := render(t, load(t, resourceFiles()))
	files, err := bundle.Files(bundles)
	if err != nil {
		t.Fatal(err)
	}
	if files["members/canary/resources/shop/authorizationpolicy-cart.yaml"] == nil {
		t.Error("the policy has no file")
	}
	built, err := kustomize.Build(files, bundle.MemberDir("canary"))
	if err != nil {
		t.Fatal(err)
	}
	if len(built) != len(bundles[0].Objects) {
		t.Errorf("%d objects built, want %d", len(built), len(bundles[0].Objects))
	}
}

// What people deliver is patched like everything else.
func TestManifestsArePatched(t *testing.T) {
	files := resourceFiles()
	files["network.yaml"].Data = []byte(networkFile + networkResources + `  patches:
  - target: {kind: ConfigMap, name: defaults}
    patch: "data: {service: \"spec: {}\"}"
`)
	for _, b := range render(t, load(t, files)) {
		data, _ := find(b, "ConfigMap", "defaults").Object["data"].(map[string]any)
		if data["service"] != "spec: {}" || data["deployment"] == nil {
			t.Errorf("%s: data is %v", b.Member, data)
		}
	}
}

func TestManifestsThatClash(t *testing.T) {
	files := resourceFiles()
	files["all.yaml"].Data = []byte(`apiVersion: gateway.networking.k8s.io/v1beta1
kind: Gateway
metadata:
  name: waypoint
  namespace: shop
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
`)
	result, err := renderer.New(catalog.Builtin()).Render(load(t, files), plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range result.Problems.Errors() {
		got = append(got, p.Reason+" "+p.String())
	}
	want := []string{"ManifestClash all.yaml:4: metadata.name: isthmus renders Gateway shop/waypoint itself"}
	if diff := cmp.Diff(want, got); diff != "" || len(result.Bundles) != 0 {
		t.Errorf("%d bundles, problems (-want +got):\n%s", len(result.Bundles), diff)
	}
}

// What a member's API server or istiod would refuse is found before delivery,
// by the release that the member runs.
func TestManifestsThatAreRefused(t *testing.T) {
	const header = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\n"
	for _, tt := range []struct {
		reason, manifest string
		want             []string
	}{
		{"a field that there is not", header + "spec:\n  rules:\n  - to:\n    - operation: {methds: [GET]}\n",
			[]string{"error ManifestRefused all.yaml:7: spec.rules[0].to[0].operation.methds: unknown field"}},
		{"a rule of the CRD", header + "spec: {selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a, group: \"\"}]}\n",
			[]string{"error ManifestRefused all.yaml:4: spec: only one of targetRefs or selector can be set"}},
		{"what istiod knows", header + "spec: {action: CUSTOM, targetRefs: [{kind: Service, name: a, group: \"\"}], rules: [{}]}\n",
			[]string{"error ManifestRefused all.yaml:4: spec: invalid policy a.shop: `provider.name` must not be empty"}},
		{"a kind that one release has", "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: a, namespace: shop}\nspec: {lua: {inlineCode: \"function envoy_on_request(h) end\"}}\n",
			[]string{`error ManifestRefused all.yaml:2: kind: extensions.istio.io has no kind "TrafficExtension", in release 1.27.9`}},
		{"a kind of the Gateway API", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\nspec:\n  parentRef: []\n",
			[]string{`error ManifestRefused all.yaml:5: spec.parentRef: unknown field`}},
	} {
		files := resourceFiles()
		files["all.yaml"].Data = []byte(tt.manifest)
		files["canary.yaml"].Data = []byte(memberFile("canary", "1.27.9"))
		files["rest.yaml"].Data = []byte(memberFile("rest", "1.31.0"))
		result, err := shared.Render(load(t, files), plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range result.Problems {
			if strings.HasPrefix(p.Reason, "Manifest") {
				got = append(got, string(p.Severity)+" "+p.Reason+" "+p.String())
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || len(result.Bundles) != 0 {
			t.Errorf("%s: %d bundles, problems (-want +got):\n%s", tt.reason, len(result.Bundles), diff)
		}
	}
}

// Where isthmus knows the CRDs of the Gateway API, values are checked, too.
func TestManifestsByGatewayAPI(t *testing.T) {
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", catalog.GatewayAPIModule).Output()
	if err != nil {
		t.Fatalf("find the Gateway API: %v", err)
	}
	api := catalog.GatewayAPI{Version: "v1.6.0", Channel: catalog.ChannelStandard}
	with := catalog.Builtin().With(catalog.Additions{GatewayAPIs: map[catalog.GatewayAPI]fs.FS{
		api: os.DirFS(filepath.Join(strings.TrimSpace(string(output)), "config", "crd", "standard")),
	}})
	files := resourceFiles()
	files["network.yaml"].Data = []byte(networkFile + "  gatewayAPI: {owner: isthmus, version: v1.6.0}\n  resources: [{path: all.yaml}]\n")
	files["rest.yaml"].Data = []byte(memberFile("rest", "1.31.0") + "  gatewayAPI: {owner: Member}\n")
	files["canary.yaml"].Data = []byte(memberFile("canary", "1.31.0"))
	files["all.yaml"].Data = []byte(strings.Replace(routeManifest, "rules: [{", "rules: [{matches: [{path: {type: Exactly, value: /}}], ", 1))
	result, err := renderer.New(with).Render(load(t, files), plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range result.Problems.Errors() {
		got = append(got, p.Reason+" "+p.String())
	}
	want := []string{`ManifestRefused all.yaml:6: spec.rules[0].matches[0].path.type: unsupported value: "Exactly": ` +
		`supported values: "Exact", "PathPrefix", "RegularExpression", in release 1.31.0 with Gateway API v1.6.0`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}
