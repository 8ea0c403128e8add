// Package upgrade decides which upgrades to propose for a fleet: other versions for
// the places in which it writes one.
//
// [Propose] is pure: the fleet, the decisions of package renderer/plan, the catalog
// and the time are passed in, and it looks at nothing else. A place is proposed the
// newest patch of its minor when that is newer, and the next minor when its own has
// ended or is about to, or when its newest patch has known faults for the network that
// the next minor lacks. The steps are those that Istio supports in place: one minor at
// a time, never back, never a release that the catalog does not know.
//
// Places of one network with one version make one proposal, so that a pull request is
// about one line, written once or several times. What can't be done yet is a proposal
// that says by what it is held. Members that follow a channel, or name no version, are
// left alone, and the notes say so.
//
// [Proposal.Verify] compares the fleet of before with the edited one: only the version
// may differ. That the edited fleet is valid, and what it does, is for whoever renders
// it to find out.
package upgrade
