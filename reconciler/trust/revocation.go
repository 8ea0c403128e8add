package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// How long a revocation list is good for. Node proxies take one that is older, as
// of Istio 1.31; a list is made anew at half of it all the same.
const crlValidity = 30 * 24 * time.Hour

// revokedDocument is what the vault keeps for a network's revocations.
type revokedDocument struct {
	Entries []revokedEntry `json:"entries"`
	// Lists are the newest lists, by the root that signs them.
	Lists map[Fingerprint]revokedList `json:"lists"`
}

// revokedEntry is an intermediate that is not to be trusted any more.
type revokedEntry struct {
	Member string      `json:"member"`
	Serial string      `json:"serial"`
	Signer Fingerprint `json:"signer"`
	// At is when it was revoked, NotAfter when it ends anyway.
	At       time.Time `json:"at"`
	NotAfter time.Time `json:"notAfter"`
}

type revokedList struct {
	Number     int64     `json:"number"`
	NextUpdate time.Time `json:"nextUpdate"`
	Serials    []string  `json:"serials"`
	PEM        string    `json:"pem"`
}

// revocations is what is known of them.
type revocations struct {
	known    bool
	document revokedDocument
	until    time.Time // when to read it again
}

func revokedName(network string) string { return network + "/revoked" }

// Revoke puts a member's intermediates that were issued before a time on the
// revocation lists of its network, for as long as they would be valid; those of a
// member that leaves, before now. It says whether the lists have changed; nothing is
// asked of the vault when all are on them already.
//
// Workload certificates of those intermediates are refused as soon as the others
// have the list: of a member that stays, the intermediate has to be replaced first,
// and its proxies restarted after.
func (a *Authority) Revoke(ctx context.Context, policy Policy, member string, issuedBefore time.Time) (bool, error) {
	if _, err := a.Issued(ctx, policy, member); err != nil {
		return false, err
	}
	m := a.member(policy.Network, member)
	if err := m.take(ctx); err != nil {
		return false, err
	}
	earlier := slices.Clone(m.earlier)
	if !m.issued.joining() {
		earlier = append(earlier, made(m.chain))
	}
	m.leave()
	now := a.now()
	var entries []revokedEntry
	for _, e := range earlier {
		if e.made.Before(issuedBefore) && e.end.After(now) {
			entries = append(entries, revokedEntry{Member: member, Serial: e.serial, Signer: e.signer, At: now.UTC().Truncate(time.Second), NotAfter: e.end.UTC()})
		}
	}
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return false, err
	}
	defer n.leave()
	changed, err := a.revoke(ctx, policy.Network, n, entries)
	if err != nil {
		return changed, fmt.Errorf("revoke intermediate CAs of member %q: %w", member, err)
	}
	return changed, nil
}

// revoke adds entries. Of two replicas that write at once the last one wins, so
// what was written is read again.
func (a *Authority) revoke(ctx context.Context, network string, n *networkState, entries []revokedEntry) (changed bool, err error) {
	if err := a.readRevoked(ctx, network, n); err != nil {
		return false, err
	}
	for range 3 {
		missing := slices.DeleteFunc(slices.Clone(entries), func(e revokedEntry) bool { return n.revoked.document.has(e) })
		if len(missing) == 0 {
			return changed, nil
		}
		n.revoked.document.Entries = append(n.revoked.document.Entries, missing...)
		changed = true
		if err := a.writeRevoked(ctx, network, n); err != nil {
			return changed, err
		}
		n.revoked.until = time.Time{}
		if err := a.readRevoked(ctx, network, n); err != nil {
			return changed, err
		}
	}
	return changed, errors.New("another process writes the network's revocations again and again")
}

func (d revokedDocument) has(e revokedEntry) bool {
	return slices.ContainsFunc(d.Entries, func(has revokedEntry) bool { return has.Serial == e.Serial && has.Signer == e.Signer })
}

func (a *Authority) readRevoked(ctx context.Context, network string, n *networkState) error {
	if n.revoked.known && a.now().Before(n.revoked.until) {
		return nil
	}
	name := revokedName(network)
	document, err := a.vault.Get(ctx, name)
	var read revokedDocument
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(document.Data, &read); err != nil {
			return fmt.Errorf("read %q from the vault: it is no list of revocations", name)
		}
	}
	n.revoked = revocations{known: true, document: read, until: a.expiry(name, rootsFor)}
	return nil
}

func (a *Authority) writeRevoked(ctx context.Context, network string, n *networkState) error {
	now := a.now()
	n.revoked.document.Entries = slices.DeleteFunc(n.revoked.document.Entries, func(e revokedEntry) bool { return !e.NotAfter.After(now) })
	data, err := json.Marshal(n.revoked.document)
	if err != nil {
		return fmt.Errorf("encode revocations: %w", err)
	}
	// What is known counts only once it is kept.
	n.revoked.known = false
	if err := a.vault.Put(ctx, revokedName(network), Document{Data: data}); err != nil {
		return err
	}
	n.revoked.known = true
	return nil
}

// lists returns the revocation lists of roots as PEM, and signs those that lack
// something or are to be renewed.
func (a *Authority) lists(ctx context.Context, policy Policy, roots []Root) ([]byte, error) {
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return nil, err
	}
	defer n.leave()
	if err := a.readRevoked(ctx, policy.Network, n); err != nil {
		return nil, err
	}
	now := a.now()
	var out []byte
	changed := false
	for _, root := range roots {
		has := n.revoked.document.Lists[root.Signs()]
		entries := n.revoked.document.of(root, now)
		if slices.Equal(serials(entries), has.Serials) && now.Before(has.NextUpdate.Add(-crlValidity/2)) {
			out = append(out, has.PEM...)
			continue
		}
		if err := a.clock(nil); err != nil {
			return nil, err
		}
		list, err := a.list(ctx, root, entries, max(has.Number+1, now.Unix()), now)
		if err != nil {
			return nil, err
		}
		if n.revoked.document.Lists == nil {
			n.revoked.document.Lists = map[Fingerprint]revokedList{}
		}
		n.revoked.document.Lists[root.Signs()], changed = list, true
		out = append(out, list.PEM...)
	}
	if !changed {
		return out, nil
	}
	return out, a.writeRevoked(ctx, policy.Network, n)
}

// of are the entries of a root that are still worth telling, in order.
func (d revokedDocument) of(root Root, now time.Time) []revokedEntry {
	out := slices.DeleteFunc(slices.Clone(d.Entries), func(e revokedEntry) bool {
		return e.Signer != root.Signs() || !e.NotAfter.After(now)
	})
	slices.SortFunc(out, func(a, b revokedEntry) int { return strings.Compare(a.Serial, b.Serial) })
	return out
}

func serials(entries []revokedEntry) []string {
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Serial)
	}
	return out
}

// list signs the revocation list of one root.
func (a *Authority) list(ctx context.Context, root Root, entries []revokedEntry, number int64, now time.Time) (revokedList, error) {
	key, err := a.vault.Key(ctx, root.keyName, root.keyVersion)
	if err != nil {
		return revokedList{}, err
	}
	if !samePublicKey(root.Certificate.PublicKey, key.Public()) {
		return revokedList{}, errWrongKey
	}
	template := &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: now.Add(-clockSkew), NextUpdate: now.Add(crlValidity),
	}
	for _, e := range entries {
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		if !ok {
			return revokedList{}, fmt.Errorf("serial number %q of member %q is not hex", e.Serial, e.Member)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: e.At})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, root.Certificate, vaultSigner{ctx, key})
	if err != nil {
		return revokedList{}, fmt.Errorf("sign the revocation list of %q: %w", root.Certificate.Subject.CommonName, err)
	}
	return revokedList{Number: number, NextUpdate: template.NextUpdate.UTC(), Serials: serials(entries), PEM: string(encodeCRL(der))}, nil
}

// emptyList is the revocation list of an intermediate, which revokes nothing:
// istiod takes ca-crl.pem only if every CA of its chain has one in it. It lasts as
// long as the intermediate.
func emptyList(intermediate *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: intermediate.NotBefore, NextUpdate: intermediate.NotAfter,
	}, intermediate, key)
	if err != nil {
		return nil, fmt.Errorf("sign an empty revocation list: %w", err)
	}
	return encodeCRL(der), nil
}

func encodeCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// withLists returns the chain with revocation lists, or without any when lists is
// empty. The intermediate's own list is kept where there is one.
func (c Chain) withLists(lists []byte) (Chain, error) {
	if len(lists) == 0 {
		c.crl = nil
		return c, nil
	}
	own, _ := firstPEM(c.crl)
	if list := parseCRL(own); list == nil || list.CheckSignatureFrom(c.Intermediate) != nil {
		var err error
		if own, err = emptyList(c.Intermediate, c.key); err != nil {
			return Chain{}, err
		}
	}
	c.crl = append(slices.Clone(own), lists...)
	return c, nil
}

func firstPEM(data []byte) (first, rest []byte) {
	const end = "-----END X509 CRL-----\n"
	i := bytes.Index(data, []byte(end))
	if i < 0 {
		return nil, nil
	}
	return data[:i+len(end)], data[i+len(end):]
}

func parseCRL(data []byte) *x509.RevocationList {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "X509 CRL" {
		return nil
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return nil
	}
	return list
}

// checkLists checks revocation lists as istiod does: each is signed by a CA of the
// chain or by one that is trusted, and every CA that istiod sends along has one.
func (c Chain) checkLists() error {
	if len(c.crl) == 0 {
		return nil
	}
	missing := c.path()
	for rest := c.crl; len(rest) > 0; {
		var first []byte
		first, rest = firstPEM(rest)
		list := parseCRL(first)
		if list == nil {
			return fmt.Errorf("%s is not PEM of revocation lists", fileCRL)
		}
		signs := func(certificate *x509.Certificate) bool { return list.CheckSignatureFrom(certificate) == nil }
		if !slices.ContainsFunc(append(c.path(), c.Trusts...), signs) {
			return fmt.Errorf("%s has a list that no CA of the chain signed", fileCRL)
		}
		missing = slices.DeleteFunc(missing, signs)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s has no list of %q, so istiod would refuse it", fileCRL, missing[0].Subject.CommonName)
	}
	return nil
}

// listed are the roots whose lists a chain of theirs can carry. A root below
// somebody's issuing CA has none: istiod would want a list of that CA, too.
func listed(policy Policy, target Target) []Root {
	if !policy.CRL || len(target.Signer.between()) > 1 {
		return nil
	}
	out := slices.Clone(target.Trusts)
	if !slices.ContainsFunc(out, func(root Root) bool { return root.Generation == target.Signer.Generation }) {
		out = append(out, target.Signer)
	}
	return slices.DeleteFunc(out, func(root Root) bool {
		// An external root that is not the signer's is no CA of this chain.
		return len(root.Issuers) > 0 && root.Generation != target.Signer.Generation
	})
}
