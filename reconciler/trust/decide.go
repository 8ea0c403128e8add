package trust

import (
	"slices"
	"time"
)

// Decide works out the step that the rotation of a network's root is at. Roots
// are all generations; members are all members of the network, also those that
// cannot be reached. It is pure: the same input gives the same decision, and
// nothing is remembered between two.
//
// Guarantees, for members that are given with what is true of them:
//   - no member signs by a root before every other member was proven to trust it
//     for a whole life of a workload's certificate, but for members without which
//     Git says to go on;
//   - no root is taken away before every member was proven to sign by the new one
//     for as long, unless the old one has expired;
//   - what a member trusts only grows, or only shrinks, from one decision to the
//     next, and who signs it changes once in a rotation, whatever becomes of the
//     others meanwhile;
//   - members whose proofs are lost hold up steps, and never reverse one.
func Decide(policy Policy, roots []Root, members []Observed, now time.Time) Decision {
	if len(roots) == 0 {
		return firstRoot(policy)
	}
	r := observe(policy, roots, members, now)
	d := Decision{Old: r.old, New: r.new, Known: true, targets: map[string]Target{}}
	if r.known() {
		d.joining = r.joiner()
	}
	if len(r.old) == 0 {
		r.settled(&d)
	} else {
		r.rotate(&d)
	}
	for _, m := range members {
		d.Known = d.Known && m.Issued != nil
		if m.Issued != nil && !m.Issued.joining() {
			target := r.target(m)
			target.RestartAfter = r.restart(m)
			d.targets[m.Member] = target
		}
	}
	d.NextAt = r.next(d)
	return d
}

func firstRoot(policy Policy) Decision {
	d := Decision{Step: StepNewRoot, Why: "the network has no root yet", Make: !policy.External}
	if policy.External {
		d.Blockers = []Blocker{importRoot}
	}
	return d
}

var importRoot = Blocker{
	Reason:  BlockedImport,
	Message: "a root signed by your PKI is wanted: isthmus trust csr gives the request, isthmus trust import takes the answer",
}

// rotation is what Decide works with.
type rotation struct {
	policy  Policy
	members []Observed
	now     time.Time

	all     []Root
	signing map[Fingerprint]bool // roots that sign for some member, issued or proven
	used    []Root               // what members have, or may have
	old     []Root               // of them, those that go
	new     Root                 // the one that stays

	trusts, signs bool // gates: all trust the new root; all are signed by it
	started       bool // some member signs by the new root
	left          bool // some member has something of an old root
	held          bool // nothing that a member has may change
	tooLate       bool // to go back
	turned        bool // a moment ago, so that gates stay closed
}

// observe finds the roots that are in use, the way to go and how far it is.
func observe(policy Policy, roots []Root, members []Observed, now time.Time) *rotation {
	r := &rotation{policy: policy, members: members, now: now, all: roots, signing: map[Fingerprint]bool{}, held: policy.Rotation == RotationHold}
	for _, m := range members {
		r.signing[m.Signer] = true
		if m.Issued != nil {
			r.signing[m.Issued.Signer] = true
		}
	}
	for _, root := range roots {
		if slices.ContainsFunc(members, func(m Observed) bool { return r.uses(m, root) }) {
			r.used = append(r.used, root)
		}
	}
	newest := roots[len(roots)-1]
	if len(r.used) == 0 {
		r.used = []Root{newest}
	}
	r.tooLate = policy.Rotation == RotationBack && slices.ContainsFunc(members, func(m Observed) bool {
		return m.Issued != nil && !m.Issued.joining() && m.Issued.Trusts[r.used[0].Trusts()].IsZero()
	})
	switch {
	case policy.Rotation == RotationBack && !r.tooLate:
		r.new = r.used[0]
	case len(r.used) == 1 && !r.due(newest):
		r.new = newest
	default:
		r.new = r.used[len(r.used)-1]
	}
	for _, root := range r.used {
		if root.Generation != r.new.Generation {
			r.old = append(r.old, root)
		}
	}
	for _, m := range members {
		r.left = r.left || m.Issued == nil && len(r.old) > 0
		if m.Issued != nil && !m.Issued.joining() {
			r.started = r.started || m.Issued.Signer == r.new.Signs()
			r.left = r.left || r.trustsOld(m.Issued.Trusts) || r.isOld(m.Issued.Signer)
		}
	}
	r.held = r.held || r.tooLate
	r.turned = !policy.RotationSince.IsZero() && now.Before(policy.RotationSince.Add(policy.margin()))
	r.trusts, r.signs = !r.held && !r.turned, !r.held && !r.turned
	for _, m := range members {
		r.trusts = r.trusts && (r.trustsNew(m) == nil || r.without(m))
		r.signs = r.signs && r.signsNew(m) == nil
	}
	return r
}

// uses says whether the member has anything of the root, or may have. An anchor
// that several generations share counts for the newest of them.
func (r *rotation) uses(m Observed, root Root) bool {
	if m.Signer == root.Signs() || m.Issued != nil && m.Issued.Signer == root.Signs() {
		return true
	}
	if slices.ContainsFunc(r.all, func(other Root) bool {
		return other.Generation > root.Generation && other.Trusts() == root.Trusts()
	}) {
		return false
	}
	if _, proven := m.Trusts[root.Trusts()]; proven || m.Issued == nil {
		return proven
	}
	_, issued := m.Issued.Trusts[root.Trusts()]
	return issued
}

// known says whether it is known what the others have, for somebody who joins.
func (r *rotation) known() bool {
	return slices.ContainsFunc(r.members, func(m Observed) bool { return m.Issued != nil && !m.Issued.joining() }) ||
		!slices.ContainsFunc(r.members, func(m Observed) bool { return m.Issued == nil })
}

// due says whether a root is to be replaced.
func (r *rotation) due(root Root) bool {
	return !r.now.Before(r.dueAt(root)) || replaceBefore(r.policy.ReplaceRootsBefore, root.Made, r.now)
}

// dueAt is when a root has used up its share of life.
func (r *rotation) dueAt(root Root) time.Time {
	return DueAt(root.Certificate, r.policy.Root.RotateAt)
}

// replaceBefore says whether something made at a time is to be replaced because
// Git says so. A time that has not come yet says nothing.
func replaceBefore(before, made, now time.Time) bool {
	return !before.IsZero() && !before.After(now) && made.Before(before)
}

// trustsOld says whether a list has a root that is to go.
func (r *rotation) trustsOld(list map[Fingerprint]time.Time) bool {
	return slices.ContainsFunc(r.old, func(old Root) bool {
		_, has := list[old.Trusts()]
		return has && old.Trusts() != r.new.Trusts()
	})
}

func (r *rotation) isOld(signer Fingerprint) bool {
	return slices.ContainsFunc(r.old, func(old Root) bool { return old.Signs() == signer })
}

// expired says that nothing signed by the old roots is valid any more.
func (r *rotation) expired() bool {
	return !slices.ContainsFunc(r.old, func(old Root) bool { return r.now.Before(old.notAfter()) })
}

// without says whether the others may sign by the new root though the member was
// not proven to trust it: named in Git; or out of reach in an emergency, or when
// the old root is about to end and would take everybody along.
func (r *rotation) without(m Observed) bool {
	if slices.Contains(r.policy.ProceedWithout, m.Member) {
		return true
	}
	pressed := slices.ContainsFunc(r.old, func(old Root) bool {
		return !r.now.Before(old.notAfter().Add(-2 * r.policy.wait()))
	})
	return !m.Reachable && (r.policy.Emergency || pressed)
}

// trustsNew returns what keeps the member from accepting certificates of the new
// root, in all of its workloads; nil when they do.
func (r *rotation) trustsNew(m Observed) *Blocker {
	since, proven := m.trusts(r.new)
	switch {
	case m.Issued == nil:
		return r.block(m, BlockedUnknown, "what the vault has for it is not known yet")
	case r.passed(m):
		return nil
	case m.Issued.Trusts[r.new.Trusts()].IsZero():
		return r.unproven(m, "trust the new root")
	case !proven && len(m.Trusts) == 0 && r.alwaysTrusts(m):
		return nil
	case !proven:
		return r.unproven(m, "trust the new root")
	case r.alwaysTrusts(m) || r.expired():
		return nil
	}
	since = later(since, m.Issued.Trusts[r.new.Trusts()])
	restarted := !m.Restarted.Before(since)
	if m.RootsAtStart && !restarted {
		return r.block(m, BlockedRestart, "its proxies have not been restarted since it trusts the new root")
	}
	return r.waits(m, since, restarted, "workloads have certificates from before it trusted the new root")
}

// passed says that the member was found to trust the new root before: it was
// signed by it after it got it, and has had it ever since.
func (r *rotation) passed(m Observed) bool {
	since, has := m.Issued.Trusts[r.new.Trusts()]
	return has && m.Issued.Signer == r.new.Signs() && since.Before(m.Issued.SignerSince)
}

func (r *rotation) alwaysTrusts(m Observed) bool {
	since, has := m.Issued.Trusts[r.new.Trusts()]
	return has && m.Issued.always(since)
}

// signsNew returns what keeps the member's certificates of old roots in use; nil
// when there are none.
func (r *rotation) signsNew(m Observed) *Blocker {
	_, trusts := m.trusts(r.new)
	always := m.Issued != nil && m.Issued.always(m.Issued.SignerSince) && r.alwaysTrusts(m)
	switch {
	case m.Issued == nil:
		return r.block(m, BlockedUnknown, "what the vault has for it is not known yet")
	case m.Issued.Signer == r.new.Signs() && always && m.Signer == "" && len(m.Trusts) == 0:
		return nil
	case m.Issued.Signer != r.new.Signs() || m.Signer != r.new.Signs() || !trusts || m.provenAt().Before(m.Issued.SignerSince):
		return r.unproven(m, "sign by the new root")
	case always || r.expired():
		return nil
	}
	since := later(m.SignerSince, m.Issued.SignerSince)
	return r.waits(m, since, !m.Restarted.Before(since), "workloads have certificates from the old root")
}

// trustsOnlyNew returns what keeps the member from being proven to trust the new
// root only; nil when it is.
func (r *rotation) trustsOnlyNew(m Observed) *Blocker {
	if m.Issued == nil {
		return r.block(m, BlockedUnknown, "what the vault has for it is not known yet")
	}
	if _, trusts := m.trusts(r.new); trusts && !r.trustsOld(m.Trusts) && !r.trustsOld(m.Issued.Trusts) {
		return nil
	}
	return r.unproven(m, "trust the new root only")
}

// waits returns a blocker until a life of certificates has passed, or until
// restarts have replaced them all where Git calls it an emergency.
func (r *rotation) waits(m Observed, since time.Time, restarted bool, message string) *Blocker {
	until := since.Add(r.policy.wait())
	if !r.now.Before(until) || r.policy.Emergency && restarted {
		return nil
	}
	b := r.block(m, BlockedWaiting, message)
	if r.policy.Emergency {
		b = r.block(m, BlockedRestart, message+", until its proxies are restarted")
	}
	b.Until = until
	return b
}

func (r *rotation) unproven(m Observed, what string) *Blocker {
	if !m.Reachable {
		return r.block(m, BlockedUnreachable, "it cannot be reached, and was not proven to "+what)
	}
	return r.block(m, BlockedUnproven, "it is not proven to "+what)
}

func (r *rotation) block(m Observed, reason BlockerReason, message string) *Blocker {
	return &Blocker{Member: m.Member, Reason: reason, Message: message}
}

// emergencyCost is told before the first restart.
const emergencyCost = ", in an emergency: all node proxies, gateways and waypoints are restarted, " +
	"three times in all, which cuts connections that are open longer than they drain"

// settled decides where all members have one root.
func (r *rotation) settled(d *Decision) {
	newest := r.all[len(r.all)-1]
	d.Step, d.Why = StepSettled, "all members have one root"
	if !r.due(newest) || r.policy.Rotation == RotationBack {
		return
	}
	d.Step, d.Why = StepNewRoot, "the root is to be replaced"
	if r.policy.Emergency {
		d.Why += emergencyCost
	}
	// A member without a chain may be a cluster under a new name, with the second of
	// two roots in its list: another one must not come before that is settled.
	unknown := slices.IndexFunc(r.members, func(m Observed) bool {
		return (m.Issued == nil || m.Issued.joining()) && !r.without(m)
	})
	switch {
	case r.held:
		d.Blockers = []Blocker{hold}
	case r.policy.External:
		d.Blockers = []Blocker{importRoot}
	case unknown >= 0:
		d.Blockers = []Blocker{*r.block(r.members[unknown], BlockedUnknown, "what the vault has for it is not known yet, or it has no CA yet")}
	default:
		d.Make = true
	}
}

var hold = Blocker{Reason: BlockedHold, Message: "spec.trust.root.rotation is Hold"}

// rotate decides where members have more than one root.
func (r *rotation) rotate(d *Decision) {
	check := r.signsNew
	switch {
	case r.signs || !r.left:
		d.Step, d.Why = StepTrustNew, "all certificates of the old root have run out, and it is taken away"
		check = r.trustsOnlyNew
	case r.trusts || r.started:
		d.Step, d.Why = StepSignByNew, "members sign by the new root, and certificates of the old one run out"
	default:
		d.Step, d.Why = StepTrustBoth, "members learn to trust the new root beside the old one"
		if r.policy.Emergency {
			d.Why += emergencyCost
		}
	}
	switch {
	case r.tooLate:
		d.Blockers = append(d.Blockers, Blocker{Reason: BlockedHold, Message: "it is too late to go back: members trust the new root only; set spec.trust.root.rotation to Proceed"})
	case r.held:
		d.Blockers = append(d.Blockers, hold)
	case r.turned:
		d.Blockers = append(d.Blockers, Blocker{
			Reason: BlockedWaiting, Until: r.policy.RotationSince.Add(r.policy.margin()),
			Message: "spec.trust.root.rotation was changed a moment ago",
		})
	}
	for _, m := range r.members {
		b := r.trustsNew(m)
		switch {
		case d.Step != StepTrustBoth && (b == nil || r.without(m) || m.Issued != nil && m.Issued.Signer == r.new.Signs()):
			b = check(m)
		case r.without(m):
			b = nil
		}
		if b != nil {
			d.Blockers = append(d.Blockers, *b)
		}
	}
}

// target is what a member should have that has something.
func (r *rotation) target(m Observed) Target {
	signer, known := r.signer(m.Issued.Signer)
	if !known {
		return r.joiner()
	}
	_, trusts := m.Issued.Trusts[r.new.Trusts()]
	if r.trusts && trusts && r.trustsNew(m) == nil {
		signer = r.new
	}
	var list []Root
	for _, root := range r.all {
		_, has := m.Issued.Trusts[root.Trusts()]
		if !r.held && m.caughtUp() {
			has = r.shouldTrust(m, root, has)
		}
		if has {
			list = append(list, root)
		}
	}
	return Target{Trusts: list, Signer: signer}
}

// shouldTrust says whether a root is to be on the member's list, where it is or is
// not now.
func (r *rotation) shouldTrust(m Observed, root Root, has bool) bool {
	_, trustsNew := m.Issued.Trusts[r.new.Trusts()]
	switch {
	case root.Generation == r.new.Generation:
		return true
	case !slices.ContainsFunc(r.old, func(old Root) bool { return old.Generation == root.Generation }):
		return has
	case trustsNew && r.signs:
		return false
	case trustsNew && !r.trustsOld(m.Issued.Trusts):
		return has // it is done with the old ones
	}
	return has || r.signing[root.Signs()]
}

// joiner is what a member should have that has nothing yet: what the others have.
func (r *rotation) joiner() Target {
	if len(r.old) == 0 || r.signs || !r.left && !r.held {
		return Target{Trusts: []Root{r.new}, Signer: r.new}
	}
	t := Target{Trusts: r.used, Signer: r.new}
	if !r.held && !slices.ContainsFunc(r.used, func(root Root) bool { return root.Generation == r.new.Generation }) {
		t.Trusts = append(slices.Clone(r.used), r.new)
	}
	if r.started || r.trusts {
		return t
	}
	for _, root := range r.old {
		if t.Signer.Generation == r.new.Generation || r.signing[root.Signs()] {
			t.Signer = root
		}
	}
	return t
}

func (r *rotation) signer(fingerprint Fingerprint) (Root, bool) {
	i := slices.IndexFunc(r.all, func(root Root) bool { return root.Signs() == fingerprint })
	if i < 0 {
		return Root{}, false
	}
	return r.all[i], true
}

// restart is from when on the member's proxies have to be: what they trust and
// sign by then is what is proven now.
func (r *rotation) restart(m Observed) time.Time {
	if r.held || !r.policy.Emergency && !m.RootsAtStart {
		return time.Time{}
	}
	since, trusts := m.trusts(r.new)
	if !trusts || r.alwaysTrusts(m) && m.Issued.always(m.Issued.SignerSince) {
		return time.Time{}
	}
	var at time.Time
	switch {
	case m.RootsAtStart && len(r.old) > 0 && r.trustsNew(m) != nil:
		at = later(since, m.Issued.Trusts[r.new.Trusts()])
	case !r.policy.Emergency:
	case !r.trustsOld(m.Trusts):
		// They must forget the old root, too; by themselves they do in half a life.
		at = recent(m.TrustsSince, r.now, r.policy.wait())
	case m.Signer == r.new.Signs():
		at = recent(later(m.SignerSince, m.Issued.SignerSince), r.now, r.policy.wait())
	default:
		at = recent(later(since, m.Issued.Trusts[r.new.Trusts()]), r.now, r.policy.wait())
	}
	if !m.Restarted.Before(at) {
		return time.Time{}
	}
	return at
}

// recent is a time that is not longer ago than a wait; else zero.
func recent(at, now time.Time, wait time.Duration) time.Time {
	if now.Before(at.Add(wait)) {
		return at
	}
	return time.Time{}
}

// next is when time alone brings the next step.
func (r *rotation) next(d Decision) time.Time {
	if d.Step == StepSettled {
		return r.dueAt(r.new)
	}
	var at time.Time
	for _, b := range d.Blockers {
		if b.Until.IsZero() {
			return time.Time{}
		}
		at = later(at, b.Until)
	}
	return at
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
