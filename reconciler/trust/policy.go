package trust

import (
	"crypto/x509"
	"time"
)

// Lifetime is how long the certificates of one tier live.
type Lifetime struct {
	Validity time.Duration
	// RotateAt is the share of Validity after which a certificate is replaced,
	// above 0 and below 1.
	RotateAt float64
}

// Rotation says whether the rotation of a network's root may go on.
type Rotation string

// What a rotation may do. The empty text is Proceed.
const (
	// RotationProceed goes on as far as the members have followed.
	RotationProceed Rotation = "Proceed"
	// RotationHold changes no member's roots and signer, and makes no root.
	RotationHold Rotation = "Hold"
	// RotationBack returns to the older root, for as long as no member trusts the
	// newer one only.
	RotationBack Rotation = "Back"
)

// Policy is what Git says of the CAs of one network.
type Policy struct {
	Network string
	// Root, Intermediate and Leaf are the lifetimes of the tiers. Leaf.Validity is
	// the longest that a workload's certificate may still live: rotation waits for
	// it.
	Root, Intermediate, Leaf Lifetime
	// RootKey is what a new root's key is to be; the zero value is ECDSA P-256.
	RootKey KeySpec
	// RootKeyName names a key that is in the vault already, for the next root.
	// Empty: the vault makes one.
	RootKeyName string
	// External says that roots are signed by somebody's own PKI and imported, and
	// never made here.
	External bool
	// ReplaceRootsBefore makes roots due that were issued before it, and
	// ReplaceIntermediatesBefore intermediates. Zero: none.
	ReplaceRootsBefore, ReplaceIntermediatesBefore time.Time
	// Emergency replaces the waits of a rotation by restarts of all proxies, and
	// goes on without members that cannot be reached.
	Emergency bool
	Rotation  Rotation
	// RotationSince is when Rotation was first seen to be what it is; zero: always.
	// Members are decided for one by one, by what was known of the others a moment
	// ago. After a turn the gates stay closed until nobody decides by the way
	// before.
	RotationSince time.Time
	// ProceedWithout names members without which the others may take the new root
	// for signing: their workloads will not accept those of the others until they
	// follow.
	ProceedWithout []string
	// CRL asks for certificate revocation lists.
	CRL bool
	// Files asks for an entry in the vault for each file of a member's CA, beside its
	// document, for members that read the vault themselves file by file.
	Files bool
}

// margin is added to waits: for clocks that differ, and for proofs that take
// their time. A tenth of a leaf's life, and ten minutes or more where leaves live
// that long.
func (p Policy) margin() time.Duration {
	leaf := p.Leaf.Validity
	return max(leaf/10, min(10*time.Minute, leaf))
}

// wait is how long it takes until no certificate is in use that was issued before.
func (p Policy) wait() time.Duration { return p.Leaf.Validity + p.margin() }

// DueAt is when a certificate has used up a share of its life.
func DueAt(c *x509.Certificate, share float64) time.Time {
	return c.NotBefore.Add(time.Duration(float64(c.NotAfter.Sub(c.NotBefore)) * share))
}
