package plan

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// The reasons of this package's problems. They are stable: people filter by
// them.
const (
	// ReasonUnknownRelease: the catalog has no such release.
	ReasonUnknownRelease = "UnknownRelease"
	// ReasonUnknownRunning: a member is to keep what it runs, and the catalog has
	// no such release.
	ReasonUnknownRunning = "UnknownRunningRelease"
	// ReasonUnknownNetwork: the fleet has no such network.
	ReasonUnknownNetwork = "UnknownNetwork"
	// ReasonReleaseNotFetched: the charts of a declared release are not there.
	ReasonReleaseNotFetched = "ReleaseNotFetched"
	// ReasonReleaseConflict: two networks declare one version with other charts.
	ReasonReleaseConflict = "ReleaseConflict"
	// ReasonReleaseBuiltIn: isthmus has the charts of a declared release itself.
	ReasonReleaseBuiltIn = "ReleaseBuiltIn"
	// ReasonMinorUnknown: nothing is known of a declared release's minor.
	ReasonMinorUnknown = "MinorUnknown"
	// ReasonGatewayAPIUnknown: isthmus is to deliver what it cannot verify.
	ReasonGatewayAPIUnknown = "GatewayAPIUnknown"
	// ReasonGatewayAPINotFetched: the CRDs to deliver are not there.
	ReasonGatewayAPINotFetched = "GatewayAPINotFetched"
	// ReasonGatewayAPIOld: the release leaves kinds alone whose CRDs are so old.
	ReasonGatewayAPIOld = "GatewayAPIOld"
	// ReasonTrustDomainChanged: members that run know each other by the old one.
	ReasonTrustDomainChanged = "TrustDomainChanged"
	// ReasonRevocationNotRead: node proxies of the release read no list of what is
	// revoked.
	ReasonRevocationNotRead = "RevocationNotRead"
	// ReasonMinorSkipped: Istio upgrades in place one minor at a time.
	ReasonMinorSkipped = "MinorSkipped"
	// ReasonRollbackTooFar: Istio goes back one minor and no more.
	ReasonRollbackTooFar = "RollbackTooFar"
	// ReasonRollback: a member goes back a minor.
	ReasonRollback = "Rollback"
	// ReasonKubernetesTooOld: the release needs a newer Kubernetes.
	ReasonKubernetesTooOld = "KubernetesTooOld"
	// ReasonKubernetesTooNew: nobody has tested the release with it.
	ReasonKubernetesTooNew = "KubernetesTooNew"
	// ReasonImageNotPinned: images are pinned, and those of this release are not.
	ReasonImageNotPinned = "ImageNotPinned"
	// ReasonMembersTooApart: members run releases that are not tested together.
	ReasonMembersTooApart = "MembersTooFarApart"
	// ReasonUnknownHazard: the catalog has no such hazard to accept.
	ReasonUnknownHazard = "UnknownHazard"
	// ReasonKnownFaults: the release has faults that can harm this network.
	ReasonKnownFaults = "KnownFaults"
	// ReasonNetworkPlugin: the cluster's network plugin needs settings.
	ReasonNetworkPlugin = "NetworkPlugin"
)

// rule is one named check of a network and the decisions for its members.
type rule struct {
	reason   string
	severity fleet.Severity
	check    func(g group, report reporter)
}

// rules in the order in which they run. Every rule runs, whatever the others
// found.
var rules = []rule{
	{ReasonReleaseConflict, fleet.SeverityError, eachRelease(releaseConflict)},
	{ReasonReleaseBuiltIn, fleet.SeverityWarning, eachRelease(releaseBuiltIn)},
	{ReasonMinorUnknown, fleet.SeverityWarning, eachRelease(minorUnknown)},
	{ReasonGatewayAPIUnknown, fleet.SeverityError, eachMember(gatewayAPIUnknown)},
	{ReasonGatewayAPINotFetched, fleet.SeverityError, gatewayAPINotFetched},
	{ReasonGatewayAPIOld, fleet.SeverityWarning, eachMember(gatewayAPIOld)},
	{ReasonTrustDomainChanged, fleet.SeverityError, trustDomainChanged},
	{ReasonRevocationNotRead, fleet.SeverityError, revocationNotRead},
	{ReasonMinorSkipped, fleet.SeverityError, eachMember(minorSkipped)},
	{ReasonRollbackTooFar, fleet.SeverityError, eachMember(rollbackTooFar)},
	{ReasonRollback, fleet.SeverityWarning, eachMember(rollback)},
	{ReasonKubernetesTooOld, fleet.SeverityError, eachMember(kubernetesTooOld)},
	{ReasonKubernetesTooNew, fleet.SeverityWarning, eachMember(kubernetesTooNew)},
	{ReasonImageNotPinned, fleet.SeverityError, eachMember(imageNotPinned)},
	{ReasonMembersTooApart, fleet.SeverityWarning, membersTooApart},
	{ReasonUnknownHazard, fleet.SeverityError, unknownHazards},
	{ReasonKnownFaults, fleet.SeverityWarning, knownFaults},
	{ReasonNetworkPlugin, fleet.SeverityWarning, networkPlugins},
}

// scene is what rules may look at beside the decisions.
type scene struct {
	fleet    *fleet.Fleet
	catalog  *catalog.Catalog
	observed Observed
}

// group is one network and the decisions for its members, sorted by name.
type group struct {
	scene
	network *v1alpha1.ApplicationNetwork
	members []Decision
}

// reporter takes what a rule found: where, what, and a hint or nothing.
type reporter func(at position, message, hint string)

// checkNetworks runs every rule for every network.
func checkNetworks(s scene, decisions []Decision, found problems) {
	members := map[*v1alpha1.ApplicationNetwork][]Decision{}
	for _, d := range decisions {
		members[d.Network] = append(members[d.Network], d)
	}
	for _, network := range s.fleet.Networks {
		g := group{s, network, members[network]}
		for _, rule := range rules {
			rule.check(g, func(at position, message, hint string) {
				found[at.at(s.fleet, fleet.Problem{
					Severity: rule.severity, Reason: rule.reason, Message: message, Hint: hint,
				})] = true
			})
		}
	}
}

// eachMember checks one member after another.
func eachMember(check func(d Decision, seen Seen, report reporter)) func(group, reporter) {
	return func(g group, report reporter) {
		for _, d := range g.members {
			check(d, seenOf(g.observed, d.Member), report)
		}
	}
}

// ofMember and ofNetwork are fields of the objects that a decision is about.
func (d Decision) ofMember(path string) position {
	return position{v1alpha1.MemberKind, d.Member.Name, path}
}

func (g group) ofNetwork(path string) position {
	return position{v1alpha1.ApplicationNetworkKind, g.network.Name, path}
}

// trustDomainChanged: a workload's identity has the trust domain in it, and
// those with the old one and those with the new refuse each other.
func trustDomainChanged(g group, report reporter) {
	before, now := g.observed.TrustDomains[g.network.Name], g.network.Spec.Trust.Domain
	if before != "" && before != now {
		report(g.ofNetwork("spec.trust.domain"), fmt.Sprintf("members of network %q run with trust domain %q", g.network.Name, before),
			"make a new network with the new domain, and move members to it one by one")
	}
}

// revocationNotRead: a member that takes revoked certificates is a way around the
// list for all that trust it.
func revocationNotRead(g group, report reporter) {
	if g.network.Spec.Trust.Revocation != v1alpha1.RevocationCRL {
		return
	}
	var names []string
	for _, d := range g.members {
		if !d.Release.ChecksRevocation() {
			names = append(names, fmt.Sprintf("%q (%s)", d.Member.Name, d.Release.Version))
		}
	}
	if len(names) == 0 {
		return
	}
	report(g.ofNetwork("spec.trust.revocation"), "node proxies read no list of what is revoked on "+strings.Join(names, ", "),
		"move them to 1.29 or newer first; until then replace the root to be rid of a member's CA")
}

// imageNotPinned: an image that is not pinned among others that are is a hole
// that nobody sees.
func imageNotPinned(d Decision, _ Seen, report reporter) {
	components, err := fleet.ComponentsOf(d.Network, d.Member)
	if err != nil || components.Images == nil || len(components.Images.Digests) == 0 {
		return
	}
	for _, digests := range components.Images.Digests {
		if digests.Release == d.Release.Version {
			return
		}
	}
	const path = "spec.components.images.digests"
	at := position{v1alpha1.ApplicationNetworkKind, d.Network.Name, path}
	if own := d.Member.Spec.Components; own != nil && own.Images != nil && len(own.Images.Digests) > 0 {
		at = d.ofMember(path)
	}
	report(at, fmt.Sprintf("no digests of release %q, which member %q is to run", d.Release.Version, d.Member.Name),
		"add the digests of its images, pilot, proxyv2, install-cni and ztunnel, variant distroless")
}
