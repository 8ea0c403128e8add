package fleet

import (
	"cmp"
	"fmt"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// GatewayAPIOf returns who owns the Gateway API's CRDs on the member: the
// member's own word, field by field, else the network's, else the default. The
// version is empty where nobody says it.
func GatewayAPIOf(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) v1alpha1.GatewayAPI {
	var own, inherited v1alpha1.GatewayAPI
	if member.Spec.GatewayAPI != nil {
		own = *member.Spec.GatewayAPI
	}
	if network.Spec.GatewayAPI != nil {
		inherited = *network.Spec.GatewayAPI
	}
	return v1alpha1.GatewayAPI{
		Owner:   cmp.Or(own.Owner, inherited.Owner, v1alpha1.OwnerMember),
		Version: cmp.Or(own.Version, inherited.Version),
		Channel: cmp.Or(own.Channel, inherited.Channel, v1alpha1.GatewayAPIStandard),
	}
}

// ReleaseProblemAt returns p with the position of a release that the fleet
// declares, where it does so first; with a chart, such as "istiod", that of the
// chart's digest.
func (f *Fleet) ReleaseProblemAt(version, chart string, p Problem) Problem {
	for _, network := range f.Networks {
		for i, declared := range network.Spec.Releases {
			if declared.Version != version {
				continue
			}
			path := fmt.Sprintf("spec.releases[%d]", i)
			if chart != "" {
				path += ".charts.digests." + chart
			}
			return f.ProblemAt(v1alpha1.ApplicationNetworkKind, network.Name, path, p)
		}
	}
	return p
}
