package trust

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// clockSkew is how far certificates are dated back, for members whose clocks
// are behind the hub's.
const clockSkew = 5 * time.Minute

// maxName is the longest common name that X.509 allows.
const maxName = 64

// rootTemplate is a root that allows one tier of intermediates below it.
func rootTemplate(network string, generation int, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	template, err := caTemplate(commonName(network, generation), network, now, validity)
	if err != nil {
		return nil, err
	}
	template.MaxPathLen = 1
	return template, nil
}

// commonName is a root's. With one name for all generations they would be told
// apart by their keys only.
func commonName(network string, generation int) string {
	if generation == 1 {
		return network + " root CA"
	}
	return fmt.Sprintf("%s root CA %d", network, generation)
}

// intermediateTemplate is a member's CA, which can sign workloads only, and lives
// within the life of its root.
func intermediateTemplate(root Root, network, member string, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	if !now.Before(root.notAfter()) {
		return nil, fmt.Errorf("root CA expired on %s", root.notAfter().UTC().Format(time.DateOnly))
	}
	name := member + " intermediate CA"
	if len(name) > maxName {
		name = member
	}
	template, err := caTemplate(name, network, now, validity)
	if err != nil {
		return nil, err
	}
	template.MaxPathLenZero = true
	if template.NotBefore.Before(root.Certificate.NotBefore) {
		template.NotBefore = root.Certificate.NotBefore
	}
	if template.NotAfter.After(root.notAfter()) {
		template.NotAfter = root.notAfter()
	}
	return template, nil
}

func caTemplate(name, organization string, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	if validity <= 0 {
		return nil, errors.New("validity of the CA is not set")
	}
	return &x509.Certificate{
		SerialNumber:          serialNumber(),
		Subject:               pkix.Name{CommonName: name, Organization: []string{organization}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil
}

// serialNumber is a random number of 127 bits: positive, and of 16 bytes.
func serialNumber() *big.Int {
	number := make([]byte, 16)
	_, _ = rand.Read(number) // never fails, by its documentation
	number[0] = number[0]&0x7f | 0x40
	return new(big.Int).SetBytes(number)
}

// sign makes a certificate for a public key. What comes out is read again and
// checked against its issuer: a vault may sign by another key than it said.
func sign(ctx context.Context, template, issuer *x509.Certificate, public crypto.PublicKey, key Key) (*x509.Certificate, error) {
	if !samePublicKey(issuer.PublicKey, key.Public()) {
		return nil, errWrongKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, vaultSigner{ctx, key})
	if err != nil {
		return nil, fmt.Errorf("sign %q: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse %q: %w", template.Subject.CommonName, err)
	}
	return certificate, nil
}

var errWrongKey = errors.New("the vault's key is not the one of the certificate that it should sign for")

// vaultSigner lets crypto/x509 sign by a key of a vault.
type vaultSigner struct {
	ctx context.Context //nolint:containedctx // crypto.Signer has no context, and lives for one call here
	key Key
}

func (s vaultSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s vaultSigner) Sign(_ io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(s.ctx, digest, options.HashFunc())
}

func samePublicKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return out
}
