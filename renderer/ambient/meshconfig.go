package ambient

import (
	"fmt"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// meshConfig is Istio's MeshConfig: what the fleet adds, what isthmus sets over
// it, and below both what the profile of the chart sets.
func meshConfig(m mesh) (map[string]any, error) {
	own := map[string]any{
		"trustDomain": m.trustDomain,
		// Gateways ask for their certificates by this variable.
		"defaultConfig": map[string]any{"proxyMetadata": map[string]any{"SECRET_TTL": seconds(m.workload)}},
	}
	var added map[string]any
	if m.meshConfig != "" {
		// Whole numbers stay whole: a chart would write a float as 1e+06.
		if err := utiljson.Unmarshal([]byte(m.meshConfig), &added); err != nil {
			return nil, fmt.Errorf("decode mesh config: %w", err)
		}
	}
	theirs, _ := added["extensionProviders"].([]any)
	if providers := append(theirs, telemetryProviders(m.collector)...); len(providers) > 0 {
		own["extensionProviders"] = providers
	}
	return fleet.Overlay(added, own), nil
}
