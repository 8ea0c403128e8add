package trust

import "time"

// Step is where the rotation of a network's root is.
type Step string

// The steps, in order.
const (
	// StepSettled: all members have one root, and nothing is due.
	StepSettled Step = "Settled"
	// StepNewRoot: a new root is due, and has to be made or imported.
	StepNewRoot Step = "NewRoot"
	// StepTrustBoth: all members get the new root beside the old one, and their
	// workloads learn it.
	StepTrustBoth Step = "TrustBoth"
	// StepSignByNew: members sign by the new root; certificates of the old one run
	// out.
	StepSignByNew Step = "SignByNew"
	// StepTrustNew: all members trust the new root only.
	StepTrustNew Step = "TrustNew"
)

// BlockerReason says what a step waits for.
type BlockerReason string

// The reasons.
const (
	// BlockedUnknown: what the vault has for the member is not known yet.
	BlockedUnknown BlockerReason = "Unknown"
	// BlockedUnreachable: the member cannot be reached, and was not proven to be
	// ready before.
	BlockedUnreachable BlockerReason = "Unreachable"
	// BlockedUnproven: the member has not been proven to serve what it should.
	BlockedUnproven BlockerReason = "Unproven"
	// BlockedRestart: proxies have to be restarted.
	BlockedRestart BlockerReason = "Restart"
	// BlockedWaiting: certificates from before are still in use, until Until.
	BlockedWaiting BlockerReason = "Waiting"
	// BlockedHold: Git says so.
	BlockedHold BlockerReason = "Hold"
	// BlockedImport: a new root has to be signed by somebody's PKI and imported.
	BlockedImport BlockerReason = "Import"
	// BlockedVault: a new root could not be made, because of the vault or of a clock.
	BlockedVault BlockerReason = "Vault"
)

// Blocker is what a step waits for.
type Blocker struct {
	// Member is empty for what concerns the network.
	Member string
	Reason BlockerReason
	// Message says it in words, without times.
	Message string
	// Until is when time alone removes the blocker; zero when it does not.
	Until time.Time
}

// Target is what a member should have.
type Target struct {
	// Trusts are the roots for its list, in order of generation; Signer is the root
	// that signs its intermediate.
	Trusts []Root
	Signer Root
	// RestartAfter asks that all proxies are restarted that were started before it,
	// node by node; zero: no restart. The same time again is the same restart.
	RestartAfter time.Time
}

// Decision is what to do next about a network's root, worked out from what is
// observed and from nothing else.
type Decision struct {
	Step Step
	// Why says it in a sentence, without times.
	Why string
	// NextAt is when time alone brings the next step; zero when it takes more.
	NextAt   time.Time
	Blockers []Blocker
	// Make asks for a new root.
	Make bool
	// Old are the roots that go, New is the one that stays.
	Old []Root
	New Root
	// Known says that it is known of every member what the vault has for it.
	Known bool

	targets map[string]Target
	joining Target
}

// Target returns what a member should have. A member that the decision was not
// made for gets what joining members get. False: not known, keep what it has.
func (d Decision) Target(member string) (Target, bool) {
	target, ok := d.targets[member]
	if !ok {
		target = d.joining
	}
	return target, target.Signer.Certificate != nil
}
