package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// The reasons of this package's problems.
const (
	ReasonUnknownRelease  = "UnknownRelease"
	ReasonUnknownRunning  = "UnknownRunningRelease"
	ReasonUnknownNetwork  = "UnknownNetwork"
	ReasonKnownFaults     = "KnownFaults"
	ReasonMinorSkipped    = "MinorSkipped"
	ReasonMembersTooApart = "MembersTooFarApart"
)

// Observed is the release that each member was last seen to run, by member
// name. A member that is not in it runs nothing of isthmus yet. Nil is fine: a
// preview without a hub observes nothing.
type Observed map[string]string

// Decision is what one member should run.
type Decision struct {
	// Member and its network, from the fleet.
	Member  *v1alpha1.Member
	Network *v1alpha1.ApplicationNetwork
	// Gateway says that the member has an east-west gateway.
	Gateway bool
	// Release to run.
	Release catalog.Release
	// Reason for the release, such as `version "1.30" of the network`.
	Reason string
}

// Plan is what every member should run.
type Plan struct {
	// Decisions sorted by member name. A member with an error has none.
	Decisions []Decision
	// Problems of the fleet that the catalog or the members bring out.
	Problems fleet.Problems
}

// Make decides for every member of the fleet.
func Make(f *fleet.Fleet, c *catalog.Catalog, observed Observed) Plan {
	var p Plan
	gateways := map[string]bool{}
	for _, network := range f.Networks {
		gateways[network.Name] = f.NeedsGateways(network.Name)
	}
	for _, member := range f.Members {
		network := f.Network(member.Spec.ApplicationNetwork)
		if network == nil {
			p.add(unknownNetwork(f, member))
			continue
		}
		w := wishOf(f, network, member)
		decision, problem := decide(c, w, observed[member.Name])
		if problem != nil {
			p.add(f.ProblemAt(w.kind, w.name, w.path, *problem))
			continue
		}
		decision.Member, decision.Network, decision.Gateway = member, network, gateways[network.Name]
		p.Decisions = append(p.Decisions, decision)
		if problem := skipsMinor(decision, observed[member.Name]); problem != nil {
			p.add(f.ProblemAt(w.kind, w.name, w.path, *problem))
		}
	}
	for _, problem := range networkWarnings(f, c, p.Decisions) {
		p.add(problem)
	}
	p.Problems.Sort()
	return p
}

// add tells a problem once: what a network gets wrong, all its members do.
func (p *Plan) add(problem fleet.Problem) {
	if !slices.Contains(p.Problems, problem) {
		p.Problems = append(p.Problems, problem)
	}
}

// wish is what the fleet says about a member's release, and where.
type wish struct {
	upgrade v1alpha1.Upgrade
	// kind and name of the object that says it, and the path of the field.
	kind, name, path string
	// whose is for people: "the member" or "the network".
	whose string
}

func wishOf(f *fleet.Fleet, network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) wish {
	w := wish{kind: v1alpha1.MemberKind, name: member.Name, whose: "the member"}
	if member.Spec.Upgrade != nil {
		w.upgrade = *member.Spec.Upgrade
	}
	if inherits(f, network, member) {
		w = wish{kind: v1alpha1.ApplicationNetworkKind, name: network.Name, whose: "the network", upgrade: *network.Spec.Upgrade}
	}
	w.path = "spec.upgrade.version"
	if w.upgrade.Mode == v1alpha1.UpgradeFullyManaged {
		w.path = "spec.upgrade.channel"
	}
	return w
}

// inherits tells whether the member says nothing about its upgrade itself.
// Loading has filled in the network's, so they are equal, and the field has the
// line of what would hold it: nobody wrote it.
func inherits(f *fleet.Fleet, network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) bool {
	if network.Spec.Upgrade == nil {
		return false
	}
	if member.Spec.Upgrade == nil {
		return true
	}
	field := f.ProblemAt(v1alpha1.MemberKind, member.Name, "spec.upgrade", fleet.Problem{})
	holder := f.ProblemAt(v1alpha1.MemberKind, member.Name, "spec", fleet.Problem{})
	return *member.Spec.Upgrade == *network.Spec.Upgrade && field.Line == holder.Line
}

// decide returns the release and its reason, or why there is none.
func decide(c *catalog.Catalog, w wish, running string) (Decision, *fleet.Problem) {
	switch {
	case w.upgrade.Mode == v1alpha1.UpgradeFullyManaged:
		channel := string(w.upgrade.Channel)
		if channel == "" {
			channel = catalog.Stable
		}
		return resolve(c, channel, "", fmt.Sprintf("channel %q of %s", channel, w.whose))
	case w.upgrade.Version != "":
		return resolve(c, "", w.upgrade.Version, fmt.Sprintf("version %q of %s", w.upgrade.Version, w.whose))
	case running == "":
		return resolve(c, catalog.Stable, "", fmt.Sprintf("no version set, and new: channel %q", catalog.Stable))
	}
	release, known := c.Release(running)
	if !known {
		return Decision{}, &fleet.Problem{
			Severity: fleet.SeverityError, Reason: ReasonUnknownRunning,
			Message: fmt.Sprintf("no version set, and the release %q that the member runs is not in the catalog", running),
			Hint:    "name a version: " + versions(c),
		}
	}
	return Decision{Release: release, Reason: "no version set: keeps what it runs"}, nil
}

func resolve(c *catalog.Catalog, channel, version, reason string) (Decision, *fleet.Problem) {
	release, err := c.Resolve(channel, version)
	if err != nil {
		return Decision{}, &fleet.Problem{
			Severity: fleet.SeverityError, Reason: ReasonUnknownRelease,
			Message: err.Error(), Hint: "use one of " + versions(c),
		}
	}
	return Decision{Release: release, Reason: reason}, nil
}

func versions(c *catalog.Catalog) string {
	var out []string
	for _, release := range c.Releases() {
		out = append(out, release.Version)
	}
	return strings.Join(out, ", ")
}

func unknownNetwork(f *fleet.Fleet, member *v1alpha1.Member) fleet.Problem {
	return f.ProblemAt(v1alpha1.MemberKind, member.Name, "spec.applicationNetwork", fleet.Problem{
		Severity: fleet.SeverityError, Reason: ReasonUnknownNetwork,
		Message: fmt.Sprintf("network %q is not in the fleet", member.Spec.ApplicationNetwork),
	})
}

// skipsMinor warns of an upgrade in place that Istio does not support.
func skipsMinor(d Decision, running string) *fleet.Problem {
	if running == "" || catalog.Compare(running, d.Release.UpgradeFrom) >= 0 {
		return nil
	}
	return &fleet.Problem{
		Severity: fleet.SeverityWarning, Reason: ReasonMinorSkipped,
		Message: fmt.Sprintf("member %q moves from %q to %q, which skips a minor", d.Member.Name, running, d.Release.Version),
		Hint:    fmt.Sprintf("go by %s first", d.Release.UpgradeFrom),
	}
}
