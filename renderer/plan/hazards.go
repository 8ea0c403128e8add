package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// unknownHazards: a name that is misspelt accepts nothing.
func unknownHazards(g group, report reporter) {
	var known []string
	for _, hazard := range g.catalog.Hazards() {
		known = append(known, hazard.ID)
	}
	for i, id := range g.network.Spec.AcceptedHazards {
		if !slices.Contains(known, id) {
			report(g.ofNetwork(fmt.Sprintf("spec.acceptedHazards[%d]", i)), fmt.Sprintf("the catalog has no hazard %q", id),
				"`isthmus catalog show RELEASE` names those of a release")
		}
	}
}

// knownFaults warns once per release that a network's members run, at the first
// member that does.
func knownFaults(g group, report reporter) {
	told := map[string]bool{}
	concerned := g.concerns()
	for _, d := range g.members {
		version := d.Release.Version
		if told[version] {
			continue
		}
		told[version] = true
		if faults := g.relevant(version, concerned); len(faults) > 0 {
			report(d.where, fmt.Sprintf("release %q has known faults that concern network %q: %s",
				version, g.network.Name, strings.Join(faults, ", ")), g.faultsHint(version, concerned))
		}
	}
}

// concerns returns the parts of a network that hazards can harm. Certificates
// and upgrades concern every network and are left to those who act on them.
func (g group) concerns() []catalog.Concern {
	podNetworks := map[string]bool{}
	for _, d := range g.members {
		podNetworks[d.Member.Spec.Connectivity.Network] = true
	}
	var out []catalog.Concern
	spec := g.network.Spec
	if len(g.members) > 1 && spec.Discovery.Mode != v1alpha1.DiscoveryMessaging {
		out = append(out, catalog.ConcernPeers)
	}
	if spec.Trust.Revocation == v1alpha1.RevocationCRL {
		out = append(out, catalog.ConcernRevocation)
	}
	if len(podNetworks) > 1 {
		out = append(out, catalog.ConcernGateway)
		if slices.ContainsFunc(spec.Namespaces, func(n v1alpha1.MeshNamespace) bool { return n.Waypoint != nil }) {
			out = append(out, catalog.ConcernWaypoint)
		}
		if spec.Trust.Domain != "cluster.local" {
			out = append(out, catalog.ConcernTrustDomain)
		}
	}
	return out
}

// Faults returns the hazards of a release, by their ids in the order of the catalog,
// that a network should be warned of: those that can harm what its members do, and
// neither those that isthmus takes care of nor those that people have accepted.
// members are the decisions for all members of the network.
func Faults(c *catalog.Catalog, network *v1alpha1.ApplicationNetwork, members []Decision, version string) []string {
	g := group{scene: scene{catalog: c}, network: network, members: members}
	return g.relevant(version, g.concerns())
}

// relevant returns the hazards of a release to warn of: not those that isthmus
// takes care of, nor those that people have accepted.
func (g group) relevant(version string, concerned []catalog.Concern) []string {
	var ids []string
	for _, hazard := range g.catalog.HazardsOf(version) {
		if !hazard.Handled && slices.Contains(concerned, hazard.Concern) && !g.accepted(hazard.ID) {
			ids = append(ids, hazard.ID)
		}
	}
	return ids
}

func (g group) accepted(id string) bool {
	return slices.Contains(g.network.Spec.AcceptedHazards, id)
}

// faultsHint names the next release without any of the faults, if there is one.
func (g group) faultsHint(version string, concerned []catalog.Concern) string {
	hint := fmt.Sprintf("isthmus catalog show %s says what to do", version)
	for _, release := range slices.Backward(g.catalog.Releases()) {
		if catalog.Compare(release.Version, version) > 0 && len(g.relevant(release.Version, concerned)) == 0 {
			return hint + "; " + release.Version + " has none of them"
		}
	}
	return hint
}

// pluginConcerns are what hazards say of network plugins.
var pluginConcerns = map[v1alpha1.NetworkPlugin]catalog.Concern{
	v1alpha1.PluginCilium:         catalog.ConcernCilium,
	v1alpha1.PluginAzureCNI:       catalog.ConcernAzureCNI,
	v1alpha1.PluginAzureCNICilium: catalog.ConcernAzureCNICilium,
}

// networkPlugins warns of what a network plugin needs, once for all members that
// have it, at the first.
func networkPlugins(g group, report reporter) {
	first, count := map[string]Decision{}, map[string]int{}
	var order []catalog.Hazard
	for _, d := range g.members {
		concern, ok := pluginConcerns[d.Member.Spec.Cluster.CNI]
		if !ok {
			continue
		}
		for _, hazard := range g.catalog.HazardsOf(d.Release.Version) {
			if hazard.Concern != concern || hazard.Handled || g.accepted(hazard.ID) {
				continue
			}
			if count[hazard.ID]++; count[hazard.ID] == 1 {
				first[hazard.ID], order = d, append(order, hazard)
			}
		}
	}
	for _, hazard := range order {
		report(first[hazard.ID].ofMember("spec.cluster.cni"),
			fmt.Sprintf("%s (%s; members that have it: %d)", hazard.Summary, hazard.ID, count[hazard.ID]),
			hazard.Advice+"; then name it in the network's spec.acceptedHazards")
	}
}
