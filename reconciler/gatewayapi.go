package reconciler

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// ReasonGatewayAPIDiffers is the reason of the event for a member whose CRDs of
// the Gateway API are not what the fleet or the release expects.
const ReasonGatewayAPIDiffers = "GatewayAPIDiffers"

// checkGatewayAPI looks, before a set is delivered that needs the member's own
// CRDs of the Gateway API, whether they are there: without them the last stage
// would fail, and say less. What is there but not as expected is announced.
func (r *memberReconciler) checkGatewayAPI(ctx context.Context, c *connection, set apply.Set, m *v1alpha1.Member, network *v1alpha1.ApplicationNetwork) *status.Failure {
	if !set.NeedsGatewayAPI() {
		return nil
	}
	found, err := c.target.GatewayAPI(ctx)
	if err != nil {
		return memberFailure(err)
	}
	if differs := gatewayAPIDiffers(fleet.GatewayAPIOf(network, m), set.Release, found); differs != "" {
		r.events.Event(m, corev1.EventTypeWarning, ReasonGatewayAPIDiffers, differs)
	}
	return nil
}

// gatewayAPIDiffers says what of a member's CRDs is not as expected; empty for
// nothing.
func gatewayAPIDiffers(said v1alpha1.GatewayAPI, release string, found catalog.GatewayAPI) string {
	var differs []string
	if said.Version != "" && said.Version != found.Version {
		differs = append(differs, fmt.Sprintf("the fleet says version %s and the member has %s", said.Version, orNone(found.Version)))
	}
	if said.Channel == v1alpha1.GatewayAPIExperimental && found.Channel != catalog.ChannelExperimental {
		differs = append(differs, fmt.Sprintf("the fleet says channel %s and the member has %s", catalog.ChannelExperimental, orNone(found.Channel)))
	}
	if found.Version != "" {
		for _, kind := range (catalog.Release{Version: release}).Unread(found.Version) {
			differs = append(differs, fmt.Sprintf("release %s leaves objects of kind %s alone below %s", release, kind.Kind, kind.Since))
		}
	}
	if len(differs) == 0 {
		return ""
	}
	return "Gateway API " + orNone(found.Version) + ": " + strings.Join(differs, "; ")
}

func orNone(text string) string {
	if text == "" {
		return "none that is named"
	}
	return text
}
