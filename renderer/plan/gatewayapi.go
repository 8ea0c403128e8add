package plan

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// GatewayAPI returns the CRDs that isthmus delivers to the member, and false
// where the member has its own. The version is that of the fleet, else the one
// that the release is built with.
func (d Decision) GatewayAPI() (catalog.GatewayAPI, bool) {
	wish := fleet.GatewayAPIOf(d.Network, d.Member)
	if wish.Owner != v1alpha1.OwnerIsthmus {
		return catalog.GatewayAPI{}, false
	}
	return catalog.GatewayAPI{
		Version: cmp.Or(wish.Version, d.Release.GatewayAPI),
		Channel: strings.ToLower(string(wish.Channel)),
	}, true
}

// gatewayAPIPath is the field that settles the version for a member.
func gatewayAPIPath(d Decision) position {
	const path = "spec.gatewayAPI.version"
	if own := d.Member.Spec.GatewayAPI; own != nil && (own.Version != "" || d.Network.Spec.GatewayAPI == nil) {
		return d.ofMember(path)
	}
	return position{v1alpha1.ApplicationNetworkKind, d.Network.Name, path}
}

func gatewayAPIUnknown(d Decision, _ Seen, report reporter) {
	api, ours := d.GatewayAPI()
	if _, known := catalog.GatewayAPISum(api.Version); ours && !known {
		report(gatewayAPIPath(d), fmt.Sprintf("isthmus has no checksum of Gateway API %q and does not deliver it", api.Version),
			"use one of "+strings.Join(catalog.GatewayAPIVersions(), ", ")+", or owner: Member")
	}
}

func gatewayAPINotFetched(g group, report reporter) {
	for _, d := range g.members {
		api, ours := d.GatewayAPI()
		_, known := catalog.GatewayAPISum(api.Version)
		if _, there := g.catalog.GatewayAPI(api); ours && known && !there {
			report(gatewayAPIPath(d), fmt.Sprintf("the CRDs of Gateway API %s have not been fetched", api), "")
		}
	}
}

// gatewayAPIOld: istiod leaves a kind alone whose CRD is older than it can read,
// and says so in its log at most.
func gatewayAPIOld(d Decision, _ Seen, report reporter) {
	version := fleet.GatewayAPIOf(d.Network, d.Member).Version
	if api, ours := d.GatewayAPI(); ours {
		version = api.Version
	}
	unread := d.Release.Unread(version)
	if version == "" || len(unread) == 0 {
		return
	}
	var kinds []string
	for _, minimum := range unread {
		kinds = append(kinds, minimum.Kind+" (from "+minimum.Since+")")
	}
	report(gatewayAPIPath(d), fmt.Sprintf("with Gateway API %s, release %q leaves objects of some kinds alone: %s",
		version, d.Release.Version, strings.Join(kinds, ", ")), "the release is built with "+d.Release.GatewayAPI)
}
