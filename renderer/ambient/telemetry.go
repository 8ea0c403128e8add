package ambient

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// The providers of telemetry in Istio's mesh config that are ours. Istio has the
// provider "envoy", the log of the proxy's pod, by itself.
const (
	providerTraces = "isthmus-traces"
	providerLogs   = "isthmus-logs"
	providerStdout = "envoy"
)

// telemetryProviders are the ways to the collector, for istiod's mesh config.
// Both are there as soon as there is a collector: one that comes later with a
// policy would be refused until istiod has read it.
func telemetryProviders(collector v1alpha1.Collector) []any {
	if collector.Service == "" {
		return nil
	}
	address := func() map[string]any {
		return map[string]any{"service": collector.Service, "port": int64(collector.Port)}
	}
	return []any{
		map[string]any{"name": providerTraces, "opentelemetry": address()},
		map[string]any{"name": providerLogs, "envoyOtelAls": address()},
	}
}

// telemetryObjects are the policy for the whole mesh and what makes its own
// workloads scraped.
func telemetryObjects(network *v1alpha1.ApplicationNetwork) []part {
	telemetry := network.Spec.Telemetry
	if telemetry == nil {
		return nil
	}
	var parts []part
	if policy := telemetryPolicy(network); policy != nil {
		parts = append(parts, part{bundle.ComponentTelemetry, bundle.StageGateways, policy})
	}
	for _, monitor := range podMonitors(network) {
		parts = append(parts, part{bundle.ComponentTelemetry, bundle.StageGateways, monitor})
	}
	return parts
}

// telemetryPolicy is Istio's Telemetry of the root namespace, of which Istio
// takes one for the mesh.
func telemetryPolicy(network *v1alpha1.ApplicationNetwork) map[string]any {
	telemetry, spec := network.Spec.Telemetry, map[string]any{}
	if logs := telemetry.AccessLogs; logs != nil {
		provider := providerStdout
		if logs.To == v1alpha1.LogToCollector {
			provider = providerLogs
		}
		entry := map[string]any{"providers": []any{map[string]any{"name": provider}}}
		if logs.Requests == v1alpha1.LogErrors {
			// Envoy says 0 where there was no answer.
			entry["filter"] = map[string]any{"expression": "response.code >= 400 || response.code == 0"}
		}
		spec["accessLogging"] = []any{entry}
	}
	if tracing := telemetry.Tracing; tracing != nil {
		spec["tracing"] = []any{map[string]any{
			"providers":                []any{map[string]any{"name": providerTraces}},
			"randomSamplingPercentage": percent(tracing.Sampling),
		}}
	}
	if len(spec) == 0 {
		return nil
	}
	return map[string]any{
		"apiVersion": "telemetry.istio.io/v1",
		"kind":       "Telemetry",
		"metadata":   map[string]any{"name": "mesh-default", "namespace": network.Spec.DataPlane.Namespace},
		"spec":       spec,
	}
}

// percent returns the number of a share such as "0.1%"; loading has checked it.
// A whole number is one, as an API server gives it back.
func percent(share string) any {
	var number float64
	_, _ = fmt.Sscanf(share, "%f%%", &number)
	if whole := int64(number); float64(whole) == number {
		return whole
	}
	return number
}

// monitored is one kind of pods of the mesh and the port of their metrics.
type monitored struct {
	name, port, path string
	selector         map[string]any
	// everywhere is for pods beside people's workloads.
	everywhere bool
}

// monitoredPods: names of ports and labels are those of Istio's charts, the same
// in every release of the catalog.
var monitoredPods = []monitored{
	{"istiod", "http-monitoring", "/metrics", matchLabels("app", "istiod"), false},
	{"istio-cni", "metrics", "/metrics", matchLabels("k8s-app", "istio-cni-node"), false},
	{"ztunnel", "ztunnel-stats", "/metrics", matchLabels("app", "ztunnel"), false},
	{"istio-gateways", "metrics", "/stats/prometheus", map[string]any{"matchExpressions": []any{
		map[string]any{"key": "gateway.networking.k8s.io/gateway-name", "operator": "Exists"},
	}}, true},
}

func matchLabels(key, value string) map[string]any {
	return map[string]any{"matchLabels": map[string]any{key: value}}
}

// monitorGroups are the API groups of PodMonitor.
var monitorGroups = map[v1alpha1.PodMonitors]string{
	v1alpha1.PodMonitorsPrometheus: "monitoring.coreos.com/v1",
	v1alpha1.PodMonitorsAzure:      "azmonitoring.coreos.com/v1",
}

func podMonitors(network *v1alpha1.ApplicationNetwork) []map[string]any {
	metrics := network.Spec.Telemetry.Metrics
	if metrics == nil || monitorGroups[metrics.PodMonitors] == "" {
		return nil
	}
	interval := 30 * time.Second
	if metrics.Interval != nil {
		interval = metrics.Interval.Duration
	}
	var out []map[string]any
	for _, pods := range monitoredPods {
		spec := map[string]any{
			"selector": pods.selector,
			"podMetricsEndpoints": []any{map[string]any{
				"port": pods.port, "path": pods.path, "interval": seconds(interval),
			}},
		}
		if pods.everywhere {
			spec["namespaceSelector"] = map[string]any{"any": true}
		}
		out = append(out, map[string]any{
			"apiVersion": monitorGroups[metrics.PodMonitors],
			"kind":       "PodMonitor",
			"metadata":   map[string]any{"name": pods.name, "namespace": network.Spec.DataPlane.Namespace},
			"spec":       spec,
		})
	}
	return out
}
