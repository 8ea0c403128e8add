package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// path of the field that is proposed to change.
const path = "spec.upgrade.version"

// Options of [Propose].
type Options struct {
	// Now is when it is.
	Now time.Time
	// Days before its end of life in which the next minor is proposed.
	Days int
	// Network that proposals are wanted for; empty for all.
	Network string
}

// Proposal is another version for what a network writes in one or several places.
type Proposal struct {
	// Network that it is of.
	Network string `json:"network"`
	// Documents that write the version: the network's first, then those of members by
	// name.
	Documents []Document `json:"documents"`
	// Members that move, by name.
	Members []string `json:"members"`
	// From and To are what the documents say and what they should: a full version, or a
	// minor where they name one.
	From string `json:"from"`
	To   string `json:"to"`
	// FromRelease and ToRelease are the releases that they lead to.
	FromRelease string `json:"fromRelease"`
	ToRelease   string `json:"toRelease"`
	// Why it is proposed, a sentence each.
	Why []string `json:"why"`
	// Cured are the known faults of the old release that the new one lacks, New are those
	// that it brings, by the ids of the catalog's hazards.
	Cured []string `json:"curedFaults,omitempty"`
	New   []string `json:"newFaults,omitempty"`
	// Expect says what else comes with the new release.
	Expect []string `json:"expect,omitempty"`
	// Held says by what it is held; empty if by nothing.
	Held string `json:"held,omitempty"`
}

// Document is an object of the fleet that writes a version.
type Document struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// File below the fleet's path, and the line of the version.
	File string `json:"file"`
	Line int    `json:"line"`
}

// String is "file:line".
func (d Document) String() string { return fmt.Sprintf("%s:%d", d.File, d.Line) }

// Minor tells whether it leaves a minor.
func (p Proposal) Minor() bool { return catalog.Minor(p.FromRelease) != catalog.Minor(p.ToRelease) }

// ID tells proposals of a fleet apart, and stays the same when there is a newer patch:
// "prod-1.31" for what the network itself writes, "prod-1.29.1-to-1.30" for members
// with a version of their own.
func (p Proposal) ID() string {
	if p.Documents[0].Kind == v1alpha1.ApplicationNetworkKind {
		return p.Network + "-" + catalog.Minor(p.ToRelease)
	}
	return p.Network + "-" + p.From + "-to-" + catalog.Minor(p.ToRelease)
}

// Title says it in one line.
func (p Proposal) Title() string {
	return fmt.Sprintf("Upgrade %s to Istio %s (from %s)", p.subject(), p.ToRelease, p.FromRelease)
}

// subject is whose version it is.
func (p Proposal) subject() string {
	if p.Documents[0].Kind == v1alpha1.ApplicationNetworkKind {
		return p.Network
	}
	first := p.Documents[0].Name + " of " + p.Network
	if more := len(p.Documents) - 1; more > 0 {
		return fmt.Sprintf("%s and %d more", first, more)
	}
	return first
}

// Replacements is what changes in the fleet's files.
func (p Proposal) Replacements() []fleet.Replacement {
	var out []fleet.Replacement
	for _, d := range p.Documents {
		out = append(out, fleet.Replacement{Kind: d.Kind, Name: d.Name, Path: path, Old: p.From, New: p.To})
	}
	return out
}

// Verify returns an error if after is more than before with the proposal, such as when
// the version is written once for several fields.
func (p Proposal) Verify(before, after *fleet.Fleet) error {
	const shared = "more than the version changes with its line: is it shared by an anchor?"
	if len(before.Networks) != len(after.Networks) || len(before.Members) != len(after.Members) {
		return errors.New(shared)
	}
	for i, network := range before.Networks {
		want := network.DeepCopy()
		if p.writes(v1alpha1.ApplicationNetworkKind, network.Name) {
			want.Spec.Upgrade.Version = p.To
		}
		if !reflect.DeepEqual(want, after.Networks[i]) {
			return fmt.Errorf("network %q: %s", network.Name, shared)
		}
	}
	for i, member := range before.Members {
		want := member.DeepCopy()
		if slices.Contains(p.Members, member.Name) {
			want.Spec.Upgrade.Version = p.To
		}
		if !reflect.DeepEqual(want, after.Members[i]) {
			return fmt.Errorf("member %q: %s", member.Name, shared)
		}
	}
	return nil
}

func (p Proposal) writes(kind, name string) bool {
	return slices.ContainsFunc(p.Documents, func(d Document) bool { return d.Kind == kind && d.Name == name })
}

// Propose returns what to propose for a fleet, by network and version, and notes on
// what it proposes nothing for. decisions are those of the fleet as it is, c is the
// catalog with the releases that the fleet declares.
func Propose(f *fleet.Fleet, decisions []plan.Decision, c *catalog.Catalog, o Options) (proposals []Proposal, notes []string) {
	for _, network := range f.Networks {
		if o.Network != "" && o.Network != network.Name {
			continue
		}
		s := scene{
			Options: o, fleet: f, network: network, catalog: plan.VisibleTo(network, c),
			members: slices.DeleteFunc(slices.Clone(decisions), func(d plan.Decision) bool { return d.Network.Name != network.Name }),
		}
		lines, others := s.lines()
		notes = append(notes, others...)
		for _, l := range lines {
			found, note := s.propose(l)
			proposals = append(proposals, found...)
			if note != "" {
				notes = append(notes, note)
			}
		}
	}
	return proposals, notes
}

// scene is a network and what is known of it.
type scene struct {
	Options
	fleet   *fleet.Fleet
	network *v1alpha1.ApplicationNetwork
	members []plan.Decision
	catalog *catalog.Catalog
}

// line is a version that a network writes, wherever it does.
type line struct {
	version   string
	documents []Document
	members   []string
}

// lines returns what is written, the network's own first, and notes on who follows
// something else.
func (s scene) lines() (out []line, notes []string) {
	at := func(version string) *line {
		for i := range out {
			if out[i].version == version {
				return &out[i]
			}
		}
		out = append(out, line{version: version})
		return &out[len(out)-1]
	}
	own := s.network.Spec.Upgrade
	switch {
	case own.Version != "":
		l := at(own.Version)
		l.documents = append(l.documents, s.document(v1alpha1.ApplicationNetworkKind, s.network.Name))
	case own.Mode == v1alpha1.UpgradeFullyManaged:
		notes = append(notes, fmt.Sprintf("network %q follows channel %q: nothing to propose", s.network.Name, channelOf(own)))
	default:
		notes = append(notes, fmt.Sprintf("network %q names no version: its members keep what they run", s.network.Name))
	}
	following := map[string]int{}
	for _, d := range s.members {
		kind, name := d.DecidedBy()
		upgrade := d.Member.Spec.Upgrade
		ofMember := kind == v1alpha1.MemberKind
		switch {
		case upgrade.Version != "":
			l := at(upgrade.Version)
			l.members = append(l.members, d.Member.Name)
			if ofMember {
				l.documents = append(l.documents, s.document(kind, name))
			}
		case ofMember && upgrade.Mode == v1alpha1.UpgradeFullyManaged:
			following[channelOf(upgrade)]++
		}
	}
	for _, channel := range []string{catalog.Rapid, catalog.Stable} {
		if n := following[channel]; n > 0 {
			notes = append(notes, fmt.Sprintf("network %q: members that follow channel %q by themselves: %d", s.network.Name, channel, n))
		}
	}
	return out, notes
}

func channelOf(u *v1alpha1.Upgrade) string { return cmp.Or(string(u.Channel), catalog.Stable) }

func (s scene) document(kind, name string) Document {
	at := s.fleet.ProblemAt(kind, name, path, fleet.Problem{})
	return Document{Kind: kind, Name: name, File: at.File, Line: at.Line}
}

// propose returns the newest patch, and the next minor, where there is a reason.
func (s scene) propose(l line) (out []Proposal, note string) {
	current, err := s.catalog.Resolve("", l.version)
	if err != nil {
		return nil, fmt.Sprintf("network %q: %v", s.network.Name, err)
	}
	newest := current
	for _, r := range s.releases() {
		if r.Minor == current.Minor && catalog.Compare(r.Version, newest.Version) > 0 {
			newest = r
		}
	}
	if l.version != current.Minor && catalog.Compare(newest.Version, current.Version) > 0 {
		out = append(out, s.proposal(l, current, newest,
			fmt.Sprintf("%s is the newest patch of Istio %s that isthmus knows.", newest.Version, current.Minor)))
	}
	next, why, note := s.onward(current, newest)
	if len(why) > 0 {
		out = append(out, s.proposal(l, current, next, why...))
	}
	return out, note
}

// onward returns the release of another minor to move to, and why, if there is a
// reason to; the note says that there is one, and no such release.
func (s scene) onward(current, newest catalog.Release) (next catalog.Release, why []string, note string) {
	steps := s.steps(current)
	if ending := s.ending(current); ending != "" {
		if len(steps) == 0 {
			return next, nil, fmt.Sprintf("network %q: %s, and isthmus knows no release to move to from there: a newer isthmus may, or declare one in spec.releases", s.network.Name, ending)
		}
		why = []string{ending + "."}
		for _, r := range steps {
			if !r.EndsWithin(s.Now, s.Days) {
				return r, why, ""
			}
		}
		next = steps[len(steps)-1]
		return next, append(why, s.ending(next)+", too: it is a step on the way, since Istio supports one minor at a time."), ""
	}
	faults := s.faults(newest)
	for _, r := range steps {
		after := s.faults(r)
		if len(lacking(faults, after)) > 0 && len(lacking(after, faults)) == 0 {
			return r, []string{fmt.Sprintf("%s, the newest patch of Istio %s that isthmus knows, has known faults that concern network %s.", newest.Version, newest.Minor, s.network.Name)}, ""
		}
	}
	return next, nil, ""
}

// ending says that the minor of a release has ended or is about to; empty if not.
func (s scene) ending(r catalog.Release) string {
	when := "on "
	if len(r.EndOfLife) == len("2006-01") {
		when = "in "
	}
	switch {
	case r.Ended(s.Now):
		return fmt.Sprintf("Istio %s reached its end of life %s%s", r.Minor, when, r.EndOfLife)
	case r.EndsWithin(s.Now, s.Days):
		return fmt.Sprintf("Istio %s reaches its end of life %s%s", r.Minor, when, r.EndOfLife)
	}
	return ""
}

// steps are the newest patches of the minors that can be moved to in place, the
// nearest first.
func (s scene) steps(current catalog.Release) []catalog.Release {
	var out []catalog.Release
	for _, r := range slices.Backward(s.releases()) {
		reached := catalog.Compare(r.Minor, current.Minor) > 0 && catalog.Compare(current.Minor, r.UpgradeFrom) >= 0
		if !reached {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Minor == r.Minor {
			out[n-1] = r
			continue
		}
		out = append(out, r)
	}
	return out
}

// releases are those to propose, the newest first: no candidates.
func (s scene) releases() []catalog.Release {
	return slices.DeleteFunc(s.catalog.Releases(), func(r catalog.Release) bool { return strings.ContainsAny(r.Version, "-+") })
}

func (s scene) faults(r catalog.Release) []string {
	return plan.Faults(s.catalog, s.network, s.members, r.Version)
}

// proposal writes down a step: a minor stays a minor.
func (s scene) proposal(l line, from, to catalog.Release, why ...string) Proposal {
	p := Proposal{
		Network: s.network.Name, Documents: l.documents, Members: l.members,
		From: l.version, To: to.Version, FromRelease: from.Version, ToRelease: to.Version, Why: why,
		Cured: lacking(s.faults(from), s.faults(to)), New: lacking(s.faults(to), s.faults(from)),
		Expect: s.expect(from, to), Held: s.apart(l, to),
	}
	if l.version == from.Minor {
		p.To = to.Minor
	}
	return p
}

// expect says what changes when a member moves to the release.
func (s scene) expect(from, to catalog.Release) []string {
	var out []string
	for _, h := range s.catalog.HazardsOf(to.Version) {
		if h.Concern == catalog.ConcernUpgrade && !h.Handled && !h.Matches(from.Version) {
			out = append(out, h.Summary+": "+h.Advice)
		}
	}
	return out
}

// apart says which other members of the network would be too far behind the release.
func (s scene) apart(l line, to catalog.Release) string {
	var behind []string
	for _, d := range s.members {
		known := d.Member.Spec.Upgrade.Version != "" || d.Member.Spec.Upgrade.Mode == v1alpha1.UpgradeFullyManaged
		if known && !slices.Contains(l.members, d.Member.Name) && catalog.Compare(d.Release.Minor, to.UpgradeFrom) < 0 {
			behind = append(behind, fmt.Sprintf("%s (%s)", d.Member.Name, d.Release.Version))
		}
	}
	if len(behind) == 0 {
		return ""
	}
	return fmt.Sprintf("other members of the network would be more than one minor behind: bring them to %s first: %s", to.UpgradeFrom, strings.Join(behind, ", "))
}

// lacking returns those of some that are not among others.
func lacking(some, others []string) []string {
	var out []string
	for _, each := range some {
		if !slices.Contains(others, each) {
			out = append(out, each)
		}
	}
	return out
}
