package trust

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"
)

// Vault keeps the keys of CAs, which it signs with itself, and documents: the
// certificates of CAs, and intermediates with their keys. Names are paths of DNS
// labels: "prod/root-2", "prod/members/eastus-1".
//
// Errors wrap [ErrNotFound], [ErrExists] or a [*VaultError], and never hold key
// material. An implementation is safe for concurrent use, also by several
// processes.
type Vault interface {
	// Key returns a key of the vault. Its version is pinned: the empty version is
	// the first that was made, and a version that somebody adds later changes
	// nothing.
	Key(ctx context.Context, name, version string) (Key, error)
	// CreateKey makes a key where there is none and returns what is there: of
	// several callers all get the same key. A key that is there and does not meet
	// the spec is an error.
	CreateKey(ctx context.Context, name string, spec KeySpec) (Key, error)
	// Get returns the newest document of a name.
	Get(ctx context.Context, name string) (Document, error)
	// Create keeps a document where there is none; else an error wrapping
	// [ErrExists]. Of several callers one wins, and Get returns its document.
	Create(ctx context.Context, name string, document Document) error
	// Put keeps a document in place of the one before, whole or not at all.
	Put(ctx context.Context, name string, document Document) error
}

// Key is a private key that stays in its vault.
type Key interface {
	Public() crypto.PublicKey
	// Version names the key among those of the same name.
	Version() string
	// Sign signs a digest, as [crypto.Signer] does: ECDSA in ASN.1, RSA in PKCS #1
	// v1.5.
	Sign(ctx context.Context, digest []byte, hash crypto.Hash) ([]byte, error)
}

// KeyAlgorithm is a kind of key for CAs.
type KeyAlgorithm string

// The kinds of key. Istio takes them all.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
)

// KeySpec says what a new key is to be.
type KeySpec struct {
	Algorithm KeyAlgorithm
	// Hardware asks for a key in a hardware security module; a vault that has none
	// refuses.
	Hardware bool
}

// Document is one entry of a vault.
type Document struct {
	Data []byte
	// Tags are for people and for searches in the vault; no secrets.
	Tags map[string]string
	// NotAfter is when what is in the document expires; zero for never. The vault
	// shows it, and nothing becomes unreadable by it.
	NotAfter time.Time
}

// String names a document without its content, which may be a key.
func (d Document) String() string { return fmt.Sprintf("document of %d bytes", len(d.Data)) }

// GoString is String: %#v must not print the content either.
func (d Document) GoString() string { return d.String() }

// ErrNotFound says that a vault holds nothing under a name, ErrExists that it
// holds something already.
var (
	ErrNotFound = errors.New("not in the vault")
	ErrExists   = errors.New("already in the vault")
)

// VaultReason says why a vault did not do what was asked.
type VaultReason string

// The reasons.
const (
	// VaultUnavailable: no answer, or one that says to come back (5xx).
	VaultUnavailable VaultReason = "VaultUnavailable"
	// VaultThrottled: too many requests; RetryAfter says when to come back.
	VaultThrottled VaultReason = "VaultThrottled"
	// VaultUnauthorized: who we are was not accepted.
	VaultUnauthorized VaultReason = "VaultUnauthorized"
	// VaultForbidden: we may not do that.
	VaultForbidden VaultReason = "VaultForbidden"
	// VaultFirewall: the vault's firewall does not let us in.
	VaultFirewall VaultReason = "VaultFirewall"
	// VaultMissing: there is no vault at the address.
	VaultMissing VaultReason = "VaultMissing"
	// VaultReadOnly: the vault takes no writes now, as in a failover.
	VaultReadOnly VaultReason = "VaultReadOnly"
	// VaultSoftDeleted: the name belongs to something that was deleted and is kept.
	VaultSoftDeleted VaultReason = "VaultSoftDeleted"
	// VaultKeyDisabled: the key is disabled, expired or not valid yet.
	VaultKeyDisabled VaultReason = "VaultKeyDisabled"
	// VaultKeyUnsuitable: the key is of another kind than asked for, or no CA's.
	VaultKeyUnsuitable VaultReason = "VaultKeyUnsuitable"
	// VaultCorrupt: what the vault has or answers cannot be read.
	VaultCorrupt VaultReason = "VaultCorrupt"
)

// VaultError is a vault that did not do what was asked.
type VaultError struct {
	Reason VaultReason
	// Op is what was asked, in words: "sign with prod/root".
	Op string
	// Message is what went wrong, Hint what to do about it.
	Message, Hint string
	// RetryAfter is how long the vault wants to be left alone; zero when it does
	// not say.
	RetryAfter time.Duration
	// Err is the cause, if it may be shown.
	Err error
}

func (e *VaultError) Error() string {
	text := e.Op + ": " + e.Message
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func (e *VaultError) Unwrap() error { return e.Err }

// Clock is a vault that tells its time. Skew is how far this machine's clock is
// ahead of it by its last answer; false when there was none yet.
type Clock interface {
	Skew() (skew time.Duration, known bool)
}
