package fleet

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// ComponentsOf returns the settings of the member's components: its own, field
// by field, else the network's. A list is one field, a map's entries are fields.
func ComponentsOf(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) (v1alpha1.Components, error) {
	own, inherited := member.Spec.Components, network.Spec.Components
	switch {
	case own == nil && inherited == nil:
		return v1alpha1.Components{}, nil
	case own == nil:
		return *inherited, nil
	case inherited == nil:
		return *own, nil
	}
	var out v1alpha1.Components
	below, err := fieldsOf(inherited)
	if err != nil {
		return out, err
	}
	above, err := fieldsOf(own)
	if err != nil {
		return out, err
	}
	encoded, err := json.Marshal(Overlay(below, above))
	if err != nil {
		return out, fmt.Errorf("encode components: %w", err)
	}
	if err := json.Unmarshal(encoded, &out); err != nil {
		return out, fmt.Errorf("decode components: %w", err)
	}
	return out, nil
}

func fieldsOf(components *v1alpha1.Components) (map[string]any, error) {
	encoded, err := json.Marshal(components)
	if err != nil {
		return nil, fmt.Errorf("encode components: %w", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return nil, fmt.Errorf("decode components: %w", err)
	}
	return fields, nil
}

// Overlay returns the fields below with those above in their place; where both
// have fields under one name, those of both. Either may be nil.
func Overlay(below, above map[string]any) map[string]any {
	out := map[string]any{}
	maps.Copy(out, below)
	for name, value := range above {
		inner, ok := value.(map[string]any)
		under, both := below[name].(map[string]any)
		if ok && both {
			value = Overlay(under, inner)
		}
		out[name] = value
	}
	return out
}

// HostingNamespace is the namespace in a host in which the member's istiod runs.
func HostingNamespace(network *v1alpha1.ApplicationNetwork, member string) string {
	return network.Spec.DataPlane.Namespace + "-" + member
}
