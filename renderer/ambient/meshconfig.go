package ambient

import (
	"fmt"
	"maps"

	utiljson "k8s.io/apimachinery/pkg/util/json"
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
	return over(added, own), nil
}

// over returns the fields below with those above in their place, and maps merged.
func over(below, above map[string]any) map[string]any {
	out := maps.Clone(below)
	if out == nil {
		out = map[string]any{}
	}
	for name, value := range above {
		inner, isMap := value.(map[string]any)
		under, both := below[name].(map[string]any)
		if isMap && both {
			value = over(under, inner)
		}
		out[name] = value
	}
	return out
}
