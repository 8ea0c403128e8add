package renderer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func TestTelemetry(t *testing.T) {
	const network = `  telemetry:
    collector: {service: otel.observability.svc.cluster.local}
    accessLogs: {requests: Errors, to: Collector}
    tracing: {sampling: "0.5%"}
    metrics: {podMonitors: AzureMonitor, interval: 1m}
`
	withComponents(t, network, "", func(t *testing.T, b bundle.Bundle) {
		var mesh map[string]any
		if err := yaml.Unmarshal([]byte(find(b, "ConfigMap", "istio").Object["data"].(map[string]any)["mesh"].(string)), &mesh); err != nil {
			t.Fatal(err)
		}
		address := map[string]any{"service": "otel.observability.svc.cluster.local", "port": float64(4317)}
		providers := []any{
			map[string]any{"name": "isthmus-traces", "opentelemetry": address},
			map[string]any{"name": "isthmus-logs", "envoyOtelAls": address},
		}
		if diff := cmp.Diff(providers, mesh["extensionProviders"]); diff != "" {
			t.Errorf("providers (-want +got):\n%s", diff)
		}
		if mesh["serviceScopeConfigs"] == nil {
			t.Error("the profile's serviceScopeConfigs are lost")
		}
		want := map[string]any{
			"accessLogging": []any{map[string]any{
				"providers": []any{map[string]any{"name": "isthmus-logs"}},
				"filter":    map[string]any{"expression": "response.code >= 400 || response.code == 0"},
			}},
			"tracing": []any{map[string]any{
				"providers": []any{map[string]any{"name": "isthmus-traces"}}, "randomSamplingPercentage": 0.5,
			}},
		}
		if diff := cmp.Diff(want, find(b, "Telemetry", "mesh-default").Object["spec"]); diff != "" {
			t.Errorf("policy (-want +got):\n%s", diff)
		}
		checkMonitors(t, b, "azmonitoring.coreos.com/v1")
	})
}

// checkMonitors: each PodMonitor selects pods that are rendered and names a port
// that they have; those of gateways are made by istiod, with the port "metrics".
func checkMonitors(t *testing.T, b bundle.Bundle, apiVersion string) {
	t.Helper()
	for monitor, workload := range map[string][2]string{
		"istiod": {"Deployment", "istiod"}, "istio-cni": {"DaemonSet", "istio-cni-node"}, "ztunnel": {"DaemonSet", "ztunnel"},
	} {
		object := find(b, "PodMonitor", monitor)
		if object == nil || object.GetAPIVersion() != apiVersion {
			t.Fatalf("no PodMonitor %s of %s", monitor, apiVersion)
		}
		selector, _, _ := unstructured.NestedStringMap(object.Object, "spec", "selector", "matchLabels")
		labels := at(t, b, workload[0], workload[1], "spec", "template", "metadata", "labels").(map[string]any)
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("PodMonitor %s selects %s=%s, and the pods have %v", monitor, key, value, labels)
			}
		}
		endpoints, _, _ := unstructured.NestedSlice(object.Object, "spec", "podMetricsEndpoints")
		port := endpoints[0].(map[string]any)["port"]
		found := false
		for _, entry := range container(t, b, workload[0], workload[1])["ports"].([]any) {
			found = found || entry.(map[string]any)["name"] == port
		}
		if !found || endpoints[0].(map[string]any)["interval"] != "60s" {
			t.Errorf("PodMonitor %s: %v", monitor, endpoints)
		}
	}
}

func TestWithoutTelemetryThereIsNone(t *testing.T) {
	withComponents(t, "  telemetry: {collector: {service: otel}, metrics: {}}\n", "", func(t *testing.T, b bundle.Bundle) {
		for _, o := range b.Objects {
			if kind := o.Object.GetKind(); kind == "Telemetry" || kind == "PodMonitor" {
				t.Errorf("%s %s, which nobody asked for", kind, o.Object.GetName())
			}
		}
	})
}

func TestPinnedImages(t *testing.T) {
	const sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
	network := "  components:\n    images:\n      registry: registry.example.com/istio\n      digests:\n"
	for _, release := range []string{"1.27.9", "1.28.2", "1.29.1", "1.30.4", "1.31.0"} {
		network += fmt.Sprintf("      - {release: %s, pilot: sha256:%saa, proxy: sha256:%sbb, cni: sha256:%scc, ztunnel: sha256:%sdd}\n", release, sum, sum, sum, sum)
	}
	withComponents(t, network, "", func(t *testing.T, b bundle.Bundle) {
		for workload, image := range map[[2]string][2]string{
			{"Deployment", "istiod"}: {"pilot", "aa"}, {"DaemonSet", "istio-cni-node"}: {"install-cni", "cc"}, {"DaemonSet", "ztunnel"}: {"ztunnel", "dd"},
		} {
			want := "registry.example.com/istio/" + image[0] + ":" + b.Release + "-distroless@sha256:" + sum + image[1]
			if got := container(t, b, workload[0], workload[1])["image"]; got != want {
				t.Errorf("%s runs %v, want %s", workload[1], got, want)
			}
		}
		// The image of gateways is in what istiod makes them from.
		values := find(b, "ConfigMap", "istio-sidecar-injector").Object["data"].(map[string]any)["values"].(string)
		if want := "registry.example.com/istio/proxyv2:" + b.Release + "-distroless@sha256:" + sum + "bb"; !strings.Contains(values, want) {
			t.Errorf("gateways do not run %s", want)
		}
	})
}

func TestGatewayWorkloads(t *testing.T) {
	const network = `  components:
    eastWestGateway: {resources: {limits: {memory: 512Mi}}, replicas: {min: 2}}
    waypoints: {replicas: {min: 2, max: 20}}
`
	withComponents(t, network, "", func(t *testing.T, b bundle.Bundle) {
		overlay := func(class, key string) string {
			object := find(b, "ConfigMap", "istio-default-gatewayclass-"+class)
			if object == nil || object.GetLabels()["gateway.istio.io/defaults-for-class"] != class {
				t.Fatalf("no defaults for gateways of class %s", class)
			}
			text, _ := object.Object["data"].(map[string]any)[key].(string)
			return text
		}
		for want, got := range map[string]string{
			"minReplicas: 2":  overlay("istio-east-west", "horizontalPodAutoscaler"),
			"maxReplicas: 5":  overlay("istio-east-west", "horizontalPodAutoscaler"),
			"memory: 512Mi":   overlay("istio-east-west", "deployment"),
			"maxReplicas: 20": overlay("istio-waypoint", "horizontalPodAutoscaler"),
		} {
			if !strings.Contains(got, want) {
				t.Errorf("want %q in:\n%s", want, got)
			}
		}
		if text := overlay("istio-waypoint", "deployment"); text != "" {
			t.Errorf("waypoints without resources have an overlay:\n%s", text)
		}
	})
}
