package trust

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// folder is the part of the Directory vault that is used as yet: name to PEM text
// of a certificate and its key. Vault takes its place.
type folder interface {
	// Get returns what Put stored, or an error wrapping [ErrNotFound].
	Get(ctx context.Context, name string) ([]byte, error)
	// Put stores data whole or not at all.
	Put(ctx context.Context, name string, data []byte) error
	// Create is Put where there is nothing yet; else an error wrapping [ErrExists].
	// Of several replicas that make one CA only one does.
	Create(ctx context.Context, name string, data []byte) error
}

// Authority makes and renews the CAs of networks.
type Authority struct {
	vault folder
	now   func() time.Time

	// One CA is made at a time: two members that join together must not make
	// two roots.
	mu sync.Mutex
}

// NewAuthority returns an Authority over a vault; now is the clock.
func NewAuthority(vault folder, now func() time.Time) *Authority {
	return &Authority{vault: vault, now: now}
}

// Lifetime is how long the certificates of one tier live.
type Lifetime struct {
	Validity time.Duration
	// RotateAt is the share of Validity after which a certificate is replaced,
	// above 0 and below 1.
	RotateAt float64
}

// Request says for whom an intermediate CA is wanted.
type Request struct {
	Network, Member    string
	Root, Intermediate Lifetime
}

// Issue returns the member's chain. It reads what the vault has, makes what is
// missing, and replaces an intermediate that has reached its rotation point; the
// root stays, so that certificates of the old intermediate remain valid.
// An expired root is an error.
func (a *Authority) Issue(ctx context.Context, r Request) (Chain, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	root, err := a.ensure(ctx, r.Network+"/root", func(pair) bool { return false }, func() (pair, error) {
		return newRoot(r.Network, now, r.Root.Validity)
	})
	if err != nil {
		return Chain{}, fmt.Errorf("root CA of network %q: %w", r.Network, err)
	}
	replace := func(p pair) bool {
		return rotationPoint(p, r.Intermediate.RotateAt).Before(now) || p.certificate.CheckSignatureFrom(root.certificate) != nil
	}
	intermediate, err := a.ensure(ctx, r.Network+"/members/"+r.Member, replace, func() (pair, error) {
		return newIntermediate(root, r.Member, now, r.Intermediate.Validity)
	})
	if err != nil {
		return Chain{}, fmt.Errorf("intermediate CA of member %q: %w", r.Member, err)
	}
	chain := Chain{Root: root.certificate, Intermediate: intermediate.certificate, key: intermediate.key}
	if err := chain.verify(now); err != nil {
		return Chain{}, fmt.Errorf("chain of member %q: %w", r.Member, err)
	}
	return chain, nil
}

// rotationPoint is when a certificate has used up its share of life.
func rotationPoint(p pair, share float64) time.Time {
	life := p.certificate.NotAfter.Sub(p.certificate.NotBefore)
	return p.certificate.NotBefore.Add(time.Duration(float64(life) * share))
}

// ensure returns the CA under the name, newly made when there is none or when
// replace says so. Only a clear "not found" makes a new one: a vault that cannot
// be read must never lead to a second root.
func (a *Authority) ensure(ctx context.Context, name string, replace func(pair) bool, create func() (pair, error)) (pair, error) {
	data, err := a.vault.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		made, err := a.store(ctx, name, create, a.vault.Create)
		if !errors.Is(err, ErrExists) {
			return made, err
		}
		data, err = a.vault.Get(ctx, name)
		if err != nil {
			return pair{}, err
		}
	} else if err != nil {
		return pair{}, err
	}
	existing, err := decodePair(data)
	if err != nil {
		return pair{}, fmt.Errorf("read %q from the vault: %w", name, err)
	}
	if !replace(existing) {
		return existing, nil
	}
	return a.store(ctx, name, create, a.vault.Put)
}

// store makes a CA and keeps it in the vault.
func (a *Authority) store(ctx context.Context, name string, create func() (pair, error), keep func(context.Context, string, []byte) error) (pair, error) {
	made, err := create()
	if err != nil {
		return pair{}, err
	}
	encoded, err := made.encode()
	if err != nil {
		return pair{}, err
	}
	return made, keep(ctx, name, encoded)
}
