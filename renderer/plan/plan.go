package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Observed is what the hub has seen of the fleet. The zero value is fine: a
// preview without a hub observes nothing.
type Observed struct {
	// Members by name. A member that is not in it runs nothing of isthmus yet.
	Members map[string]Seen
	// TrustDomains of the networks that have members, by name.
	TrustDomains map[string]string
}

// Seen is what was last seen of one member; empty fields are not known.
type Seen struct {
	// Release that the member runs, such as "1.30.4".
	Release string
	// Kubernetes is the version of its API server, such as "1.34.1".
	Kubernetes string
}

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
	// Hosted are the decisions for the members whose istiod runs in this one.
	Hosted []Decision

	// where the fleet says which release.
	where position
}

// DecidedBy returns kind and name of the object of the fleet whose spec.upgrade says
// which release.
func (d Decision) DecidedBy() (kind, name string) { return d.where.kind, d.where.name }

// Plan is what every member should run.
type Plan struct {
	// Decisions sorted by member name. A member with an error has none.
	Decisions []Decision
	// Problems of the fleet that the catalog or the members bring out.
	Problems fleet.Problems
}

// Make decides for every member of the fleet.
func Make(f *fleet.Fleet, c *catalog.Catalog, observed Observed) Plan {
	found := problems{}
	gateways := map[string]bool{}
	catalogs := map[string]*catalog.Catalog{}
	for _, network := range f.Networks {
		gateways[network.Name] = f.NeedsGateways(network.Name)
		catalogs[network.Name] = VisibleTo(network, c)
	}
	var p Plan
	for _, member := range f.Members {
		network := f.Network(member.Spec.ApplicationNetwork)
		if network == nil {
			found[unknownNetwork(f, member)] = true
			continue
		}
		w := wishOf(f, network, member)
		seen := seenOf(observed, member)
		decision, problem := decide(catalogs[network.Name], w, seen)
		if problem == nil && decision.Release.Charts == nil {
			problem = notFetched(decision.Release)
		}
		if problem != nil {
			found[w.at(f, *problem)] = true
			continue
		}
		decision.Member, decision.Network, decision.Gateway = member, network, gateways[network.Name]
		decision.where = w.position
		p.Decisions = append(p.Decisions, decision)
	}
	attachHosted(p.Decisions)
	checkNetworks(scene{f, c, observed}, p.Decisions, found)
	p.Problems = slices.Collect(maps.Keys(found))
	p.Problems.Sort()
	return p
}

// attachHosted gives each host the decisions for those that it hosts.
func attachHosted(decisions []Decision) {
	hosts := map[string]int{}
	for i, d := range decisions {
		hosts[d.Member.Name] = i
	}
	for _, d := range decisions {
		if host, ok := hosts[d.Member.Spec.ControlPlane.Host]; ok {
			decisions[host].Hosted = append(decisions[host].Hosted, d)
		}
	}
}

// seenOf returns what is known of a member: what was seen goes before what the
// fleet declares.
func seenOf(observed Observed, member *v1alpha1.Member) Seen {
	seen := observed.Members[member.Name]
	seen.Kubernetes = cmp.Or(seen.Kubernetes, member.Spec.Cluster.KubernetesVersion)
	return seen
}

// problems are told once: what a network gets wrong, all its members do.
type problems map[fleet.Problem]bool

// position is a field of the fleet.
type position struct{ kind, name, path string }

// at returns the problem with the file and line of the field.
func (p position) at(f *fleet.Fleet, problem fleet.Problem) fleet.Problem {
	return f.ProblemAt(p.kind, p.name, p.path, problem)
}

// wish is what the fleet says about a member's release, and where.
type wish struct {
	position
	upgrade v1alpha1.Upgrade
	// whose is for people: "the member" or "the network".
	whose string
}

func wishOf(f *fleet.Fleet, network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) wish {
	w := wish{position: position{kind: v1alpha1.MemberKind, name: member.Name}, whose: "the member"}
	if member.Spec.Upgrade != nil {
		w.upgrade = *member.Spec.Upgrade
	}
	if inherits(f, network, member) {
		w = wish{position: position{kind: v1alpha1.ApplicationNetworkKind, name: network.Name}, whose: "the network", upgrade: *network.Spec.Upgrade}
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
func decide(c *catalog.Catalog, w wish, seen Seen) (Decision, *fleet.Problem) {
	switch {
	case w.upgrade.Mode == v1alpha1.UpgradeFullyManaged:
		channel := cmp.Or(string(w.upgrade.Channel), catalog.Stable)
		return follow(c, channel, seen, fmt.Sprintf("channel %q of %s", channel, w.whose))
	case w.upgrade.Version != "":
		release, err := c.Resolve("", w.upgrade.Version)
		return decided(c, release, err, fmt.Sprintf("version %q of %s", w.upgrade.Version, w.whose))
	case seen.Release == "":
		return follow(c, catalog.Stable, seen, fmt.Sprintf("no version set, and new: channel %q", catalog.Stable))
	}
	release, known := c.Release(seen.Release)
	if !known {
		return Decision{}, &fleet.Problem{
			Severity: fleet.SeverityError, Reason: ReasonUnknownRunning,
			Message: fmt.Sprintf("no version set, and the release %q that the member runs is not in the catalog", seen.Release),
			Hint:    "name a version: " + versions(c),
		}
	}
	return Decision{Release: release, Reason: "no version set: keeps what it runs"}, nil
}

// follow returns the release of a channel for the member's Kubernetes. A channel
// takes nobody back: who has moved to a slower one waits for it.
func follow(c *catalog.Catalog, channel string, seen Seen, reason string) (Decision, *fleet.Problem) {
	release, err := c.ResolveChannel(channel, seen.Kubernetes)
	running, known := c.Release(seen.Release)
	switch newest, _ := c.ResolveChannel(channel, ""); {
	case err == nil && known && catalog.Compare(running.Version, release.Version) > 0:
		return Decision{Release: running, Reason: fmt.Sprintf("%s is at %s: keeps the newer one that it runs", reason, release.Version)}, nil
	case err == nil && release.Version != newest.Version:
		reason += " for Kubernetes " + seen.Kubernetes
	}
	return decided(c, release, err, reason)
}

func decided(c *catalog.Catalog, release catalog.Release, err error, reason string) (Decision, *fleet.Problem) {
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
