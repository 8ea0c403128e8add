package apply

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Footprint names what the engine reads or removes on a member beside the
// objects of a set: what rights on that member have to cover.
type Footprint struct {
	// GatewayClasses and ConfigMaps that istiod leaves behind, the ConfigMaps in
	// every namespace.
	GatewayClasses, ConfigMaps []string
	// GatewayChildren are the kinds that istiod makes for each Gateway.
	GatewayChildren []schema.GroupVersionKind
	// CRDs without which a member with Gateways is refused.
	CRDs []string
}

// Touched is the same for every member.
func Touched() Footprint {
	return Footprint{
		GatewayClasses:  slices.Sorted(maps.Keys(istiodClasses)),
		ConfigMaps:      slices.Clone(istiodConfigMaps),
		GatewayChildren: slices.Clone(gatewayChildren),
		CRDs:            slices.Clone(neededCRDs),
	}
}
