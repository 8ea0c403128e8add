package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"time"
)

// Fingerprint names a certificate: SHA-256 of its DER form, in lower-case hex.
type Fingerprint string

// FingerprintOf returns the fingerprint of a certificate.
func FingerprintOf(certificate *x509.Certificate) Fingerprint {
	sum := sha256.Sum256(certificate.Raw)
	return Fingerprint(hex.EncodeToString(sum[:]))
}

// Root is one generation of a network's root CA. It signs the intermediates of
// members, with a key that is in the vault.
type Root struct {
	// Generation counts from 1, in the order in which roots were made.
	Generation int
	// Certificate is the network's CA: self-signed, or signed by Issuers.
	Certificate *x509.Certificate
	// Issuers are the CAs above an external root, from its issuer up to the
	// self-signed one; none for a root that is self-signed.
	Issuers []*x509.Certificate
	// Made is when it was made or imported; certificates are dated back.
	Made time.Time

	keyName, keyVersion string
	trusts, signs       Fingerprint // worked out once
}

// Anchor is what members have to trust: the self-signed certificate at the top.
func (r Root) Anchor() *x509.Certificate {
	if len(r.Issuers) > 0 {
		return r.Issuers[len(r.Issuers)-1]
	}
	return r.Certificate
}

// Trusts is the fingerprint of the anchor, as members list it.
func (r Root) Trusts() Fingerprint {
	if r.trusts != "" {
		return r.trusts
	}
	return FingerprintOf(r.Anchor())
}

// Signs is the fingerprint of the CA that signs intermediates. It differs from
// Trusts for an external root.
func (r Root) Signs() Fingerprint {
	if r.signs != "" {
		return r.signs
	}
	return FingerprintOf(r.Certificate)
}

// between are the certificates from the member's intermediate to the anchor, both
// not included.
func (r Root) between() []*x509.Certificate {
	if len(r.Issuers) == 0 {
		return nil
	}
	return append([]*x509.Certificate{r.Certificate}, r.Issuers[:len(r.Issuers)-1]...)
}

// notAfter is when the first certificate of the root ends.
func (r Root) notAfter() time.Time {
	end := r.Certificate.NotAfter
	for _, issuer := range r.Issuers {
		if issuer.NotAfter.Before(end) {
			end = issuer.NotAfter
		}
	}
	return end
}

// anchors are the anchors of roots, in order of generation, each once. Members
// before Istio 1.30 take a new list only if one of both is a part of the other,
// byte by byte, so the order never changes.
func anchors(roots []Root) []*x509.Certificate {
	roots = slices.Clone(roots)
	slices.SortStableFunc(roots, func(a, b Root) int { return a.Generation - b.Generation })
	var out []*x509.Certificate
	for _, root := range roots {
		if !slices.ContainsFunc(out, root.Anchor().Equal) {
			out = append(out, root.Anchor())
		}
	}
	return out
}

// SignerOf returns the root that signed an intermediate, going by the signature
// and not by names.
func SignerOf(roots []Root, intermediate *x509.Certificate) (Root, bool) {
	for _, root := range roots {
		if bytes.Equal(intermediate.RawIssuer, root.Certificate.RawSubject) && intermediate.CheckSignatureFrom(root.Certificate) == nil {
			return root, true
		}
	}
	return Root{}, false
}
