// Package policy judges what a change does by rules: those that every network has,
// and those in CEL that its people wrote.
//
// # Order
//
// [Check] asks the built-in policies of each network that the change concerns, then
// the network's own, those of before the change first. [Problems] says which rules
// cannot be asked at all, while a fleet is rendered, at the line where they are.
//
// # What it guarantees
//
// A rule sees values only, is bounded in what it may cost, and has no clock: the
// same change gives the same findings. A rule that fails is a finding, never a pass.
// A change does not free itself of a policy by taking it out.
//
// # What it does not
//
// Nothing is enforced here: a review reports, a forge's branch protection stops. The
// reconciler asks no policies.
package policy
