package peering

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	// DefaultLifetime of a token, and DefaultRotateAt of it in per cent.
	DefaultLifetime, DefaultRotateAt = 168 * time.Hour, 40
	// MaxSkew is how far the clocks of a hub and a peer may be apart.
	MaxSkew = 5 * time.Minute
	// Grace is how long a token is used still after it was replaced: the kubelet brings
	// the file with the new one within about a minute, and istiod reads it once a minute.
	Grace = 5 * time.Minute
)

// Policy says how a reader's credentials are made and replaced.
type Policy struct {
	// Lifetime to ask for.
	Lifetime time.Duration
	// RotateAt is the share of its life, in per cent, at which a token is replaced.
	RotateAt int
	// ReplaceIssuedBefore has those replaced that were issued before; zero for none.
	ReplaceIssuedBefore time.Time
}

// PolicyOf a network.
func PolicyOf(c v1alpha1.PeerCredentials) Policy {
	p := Policy{Lifetime: DefaultLifetime, RotateAt: DefaultRotateAt}
	if c.Lifetime != nil && c.Lifetime.Duration > 0 {
		p.Lifetime = c.Lifetime.Duration
	}
	if share, err := strconv.Atoi(strings.TrimSuffix(c.RotateAt, "%")); err == nil && share > 0 && share < 100 {
		p.RotateAt = share
	}
	if c.ReplaceIssuedBefore != nil {
		p.ReplaceIssuedBefore = c.ReplaceIssuedBefore.Time
	}
	return p
}

// Anchor is the name of the Secret in a peer that a reader's tokens are to be bound to;
// has is the one that its token is bound to, empty for none. When tokens from before a
// time are to be replaced it is another one, so that the old tokens can be revoked
// without the new. One that came by such a time stays when the fleet says nothing any
// more, or an earlier time: what hangs on it is newer. A time to come is none yet.
func Anchor(reader string, c v1alpha1.PeerCredentials, has string, now time.Time) string {
	var before int64
	if at := c.ReplaceIssuedBefore; at != nil && !at.After(now) {
		before = at.Unix()
	}
	if since, ok := anchorTime(reader, has); ok && since >= before {
		return has
	}
	if before == 0 {
		return AnchorPrefix + reader
	}
	return AnchorPrefix + reader + "." + strconv.FormatInt(before, 10)
}

// anchorTime is the time by which a reader's anchor came, zero for its first; false for
// what is no anchor of the reader.
func anchorTime(reader, name string) (int64, bool) {
	rest, ok := strings.CutPrefix(name, AnchorPrefix+reader)
	if !ok || rest == "" {
		return 0, ok
	}
	digits, ok := strings.CutPrefix(rest, ".")
	if !ok {
		return 0, false
	}
	since, err := strconv.ParseInt(digits, 10, 64)
	return since, err == nil && since > 0
}

// IsAnchorOf tells whether a Secret is an anchor of a reader.
func IsAnchorOf(reader, name string) bool {
	_, ok := anchorTime(reader, name)
	return ok
}

// Facts are what a credential is judged by. What is empty is not known, and nothing
// is replaced for it.
type Facts struct {
	// Now by the peer's clock, as far as that is known.
	Now time.Time
	// Known is the record of it on the hub; nil for none.
	Known *v1alpha1.PeerCredentialStatus
	// Live is the credential in the reader; nil for none. Digest is of what is there,
	// and Unreadable why that is no credential.
	Live       *Credential
	Digest     string
	Unreadable error
	// Endpoint of the peer; nil while it is not known.
	Endpoint *Endpoint
	// Namespace of the peer's account, and its uid.
	Namespace  string
	AccountUID types.UID
	// Anchor to be bound to, and its uid.
	Anchor    string
	AnchorUID types.UID
}

// Verdict on a credential.
type Verdict struct {
	// Mint says that another token is to be made; else all stays byte for byte.
	Mint bool
	// Reason is the name of the check that wants it, empty for none.
	Reason string
	// Usable says that what the reader has may stay there until then.
	Usable bool
	// Timed says that only a clock wants it: who can ask the peer's first, should.
	Timed bool
}

// The names of the checks.
const (
	Missing         = "Missing"
	Unreadable      = "Unreadable"
	Edited          = "Edited"
	EndpointChanged = "EndpointChanged"
	AccountChanged  = "AccountChanged"
	AnchorChanged   = "AnchorChanged"
	ReplacedByFleet = "ReplacedByFleet"
	FromTheFuture   = "FromTheFuture"
	Expired         = "Expired"
	RotationDue     = "RotationDue"
)

// checks in their order: the first that holds has a credential replaced.
var checks = []struct {
	name  string
	timed bool
	holds func(Policy, Facts) bool
}{
	{name: Edited, holds: func(_ Policy, f Facts) bool { return f.Known == nil || f.Known.Digest != f.Digest }},
	{name: EndpointChanged, holds: func(_ Policy, f Facts) bool { return f.Endpoint != nil && !f.Endpoint.Equal(f.Live.Endpoint) }},
	{name: AccountChanged, holds: func(_ Policy, f Facts) bool {
		return f.Live.Account != Account || f.Namespace != "" && f.Live.Namespace != f.Namespace ||
			f.AccountUID != "" && f.Live.AccountUID != f.AccountUID
	}},
	{name: ReplacedByFleet, holds: func(p Policy, f Facts) bool {
		// A time to come would have each new token replaced, until it has passed.
		return f.Live.IssuedAt.Before(p.ReplaceIssuedBefore) && !p.ReplaceIssuedBefore.After(f.Now)
	}},
	{name: AnchorChanged, holds: func(_ Policy, f Facts) bool {
		return f.AnchorUID != "" && (f.Live.Anchor != f.Anchor || f.Live.AnchorUID != f.AnchorUID)
	}},
	{name: FromTheFuture, timed: true, holds: func(_ Policy, f Facts) bool { return f.Live.IssuedAt.After(f.Now.Add(MaxSkew)) }},
	{name: Expired, timed: true, holds: func(_ Policy, f Facts) bool { return !f.Now.Before(f.Live.ExpiresAt) }},
	{name: RotationDue, timed: true, holds: func(p Policy, f Facts) bool { return !f.Now.Before(p.DueAt(f.Live.Claims)) }},
}

// Judge says whether a credential stays, by an ordered list of checks.
func Judge(p Policy, f Facts) Verdict {
	switch {
	case f.Live == nil && f.Unreadable == nil:
		return Verdict{Mint: true, Reason: Missing}
	case f.Live == nil:
		return Verdict{Mint: true, Reason: Unreadable}
	}
	for _, check := range checks {
		if check.holds(p, f) {
			// What somebody has put there may lead anywhere.
			elsewhere := check.name == Edited && f.Endpoint != nil && !f.Endpoint.Equal(f.Live.Endpoint)
			return Verdict{Mint: true, Reason: check.name, Usable: !elsewhere, Timed: check.timed}
		}
	}
	return Verdict{Usable: true}
}

// DueAt is when a token is due for replacement: at the share of its life, or up to
// a tenth of that earlier, so that those that were made together are not all
// replaced together; and soon enough for the new one to be in use when it ends.
func (p Policy) DueAt(c Claims) time.Time {
	share := c.Life() / 100 * time.Duration(p.RotateAt)
	spread := fnv.New32a()
	_, _ = fmt.Fprint(spread, c.Anchor, " ", c.AnchorUID, " ", c.IssuedAt.Unix())
	share -= share / 10 / 1000 * time.Duration(spread.Sum32()%1000)
	return c.IssuedAt.Add(min(share, c.Life()-Grace))
}
