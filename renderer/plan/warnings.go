package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// networkWarnings returns what the releases of each network's members bring
// along. Decisions come sorted by member name, so "the first member" is the
// same on every run.
func networkWarnings(f *fleet.Fleet, c *catalog.Catalog, decisions []Decision) fleet.Problems {
	var problems fleet.Problems
	for _, network := range f.Networks {
		var members []Decision
		for _, d := range decisions {
			if d.Network == network {
				members = append(members, d)
			}
		}
		problems = append(problems, knownFaults(f, c, members)...)
		if problem := tooFarApart(f, members); problem != nil {
			problems = append(problems, *problem)
		}
	}
	return problems
}

// knownFaults warns once per release that a network's members run, at the first
// member that does.
func knownFaults(f *fleet.Fleet, c *catalog.Catalog, members []Decision) fleet.Problems {
	var problems fleet.Problems
	told := map[string]bool{}
	concerned := concerns(members)
	for _, d := range members {
		version := d.Release.Version
		if told[version] {
			continue
		}
		told[version] = true
		faults := relevant(c, version, concerned)
		if len(faults) == 0 {
			continue
		}
		w := wishOf(f, d.Network, d.Member)
		problems = append(problems, f.ProblemAt(w.kind, w.name, w.path, fleet.Problem{
			Severity: fleet.SeverityWarning, Reason: ReasonKnownFaults,
			Message: fmt.Sprintf("release %q has known faults that concern network %q: %s",
				version, d.Network.Name, strings.Join(faults, ", ")),
			Hint: faultsHint(c, version, concerned),
		}))
	}
	return problems
}

// concerns returns the parts of a network that hazards can harm. Certificates
// and upgrades concern every network and are left to those who act on them.
func concerns(members []Decision) []catalog.Concern {
	if len(members) == 0 {
		return nil
	}
	spec := members[0].Network.Spec
	podNetworks := map[string]bool{}
	for _, d := range members {
		podNetworks[d.Member.Spec.Connectivity.Network] = true
	}
	var out []catalog.Concern
	if len(members) > 1 && spec.Discovery.Mode != v1alpha1.DiscoveryMessaging {
		out = append(out, catalog.ConcernPeers)
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

func relevant(c *catalog.Catalog, version string, concerned []catalog.Concern) []string {
	var ids []string
	for _, hazard := range c.HazardsOf(version) {
		if !hazard.Handled && slices.Contains(concerned, hazard.Concern) {
			ids = append(ids, hazard.ID)
		}
	}
	return ids
}

// faultsHint names the next release without any of the faults, if there is one.
func faultsHint(c *catalog.Catalog, version string, concerned []catalog.Concern) string {
	hint := fmt.Sprintf("isthmus catalog show %s says what to do", version)
	releases := c.Releases()
	for _, release := range slices.Backward(releases) {
		if catalog.Compare(release.Version, version) > 0 && len(relevant(c, release.Version, concerned)) == 0 {
			return hint + "; " + release.Version + " has none of them"
		}
	}
	return hint
}

// tooFarApart warns when members of one network are more than one minor apart:
// they share a wire protocol, and Istio tests neighbours only.
func tooFarApart(f *fleet.Fleet, members []Decision) *fleet.Problem {
	if len(members) == 0 {
		return nil
	}
	oldest, newest := members[0], members[0]
	for _, d := range members[1:] {
		if catalog.Compare(d.Release.Version, oldest.Release.Version) < 0 {
			oldest = d
		}
		if catalog.Compare(d.Release.Version, newest.Release.Version) > 0 {
			newest = d
		}
	}
	if catalog.Compare(oldest.Release.Version, newest.Release.UpgradeFrom) >= 0 {
		return nil
	}
	w := wishOf(f, oldest.Network, oldest.Member)
	problem := f.ProblemAt(w.kind, w.name, w.path, fleet.Problem{
		Severity: fleet.SeverityWarning, Reason: ReasonMembersTooApart,
		Message: fmt.Sprintf("member %q runs %q and member %q of the same network runs %q: more than one minor apart",
			oldest.Member.Name, oldest.Release.Version, newest.Member.Name, newest.Release.Version),
		Hint: fmt.Sprintf("bring %q to %s first", oldest.Member.Name, newest.Release.UpgradeFrom),
	})
	return &problem
}
