package renderer_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// withComponents renders a member on every release with settings of the network
// and of the member, in YAML's flow style.
func withComponents(t *testing.T, network, member string, test func(t *testing.T, b bundle.Bundle)) {
	t.Helper()
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile + network)}}
	for _, release := range catalog.Builtin().Releases() {
		name := "m" + strings.ReplaceAll(release.Version, ".", "-")
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, release.Version) + member)}
	}
	for _, b := range render(t, load(t, files)) {
		t.Run(b.Release, func(t *testing.T) { test(t, b) })
	}
}

// at returns what is at the path of a workload's pods, or nil.
func at(t *testing.T, b bundle.Bundle, kind, name string, path ...string) any {
	t.Helper()
	value, _, err := unstructured.NestedFieldNoCopy(find(b, kind, name).Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func container(t *testing.T, b bundle.Bundle, kind, name string) map[string]any {
	t.Helper()
	return at(t, b, kind, name, "spec", "template", "spec", "containers").([]any)[0].(map[string]any)
}

var workloads = [][2]string{{"Deployment", "istiod"}, {"DaemonSet", "ztunnel"}, {"DaemonSet", "istio-cni-node"}}

func TestResources(t *testing.T) {
	const network = `  components:
    istiod: {resources: {limits: {memory: 1Gi}}}
    ztunnel: {resources: {requests: {cpu: "0.5", memory: 1Gi}, limits: {cpu: "2"}}}
    cni: {resources: {requests: {memory: 64Mi}}}
`
	const member = "  components: {ztunnel: {resources: {requests: {cpu: 250m}}}}\n"
	want := map[string]map[string]string{
		// The CPU request is the chart's; the memory limit is the request too.
		"istiod":         {"requests.cpu": "500m", "requests.memory": "1Gi", "limits.memory": "1Gi"},
		"ztunnel":        {"requests.cpu": "250m", "requests.memory": "1Gi", "limits.cpu": "2"},
		"istio-cni-node": {"requests.cpu": "100m", "requests.memory": "64Mi"},
	}
	withComponents(t, network, member, func(t *testing.T, b bundle.Bundle) {
		for _, w := range workloads {
			got := map[string]string{}
			for what, amounts := range container(t, b, w[0], w[1])["resources"].(map[string]any) {
				for name, amount := range amounts.(map[string]any) {
					quantity := resource.MustParse(fmt.Sprint(amount))
					got[what+"."+name] = quantity.String()
				}
			}
			if diff := cmp.Diff(want[w[1]], got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", w[1], diff)
			}
		}
	})
}

func TestReplicas(t *testing.T) {
	for _, tt := range []struct {
		network, member string
		min, max        int64
		reason          string
	}{
		{"", "", 1, 5, "the release's"},
		{"{min: 2, max: 4}", "{max: 3}", 2, 3, "the member's maximum, the network's minimum"},
		{"{min: 7}", "", 7, 7, "the default maximum is not below the minimum"},
		{"{max: 2}", "", 1, 2, "a maximum alone"},
	} {
		wrap := func(replicas string) string {
			if replicas == "" {
				return ""
			}
			return "  components: {istiod: {replicas: " + replicas + "}}\n"
		}
		withComponents(t, wrap(tt.network), wrap(tt.member), func(t *testing.T, b bundle.Bundle) {
			least := at(t, b, "HorizontalPodAutoscaler", "istiod", "spec", "minReplicas")
			most := at(t, b, "HorizontalPodAutoscaler", "istiod", "spec", "maxReplicas")
			if least != tt.min || most != tt.max {
				t.Errorf("%s: %v to %v replicas", tt.reason, least, most)
			}
		})
	}
}

func TestLogLevels(t *testing.T) {
	const network = "  components: {istiod: {logLevel: debug}, ztunnel: {logLevel: warn}, cni: {logLevel: error}}\n"
	withComponents(t, network, "", func(t *testing.T, b bundle.Bundle) {
		for name, level := range map[string]string{"istiod": "debug", "istio-cni-node": "error"} {
			kind := map[string]string{"istiod": "Deployment", "istio-cni-node": "DaemonSet"}[name]
			if args := fmt.Sprint(container(t, b, kind, name)["args"]); !strings.Contains(args, "--log_output_level=all:"+level) {
				t.Errorf("%s runs with %s", name, args)
			}
		}
		if got := env(t, find(b, "DaemonSet", "ztunnel"))["RUST_LOG"]; got != "warn" {
			t.Errorf("ztunnel logs at %q", got)
		}
	})
}

// ztunnel cuts connections five seconds before its grace period ends.
func TestDrain(t *testing.T) {
	withComponents(t, "  components: {ztunnel: {drain: 10m}}\n", "", func(t *testing.T, b bundle.Bundle) {
		grace := at(t, b, "DaemonSet", "ztunnel", "spec", "template", "spec", "terminationGracePeriodSeconds")
		if told := env(t, find(b, "DaemonSet", "ztunnel"))["TERMINATION_GRACE_PERIOD_SECONDS"]; grace != int64(605) || told != "605" {
			t.Errorf("the kubelet waits for %v s, ztunnel knows of %q", grace, told)
		}
	})
}

func TestNodes(t *testing.T) {
	const network = "  components: {nodes: {selector: {pool: mesh}, excludeVirtual: false}}\n"
	withComponents(t, network, "  components: {nodes: {selector: {zone: a}}}\n", func(t *testing.T, b bundle.Bundle) {
		for _, name := range []string{"ztunnel", "istio-cni-node"} {
			terms := at(t, b, "DaemonSet", name, "spec", "template", "spec", "affinity", "nodeAffinity",
				"requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").([]any)
			want := []any{map[string]any{"matchExpressions": []any{
				map[string]any{"key": "pool", "operator": "In", "values": []any{"mesh"}},
				map[string]any{"key": "zone", "operator": "In", "values": []any{"a"}},
			}}}
			if diff := cmp.Diff(want, terms); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		want := map[string]any{"kubernetes.io/os": "linux", "pool": "mesh", "zone": "a"}
		if diff := cmp.Diff(want, at(t, b, "Deployment", "istiod", "spec", "template", "spec", "nodeSelector")); diff != "" {
			t.Errorf("istiod (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, gatewayValues(t, b)["waypoint"].(map[string]any)["nodeSelector"]); diff != "" {
			t.Errorf("gateways (-want +got):\n%s", diff)
		}
	})
}

// gatewayValues are what istiod makes gateways from.
func gatewayValues(t *testing.T, b bundle.Bundle) map[string]any {
	t.Helper()
	var values struct{ Global map[string]any }
	text := at(t, b, "ConfigMap", "istio-sidecar-injector", "data", "values").(string)
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values.Global
}

func TestImages(t *testing.T) {
	const network = "  components: {images: {registry: \"registry.example.com:5000/istio\", pullSecrets: [pull, other]}}\n"
	withComponents(t, network, "", func(t *testing.T, b bundle.Bundle) {
		for _, w := range workloads {
			image := container(t, b, w[0], w[1])["image"].(string)
			if !strings.HasPrefix(image, "registry.example.com:5000/istio/") || !strings.Contains(image, b.Release) {
				t.Errorf("%s: image %q", w[1], image)
			}
		}
		global := gatewayValues(t, b)
		if global["hub"] != "registry.example.com:5000/istio" {
			t.Errorf("gateways come from %v", global["hub"])
		}
		if diff := cmp.Diff([]any{"pull", "other"}, global["imagePullSecrets"]); diff != "" {
			t.Errorf("gateways pull with (-want +got):\n%s", diff)
		}
		want := []any{map[string]any{"name": "pull"}, map[string]any{"name": "other"}}
		for _, account := range []string{"istiod", "ztunnel", "istio-cni"} {
			if diff := cmp.Diff(want, at(t, b, "ServiceAccount", account, "imagePullSecrets")); diff != "" {
				t.Errorf("%s pulls with (-want +got):\n%s", account, diff)
			}
		}
	})
}

// Who asks for a certificate says for how long; who signs bounds it. A bound
// below what gateways from before a change ask for would shut them out.
func TestWorkloadLifetime(t *testing.T) {
	for _, tt := range []struct{ trust, want, bound string }{
		{"", "86400s", "7776000s"},
		{"  trust: {workload: {validity: 1h30m}}\n", "5400s", "7776000s"},
		{"  trust: {root: {validity: 87600h}, intermediate: {validity: 8760h}, workload: {validity: 2400h}}\n", "8640000s", "8640000s"},
	} {
		withComponents(t, tt.trust, "", func(t *testing.T, b bundle.Bundle) {
			istiod := env(t, find(b, "Deployment", "istiod"))
			mesh := at(t, b, "ConfigMap", "istio", "data", "mesh").(string)
			if istiod["DEFAULT_WORKLOAD_CERT_TTL"] != tt.want || istiod["MAX_WORKLOAD_CERT_TTL"] != tt.bound {
				t.Errorf("istiod signs for %s, at most %s", istiod["DEFAULT_WORKLOAD_CERT_TTL"], istiod["MAX_WORKLOAD_CERT_TTL"])
			}
			if got := env(t, find(b, "DaemonSet", "ztunnel"))["SECRET_TTL"]; got != tt.want {
				t.Errorf("ztunnel asks for %s, want %s", got, tt.want)
			}
			if !strings.Contains(mesh, "SECRET_TTL: "+tt.want) {
				t.Errorf("gateways do not ask for %s:\n%s", tt.want, mesh)
			}
		})
	}
}
