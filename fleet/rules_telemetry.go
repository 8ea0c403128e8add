package fleet

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// invalidTelemetry: what needs a collector has one, and scrapes are apart.
func invalidTelemetry(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	telemetry := spec.Telemetry
	if telemetry == nil {
		return
	}
	const hint = "name the service of an OpenTelemetry collector in spec.telemetry.collector"
	if telemetry.Tracing != nil && telemetry.Collector == nil {
		report("spec.telemetry.tracing", "there is no collector for the traces", hint)
	}
	if logs := telemetry.AccessLogs; logs != nil && logs.To == v1alpha1.LogToCollector && telemetry.Collector == nil {
		report("spec.telemetry.accessLogs.to", "there is no collector for the logs", hint)
	}
	if metrics := telemetry.Metrics; metrics != nil && metrics.Interval != nil {
		if d := metrics.Interval.Duration; d < time.Second || d%time.Second != 0 {
			report("spec.telemetry.metrics.interval", fmt.Sprintf("%s is not whole seconds, 1s at least", hours(d)), "")
		}
	}
}
