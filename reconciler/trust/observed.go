package trust

import "time"

// Issued is what the vault holds for a member: what was decided last, whether or
// not the member has it yet. The zero value says that nothing was issued so far.
type Issued struct {
	// Trusts are the anchors of the chain, and since when each was in all that was
	// issued.
	Trusts map[Fingerprint]time.Time
	// ListSince is since when Trusts are these and no others.
	ListSince time.Time
	// Signer is the root that signed the intermediate, by [Root.Signs], and
	// SignerSince since when.
	Signer      Fingerprint
	SignerSince time.Time
	// Joined is when the first chain was issued, for a member whose cluster had no
	// certificates of the network before; else zero. What it has had since then it
	// need not wait for.
	Joined time.Time
	// Serial is the intermediate's serial number in hex.
	Serial              string
	NotBefore, NotAfter time.Time
}

// Made is when the intermediate was issued; its NotBefore is dated back.
func (i Issued) Made() time.Time { return i.NotBefore.Add(clockSkew) }

// joining says that the member never had a chain.
func (i Issued) joining() bool { return i.Signer == "" }

// always says whether something that the member has had since a time is all that
// it ever had.
func (i Issued) always(since time.Time) bool { return !i.Joined.IsZero() && since.Equal(i.Joined) }

// Observed is a member as it is known now. What is proven is what every replica
// of its istiod answers, and what its namespaces are given; where they differ,
// nothing is proven. A member that cannot be reached keeps what was proven last.
// Times are by a clock that is right within five minutes: no proof is taken by
// another one.
type Observed struct {
	Member string
	// Issued is what the vault has for it. Nil: not known, which holds up every
	// step.
	Issued *Issued
	// ProvenAt is when the newest proof was taken: what was issued since then is not
	// proven, though it may look the same as what was before. Zero: the newest of
	// the times below.
	ProvenAt time.Time
	// Trusts are the anchors that are served, and since when each was at every
	// proof. TrustsSince is since when the whole list is what it is. Without a proof
	// there are none.
	Trusts      map[Fingerprint]time.Time
	TrustsSince time.Time
	// Signer is the root behind the certificates that are signed, by [Root.Signs],
	// and SignerSince since when.
	Signer      Fingerprint
	SignerSince time.Time
	// Reachable says that the member's API answers now.
	Reachable bool
	// RootsAtStart says that its node proxies read the roots by which they know
	// istiod only when they start.
	RootsAtStart bool
	// Restarted is the newest [Target.RestartAfter] for which all restarts are
	// complete; zero for none.
	Restarted time.Time
}

func (m Observed) provenAt() time.Time {
	if !m.ProvenAt.IsZero() {
		return m.ProvenAt
	}
	at := later(m.TrustsSince, m.SignerSince)
	for _, since := range m.Trusts {
		at = later(at, since)
	}
	return at
}

// trusts says since when the member is proven to serve a root as it was issued.
func (m Observed) trusts(root Root) (time.Time, bool) {
	since, has := m.Trusts[root.Trusts()]
	return since, has && m.Issued != nil && !m.provenAt().Before(m.Issued.Trusts[root.Trusts()])
}

// caughtUp says that the member is proven to serve the list that was issued last.
// Until then it gets no other one: one that is a step from the issued one may be
// two from what istiod has, and istiod refuses those.
func (m Observed) caughtUp() bool {
	if len(m.Trusts) != len(m.Issued.Trusts) || m.provenAt().Before(m.Issued.ListSince) {
		return false
	}
	for fingerprint := range m.Issued.Trusts {
		if _, proven := m.Trusts[fingerprint]; !proven {
			return false
		}
	}
	return true
}
