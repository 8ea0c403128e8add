package ambient

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
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
	if m.exports != "" {
		scopes, err := serviceScopes(m.exports)
		if err != nil {
			return nil, err
		}
		own["serviceScopeConfigs"] = scopes
	}
	return fleet.Overlay(added, own), nil
}

// encodeExports returns the exports as text, empty without any.
func encodeExports(exports []v1alpha1.Export) (string, error) {
	if len(exports) == 0 {
		return "", nil
	}
	encoded, err := json.Marshal(exports)
	if err != nil {
		return "", fmt.Errorf("encode exports: %w", err)
	}
	return string(encoded), nil
}

// serviceScopes says which Services are global: those with the label, as the
// profile has it, and those that the network exports. A list of ours replaces the
// profile's, so both have to be in it. A Service is global if any of them selects
// both its namespace and it; a selector that is not there selects everything.
// Namespaces are known by the label that API servers give each of them.
func serviceScopes(encoded string) ([]any, error) {
	var exports []v1alpha1.Export
	if err := utiljson.Unmarshal([]byte(encoded), &exports); err != nil {
		return nil, fmt.Errorf("decode exports: %w", err)
	}
	scopes := []any{map[string]any{
		"servicesSelector": map[string]any{"matchExpressions": []any{
			map[string]any{"key": labelGlobal, "operator": "In", "values": []any{"true"}},
		}},
		"scope": "GLOBAL",
	}}
	for _, export := range exports {
		scope := map[string]any{
			"namespaceSelector": map[string]any{"matchLabels": map[string]any{corev1.LabelMetadataName: export.Namespace}},
			"scope":             "GLOBAL",
		}
		if selector := export.Selector; selector != nil && len(selector.MatchLabels)+len(selector.MatchExpressions) > 0 {
			fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(selector)
			if err != nil {
				return nil, fmt.Errorf("selector of the export of namespace %q: %w", export.Namespace, err)
			}
			scope["servicesSelector"] = fields
		}
		scopes = append(scopes, scope)
	}
	return scopes, nil
}
