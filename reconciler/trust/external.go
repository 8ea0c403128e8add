package trust

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// CSR is a request for the certificate of a network's next root, to be signed by
// somebody's own PKI.
type CSR struct {
	// Generation is the root that the request is for.
	Generation int
	// PEM is the request itself, which is no secret.
	PEM []byte
}

// CSR returns the request for the next generation of a network's root. Its key is
// made in the vault, by the first request; the same generation always has the same
// key, so a request may be lost.
func (a *Authority) CSR(ctx context.Context, policy Policy) (CSR, error) {
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return CSR{}, err
	}
	defer n.leave()
	request, err := a.request(ctx, policy, n)
	if err != nil {
		return CSR{}, fmt.Errorf("request for the root CA of network %q: %w", policy.Network, err)
	}
	return request, nil
}

// errNotExternal says that Git has to say first who signs roots.
var errNotExternal = errors.New("its roots are self-signed; set spec.trust.root.issuer to External first")

func (a *Authority) request(ctx context.Context, policy Policy, n *networkState) (CSR, error) {
	if !policy.External {
		return CSR{}, errNotExternal
	}
	n.until = time.Time{}
	if err := a.readRoots(ctx, policy.Network, n); err != nil {
		return CSR{}, err
	}
	generation := len(n.roots) + 1
	_, key, err := a.rootKey(ctx, policy, rootName(policy.Network, generation), n.roots)
	if err != nil {
		return CSR{}, err
	}
	extensions, err := requestedExtensions()
	if err != nil {
		return CSR{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: commonName(policy.Network, generation), Organization: []string{policy.Network}},
		ExtraExtensions: extensions,
	}, vaultSigner{ctx, key})
	if err != nil {
		return CSR{}, err
	}
	return CSR{Generation: generation, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}, nil
}

// requestedExtensions ask for a CA with one tier of CAs below it. Many PKIs go by
// a template of their own instead, so the answer is checked all the same.
func requestedExtensions() ([]pkix.Extension, error) {
	constraints, err := asn1.Marshal(struct {
		IsCA       bool `asn1:"optional"`
		MaxPathLen int  `asn1:"optional"`
	}{true, 1})
	if err != nil {
		return nil, err
	}
	// keyCertSign and cRLSign are bits 5 and 6.
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{0x06}, BitLength: 7})
	if err != nil {
		return nil, err
	}
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
	}, nil
}

// Import takes the answer to a [CSR]: the certificate of the network's root and of
// every CA above it up to the self-signed one, as PEM in any order. It is checked
// as far as that goes without a member, and kept as the next generation; members
// then change over to it as in any rotation. Importing it again changes nothing.
func (a *Authority) Import(ctx context.Context, policy Policy, data []byte) (Root, error) {
	n := a.network(policy.Network)
	if err := n.take(ctx); err != nil {
		return Root{}, err
	}
	defer n.leave()
	root, err := a.importRoot(ctx, policy, n, data)
	if err != nil {
		return Root{}, fmt.Errorf("import of a root CA of network %q: %w", policy.Network, err)
	}
	return root, nil
}

func (a *Authority) importRoot(ctx context.Context, policy Policy, n *networkState, data []byte) (Root, error) {
	if !policy.External {
		return Root{}, errNotExternal
	}
	if err := a.clock(nil); err != nil {
		return Root{}, err
	}
	certificates, err := decodeCertificates(data)
	if err != nil {
		return Root{}, err
	}
	n.until = time.Time{}
	if err := a.readRoots(ctx, policy.Network, n); err != nil {
		return Root{}, err
	}
	for _, root := range n.roots {
		if slices.ContainsFunc(certificates, root.Certificate.Equal) {
			return root, nil
		}
	}
	generation := len(n.roots) + 1
	keyName := rootName(policy.Network, generation)
	if policy.RootKeyName != "" {
		keyName = policy.RootKeyName
	}
	key, err := a.vault.Key(ctx, keyName, "")
	if errors.Is(err, ErrNotFound) {
		return Root{}, fmt.Errorf("%w; begin with isthmus trust csr", err)
	}
	if err != nil {
		return Root{}, err
	}
	path, err := arrange(certificates, key)
	if err != nil {
		return Root{}, err
	}
	now := a.now()
	if err := checkImport(path, policy, now); err != nil {
		return Root{}, err
	}
	err = a.keepRoot(ctx, policy.Network, n, Document{
		Data: encodeCertificates(path...), NotAfter: path[0].NotAfter,
		Tags: map[string]string{tagKey: keyName, tagKeyVersion: key.Version(), tagMade: strconv.FormatInt(now.Unix(), 10)},
	})
	if err != nil {
		return Root{}, err
	}
	root := n.roots[generation-1]
	if !root.Certificate.Equal(path[0]) {
		return Root{}, fmt.Errorf("generation %d was imported meanwhile, with another certificate", generation)
	}
	return root, nil
}

// arrange puts certificates in order: the one of the key first, then who signed
// it, up to one that is self-signed.
func arrange(certificates []*x509.Certificate, key Key) ([]*x509.Certificate, error) {
	own := slices.IndexFunc(certificates, func(c *x509.Certificate) bool { return samePublicKey(c.PublicKey, key.Public()) })
	if own < 0 {
		return nil, errors.New("none of the certificates is for the key of the request: it answers another request, or the network's certificate is missing")
	}
	path, rest := []*x509.Certificate{certificates[own]}, slices.Delete(slices.Clone(certificates), own, own+1)
	for top := path[0]; !issued(top, top); top = path[len(path)-1] {
		next := slices.IndexFunc(rest, func(c *x509.Certificate) bool { return issued(top, c) })
		if next < 0 {
			return nil, fmt.Errorf("the CA %q, which signed %q, is missing; add every certificate up to the self-signed root",
				top.Issuer.String(), top.Subject.CommonName)
		}
		path, rest = append(path, rest[next]), slices.Delete(rest, next, next+1)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%q is not part of the chain; leave it out", rest[0].Subject.CommonName)
	}
	if len(path) == 1 {
		return nil, errors.New("the certificate is self-signed; for that, set spec.trust.root.issuer to SelfSigned")
	}
	return path, nil
}

// checkImport checks a root and the CAs above it before anything is signed by it.
func checkImport(path []*x509.Certificate, policy Policy, now time.Time) error {
	if err := checkPath(path, 1, now); err != nil {
		return err
	}
	if err := checkAnchor(path[len(path)-1]); err != nil {
		return err
	}
	if path[0].KeyUsage&x509.KeyUsageCRLSign == 0 {
		return fmt.Errorf("%q may not sign revocation lists (key usage)", path[0].Subject.CommonName)
	}
	// All members have to change over, and back to another one, within its life.
	if least := now.Add(policy.Intermediate.Validity); path[0].NotAfter.Before(least) {
		return fmt.Errorf("%q ends on %s, before an intermediate CA that is made today would (%s)",
			path[0].Subject.CommonName, path[0].NotAfter.UTC().Format(time.DateOnly), least.UTC().Format(time.DateOnly))
	}
	return checkKey(path[0].Subject.CommonName, path[0].PublicKey)
}
