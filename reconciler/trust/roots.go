package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// networkState is what is known of a network's roots.
type networkState struct {
	lock
	roots []Root
	until time.Time // when to look for more

	revoked revocations
}

func (a *Authority) network(name string) *networkState {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.networks[name] == nil {
		a.networks[name] = &networkState{lock: newLock()}
	}
	return a.networks[name]
}

// rootName is the name in the vault of a root's key and certificate.
func rootName(network string, generation int) string {
	if generation == 1 {
		return network + "/root"
	}
	return network + "/root-" + strconv.Itoa(generation)
}

// Tags of a root's document.
const (
	tagKey        = "key"
	tagKeyVersion = "key-version"
	tagMade       = "made" // seconds
)

// errNoRoot says that a root has to be imported first.
var errNoRoot = errors.New("its roots are signed by your PKI, and this one is not there yet: " +
	"isthmus trust csr gives the request, isthmus trust import takes the answer")

// Roots returns the network's roots, in order of generation, and makes the first
// where there is none. A vault that cannot be read is never taken for an empty one.
// Roots that are known stay known while the vault cannot be read again.
func (a *Authority) Roots(ctx context.Context, policy Policy) ([]Root, error) {
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return nil, err
	}
	defer n.leave()
	err := a.readRoots(ctx, policy.Network, n)
	if err == nil && len(n.roots) == 0 {
		if policy.External {
			err = errNoRoot
		} else {
			err = a.makeRoot(ctx, policy, n)
		}
	}
	if err != nil && len(n.roots) == 0 {
		return nil, fmt.Errorf("root CA of network %q: %w", policy.Network, err)
	}
	return slices.Clone(n.roots), nil
}

// MakeRoot makes the generation after a root, or returns it when it is there: of
// several callers all get the same.
func (a *Authority) MakeRoot(ctx context.Context, policy Policy, after Root) (Root, error) {
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return Root{}, err
	}
	defer n.leave()
	n.until = time.Time{}
	err := a.readRoots(ctx, policy.Network, n)
	if err == nil && len(n.roots) == after.Generation {
		if policy.External {
			err = errNoRoot
		} else {
			err = a.makeRoot(ctx, policy, n)
		}
	}
	if err == nil && len(n.roots) <= after.Generation {
		err = fmt.Errorf("generation %d is not in the vault", after.Generation)
	}
	if err != nil {
		return Root{}, fmt.Errorf("new root CA of network %q: %w", policy.Network, err)
	}
	return n.roots[after.Generation], nil
}

// readRoots looks for roots that are not known yet. Those that are never change.
func (a *Authority) readRoots(ctx context.Context, network string, n *networkState) error {
	if len(n.roots) > 0 && a.now().Before(n.until) {
		return nil
	}
	for {
		root, err := a.readRoot(ctx, network, len(n.roots)+1)
		if errors.Is(err, ErrNotFound) {
			n.until = a.expiry(network, rootsFor)
			return nil
		}
		if err != nil {
			n.until = a.now().Add(againAfter)
			return err
		}
		n.roots = append(n.roots, root)
	}
}

func (a *Authority) readRoot(ctx context.Context, network string, generation int) (Root, error) {
	name := rootName(network, generation)
	document, err := a.vault.Get(ctx, name)
	if err != nil {
		return Root{}, err
	}
	root, err := decodeRoot(name, generation, document)
	if err != nil {
		return Root{}, fmt.Errorf("read %q from the vault: %w", name, err)
	}
	return root, nil
}

// decodeRoot reads a root's certificates, from its own up. A key beside them is
// what the Directory vault kept before, and is not looked at here.
func decodeRoot(name string, generation int, document Document) (Root, error) {
	certificates, _, err := decodePEM(document.Data)
	if err != nil {
		return Root{}, err
	}
	if len(certificates) == 0 {
		return Root{}, errors.New("certificate is missing")
	}
	root := Root{
		Generation: generation, Certificate: certificates[0], Issuers: certificates[1:],
		Made:    certificates[0].NotBefore.Add(clockSkew),
		keyName: name, keyVersion: document.Tags[tagKeyVersion],
	}
	root.trusts, root.signs = root.Trusts(), root.Signs()
	if key := document.Tags[tagKey]; key != "" {
		root.keyName = key
	}
	if seconds, err := strconv.ParseInt(document.Tags[tagMade], 10, 64); err == nil {
		root.Made = time.Unix(seconds, 0).UTC()
	}
	return root, nil
}

// makeRoot makes the next generation and keeps it, unless another replica was
// first; then that one is taken.
func (a *Authority) makeRoot(ctx context.Context, policy Policy, n *networkState) error {
	if err := a.clock(nil); err != nil {
		return err
	}
	generation := len(n.roots) + 1
	name := rootName(policy.Network, generation)
	keyName, key, err := a.rootKey(ctx, policy, name, n.roots)
	if err != nil {
		return err
	}
	now := a.now()
	template, err := rootTemplate(policy.Network, generation, now, policy.Root.Validity)
	if err != nil {
		return err
	}
	template.PublicKey = key.Public()
	certificate, err := sign(ctx, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := checkPath([]*x509.Certificate{certificate}, 1, now); err != nil {
		return err
	}
	return a.keepRoot(ctx, policy.Network, n, Document{
		Data: encodeCertificates(certificate), NotAfter: certificate.NotAfter,
		Tags: map[string]string{tagKey: keyName, tagKeyVersion: key.Version(), tagMade: strconv.FormatInt(now.Unix(), 10)},
	})
}

// keepRoot keeps the next generation, or takes the one that somebody else kept.
func (a *Authority) keepRoot(ctx context.Context, network string, n *networkState, document Document) error {
	generation := len(n.roots) + 1
	if err := a.vault.Create(ctx, rootName(network, generation), document); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	root, err := a.readRoot(ctx, network, generation)
	if err != nil {
		return err
	}
	n.roots, n.until = append(n.roots, root), a.expiry(network, rootsFor)
	return nil
}

// rootKey returns the key for a new root: the one that Git names, or one made in
// the vault.
func (a *Authority) rootKey(ctx context.Context, policy Policy, name string, before []Root) (string, Key, error) {
	if policy.RootKeyName == "" {
		spec := policy.RootKey
		if spec.Algorithm == "" {
			spec.Algorithm = ECDSAP256
		}
		key, err := a.vault.CreateKey(ctx, name, spec)
		return name, key, err
	}
	for _, root := range before {
		if root.keyName == policy.RootKeyName {
			return "", nil, fmt.Errorf("key %q is the key of generation %d already: name another one in spec.trust.root.key.name", policy.RootKeyName, root.Generation)
		}
	}
	key, err := a.vault.Key(ctx, policy.RootKeyName, "")
	if err != nil {
		return "", nil, err
	}
	return policy.RootKeyName, key, checkKey(policy.RootKeyName, key.Public())
}

// checkKey refuses kinds of keys that members' proxies may not verify by.
func checkKey(name string, public crypto.PublicKey) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() >= 3072 {
			return nil
		}
	}
	return &VaultError{
		Reason: VaultKeyUnsuitable, Op: fmt.Sprintf("use key %q", name), Message: "it is no key for a root CA",
		Hint: "name one that is ECDSA P-256 or P-384, or RSA with 3072 bits or more",
	}
}
