package renderer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// meshConfigOf returns the mesh config that istiod reads.
func meshConfigOf(t *testing.T, b bundle.Bundle) map[string]any {
	t.Helper()
	text, _, err := unstructured.NestedString(find(b, "ConfigMap", "istio").Object, "data", "mesh")
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	return config
}

// What the fleet adds is beside what isthmus, telemetry and the profile set, in
// every release.
func TestMeshConfigIsMerged(t *testing.T) {
	files := everyRelease()
	plain := map[string]map[string]any{}
	for _, b := range render(t, load(t, files)) {
		plain[b.Release] = meshConfigOf(t, b)
	}
	files["network.yaml"].Data = []byte(networkFile + `  telemetry: {collector: {service: otel.shop.svc.cluster.local}, tracing: {sampling: 1%}}
  meshConfig:
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    connectTimeout: 5s
    defaultHttpRetryPolicy: {attempts: 3}
    defaultConfig:
      drainDuration: 45s
      concurrency: 1000000
      proxyMetadata: {EXAMPLE: "yes"}
    extensionProviders:
    - {name: ext-authz, envoyExtAuthzGrpc: {service: authz.shop.svc.cluster.local, port: 9000}}
`)
	for _, b := range render(t, load(t, files)) {
		config := meshConfigOf(t, b)
		for name, want := range plain[b.Release] {
			if name == "defaultConfig" || name == "extensionProviders" {
				continue
			}
			if diff := cmp.Diff(want, config[name]); diff != "" {
				t.Errorf("%s: %s has changed (-want +got):\n%s", b.Release, name, diff)
			}
		}
		if config["serviceScopeConfigs"] == nil || config["trustDomain"] != "cluster.local" {
			t.Errorf("%s: scope %v, trust domain %v", b.Release, config["serviceScopeConfigs"], config["trustDomain"])
		}
		proxy := config["defaultConfig"].(map[string]any)
		metadata := proxy["proxyMetadata"].(map[string]any)
		if metadata["SECRET_TTL"] == nil || metadata["EXAMPLE"] != "yes" || metadata["ISTIO_META_ENABLE_HBONE"] != "true" {
			t.Errorf("%s: proxy metadata %v", b.Release, metadata)
		}
		text, _, _ := unstructured.NestedString(find(b, "ConfigMap", "istio").Object, "data", "mesh")
		if !strings.Contains(text, "concurrency: 1000000\n") {
			t.Errorf("%s: a whole number is none any more:\n%s", b.Release, text)
		}
		var names []string
		for _, provider := range config["extensionProviders"].([]any) {
			names = append(names, provider.(map[string]any)["name"].(string))
		}
		if diff := cmp.Diff([]string{"ext-authz", "isthmus-traces", "isthmus-logs"}, names); diff != "" {
			t.Errorf("%s: providers (-want +got):\n%s", b.Release, diff)
		}
	}
}

// What is wrong with it is told at its line, before any chart is run with it.
func TestMeshConfigThatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		reason, config string
		want           []string
	}{
		{"fields that there are not", "    acessLogFile: x\n    defaultConfig:\n      drain: 5s\n",
			[]string{"network.yaml:9: spec.meshConfig.acessLogFile: unknown field", "network.yaml:11: spec.meshConfig.defaultConfig.drain: unknown field"}},
		{"what a chart cannot use", "    defaultConfig: none\n",
			[]string{"network.yaml:9: spec.meshConfig.defaultConfig: want fields, found a string"}},
		{"what istiod refuses", "    connectTimeout: 2h\n",
			[]string{"network.yaml:9: spec.meshConfig.connectTimeout: invalid connect timeout: time 2h0m0s must be >1ms and <1h0m0s"}},
	} {
		files := everyRelease()
		files["network.yaml"].Data = []byte(networkFile + "  meshConfig:\n" + tt.config)
		result, err := shared.Render(load(t, files), plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range result.Problems.Errors() {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || len(result.Bundles) != 0 {
			t.Errorf("%s: %d bundles, problems (-want +got):\n%s", tt.reason, len(result.Bundles), diff)
		}
	}
}

// The whole is checked, too: a patch may have changed it.
func TestMergedMeshConfigIsChecked(t *testing.T) {
	files := everyRelease()
	files["network.yaml"].Data = []byte(networkFile + `  patches:
  - target: {kind: ConfigMap, name: istio}
    patch: |
      data: {mesh: "connectTimeout: 2h"}
`)
	result, err := shared.Render(load(t, files), plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	errs := result.Problems.Errors()
	if len(errs) == 0 || errs[0].Reason != "InvalidMeshConfig" || !strings.Contains(errs[0].Message, "invalid connect timeout") {
		t.Errorf("problems: %v", errs)
	}
}

// Every member of every release has the same scopes of services: what the release's
// own profile says, which a list of ours replaces, and then each export.
func TestExports(t *testing.T) {
	const exports = `  discovery:
    exports:
    - {namespace: shop}
    - {namespace: "404", selector: {matchLabels: {export: "true"}, matchExpressions: [{key: tier, operator: NotIn, values: ["1", ISTHMUS_CLUSTER]}]}}
    - {namespace: quiet, selector: {}}
`
	of := func(namespace string) map[string]any {
		return map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": namespace}}
	}
	exported := []any{
		map[string]any{"namespaceSelector": of("shop"), "scope": "GLOBAL"},
		map[string]any{"namespaceSelector": of("404"), "scope": "GLOBAL", "servicesSelector": map[string]any{
			"matchLabels":      map[string]any{"export": "true"},
			"matchExpressions": []any{map[string]any{"key": "tier", "operator": "NotIn", "values": []any{"1", "ISTHMUS_CLUSTER"}}},
		}},
		map[string]any{"namespaceSelector": of("quiet"), "scope": "GLOBAL"},
	}
	files := everyRelease()
	profile := map[string][]any{}
	for _, b := range render(t, load(t, files)) {
		profile[b.Release] = meshConfigOf(t, b)["serviceScopeConfigs"].([]any)
	}
	files["network.yaml"].Data = []byte(networkFile + exports + "  meshConfig: {connectTimeout: 5s}\n")
	for _, b := range render(t, load(t, files)) {
		got := meshConfigOf(t, b)["serviceScopeConfigs"]
		if diff := cmp.Diff(any(slices.Concat(profile[b.Release], exported)), got); diff != "" {
			t.Errorf("%s: scopes (-want +got):\n%s", b.Release, diff)
		}
	}
}

// A member whose istiod runs elsewhere takes part in the same way.
func TestExportsOfHosted(t *testing.T) {
	files := fstest.MapFS{
		"network.yaml": {Data: []byte(networkFile + "  discovery: {exports: [{namespace: shop}]}\n")},
		"host.yaml":    {Data: []byte(memberFile("host", "1.31.0"))},
		"guest.yaml":   {Data: []byte(memberFile("guest", "1.31.0") + "  controlPlane: {placement: Hosted, host: host, address: 10.0.0.9}\n")},
	}
	scopes := map[string]any{}
	for _, b := range render(t, load(t, files)) {
		for _, object := range b.Objects {
			if object.Object.GetKind() != "ConfigMap" || object.Object.GetName() != "istio" {
				continue
			}
			var config map[string]any
			text, _, _ := unstructured.NestedString(object.Object.Object, "data", "mesh")
			if err := yaml.Unmarshal([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			scopes[b.Member+" "+object.Object.GetNamespace()] = config["serviceScopeConfigs"]
		}
	}
	if len(scopes) < 2 {
		t.Fatalf("mesh configs: %v", scopes)
	}
	for where, scope := range scopes {
		if diff := cmp.Diff(scopes["host applink-system"], scope); diff != "" || len(scope.([]any)) != 2 {
			t.Errorf("%s: other scopes than the host (-host +it):\n%s", where, diff)
		}
	}
}
