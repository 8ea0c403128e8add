package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// clockSkew is how far certificates are dated back, for members whose clocks
// are behind the hub's.
const clockSkew = 5 * time.Minute

// pair is a CA certificate with its key.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newRoot makes a self-signed root that allows one tier of intermediates.
func newRoot(network string, now time.Time, validity time.Duration) (pair, error) {
	template := caTemplate(network+" root CA", network, now, validity)
	template.MaxPathLen = 1
	return sign(template, nil)
}

// newIntermediate makes a member's CA, which can sign workloads only and never
// outlives its root.
func newIntermediate(root pair, member string, now time.Time, validity time.Duration) (pair, error) {
	if !now.Before(root.certificate.NotAfter) {
		return pair{}, fmt.Errorf("root CA expired on %s", root.certificate.NotAfter.UTC().Format(time.DateOnly))
	}
	template := caTemplate(member+" intermediate CA", root.certificate.Subject.Organization[0], now, validity)
	template.MaxPathLenZero = true
	if template.NotAfter.After(root.certificate.NotAfter) {
		template.NotAfter = root.certificate.NotAfter
	}
	return sign(template, &root)
}

func caTemplate(name, organization string, now time.Time, validity time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{organization}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign makes a key and a certificate for it; without a parent it signs itself.
// crypto/x509 fills in a random serial number and the key identifiers.
func sign(template *x509.Certificate, parent *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make key: %w", err)
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return pair{}, fmt.Errorf("sign %q: %w", template.Subject.CommonName, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("parse %q: %w", template.Subject.CommonName, err)
	}
	return pair{certificate: certificate, key: key}, nil
}

func (p pair) encode() ([]byte, error) {
	key, err := encodeKey(p.key)
	if err != nil {
		return nil, err
	}
	return append(encodeCertificate(p.certificate), key...), nil
}

// decodePair reads one certificate and its key, in any order. Errors say what is
// wrong without showing any of it.
func decodePair(data []byte) (pair, error) {
	var p pair
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return pair{}, errors.New("not PEM")
		}
		switch block.Type {
		case "CERTIFICATE":
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return pair{}, errors.New("certificate does not parse")
			}
			p.certificate = certificate
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			key, ok := parsed.(*ecdsa.PrivateKey)
			if err != nil || !ok {
				return pair{}, errors.New("key is not a PKCS #8 ECDSA key")
			}
			p.key = key
		default:
			return pair{}, fmt.Errorf("unexpected PEM block %q", block.Type)
		}
	}
	if p.certificate == nil || p.key == nil {
		return pair{}, errors.New("certificate or key is missing")
	}
	return p, p.match()
}

// match refuses a key that is not the certificate's.
func (p pair) match() error {
	public, ok := p.certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.key.Public()) {
		return errors.New("key and certificate do not belong together")
	}
	return nil
}

func encodeCertificate(certificate *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("encode key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
