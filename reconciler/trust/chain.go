package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SecretName is the Secret in which istiod looks for its CA. Applied after
// istiod has started without it, it comes too late: istiod has then signed
// itself a CA that no other member trusts.
const SecretName = "cacerts"

// The files of the Secret. istiod refuses to start when one of the first four is
// missing.
const (
	fileCert  = "ca-cert.pem"
	fileKey   = "ca-key.pem"
	fileChain = "cert-chain.pem"
	fileRoots = "root-cert.pem"
	fileCRL   = "ca-crl.pem"
)

// Chain is a member's CA: what its istiod signs with and what the network trusts.
// It holds a private key; print only its certificates.
type Chain struct {
	// Root is the network's CA, which signed Intermediate.
	Root, Intermediate *x509.Certificate
	// Issuers are the CAs above Root, up to and without the one that members trust;
	// none for a self-signed root.
	Issuers []*x509.Certificate
	// Trusts is what workloads trust, in order of generation.
	Trusts []*x509.Certificate

	key *ecdsa.PrivateKey
	crl []byte // revocation lists as PEM, the intermediate's own first; or none
}

// String names the chain without its key. It changes with everything that the
// member gets; that of the zero value is empty.
func (c Chain) String() string {
	if c.Intermediate == nil {
		return ""
	}
	text := fmt.Sprintf("%s (serial %s", c.Intermediate.Subject.CommonName, c.Serial())
	for _, trusted := range c.Trusts {
		text += ", trusts " + string(FingerprintOf(trusted)[:16])
	}
	if len(c.crl) > 0 {
		sum := sha256.Sum256(c.crl)
		text += ", revocation lists " + hex.EncodeToString(sum[:8])
	}
	return text + ")"
}

// GoString is String: %#v must not print the key either.
func (c Chain) GoString() string { return c.String() }

// Serial is the serial number of the intermediate in hex.
func (c Chain) Serial() string { return c.Intermediate.SerialNumber.Text(16) }

// NotAfter is when the member can no longer sign.
func (c Chain) NotAfter() time.Time { return c.Intermediate.NotAfter }

// Signer names the root that signed the intermediate, as [Root.Signs] does.
func (c Chain) Signer() Fingerprint { return FingerprintOf(c.Root) }

// Fingerprints are those of Trusts, in order.
func (c Chain) Fingerprints() []Fingerprint {
	var out []Fingerprint
	for _, trusted := range c.Trusts {
		out = append(out, FingerprintOf(trusted))
	}
	return out
}

// path are the certificates that istiod sends along with those of workloads: from
// the intermediate up to and without the one that is trusted.
func (c Chain) path() []*x509.Certificate {
	path := []*x509.Certificate{c.Intermediate}
	if len(c.Trusts) > 0 && !bytes.Equal(c.Root.RawIssuer, c.Root.RawSubject) {
		path = append(append(path, c.Root), c.Issuers...)
	}
	return path
}

// ParseChain reads the files of a cacerts Secret and verifies them whole, as it
// does for everything that is handed out. Errors show nothing of the files.
func ParseChain(files map[string][]byte, now time.Time) (Chain, error) {
	c, err := parseChain(files)
	if err != nil {
		return Chain{}, err
	}
	if err := c.verify(now); err != nil {
		return Chain{}, err
	}
	return c, nil
}

func parseChain(files map[string][]byte) (Chain, error) {
	c := Chain{crl: files[fileCRL]}
	for _, name := range []string{fileCert, fileKey, fileChain, fileRoots} {
		if len(files[name]) == 0 {
			return Chain{}, fmt.Errorf("%s is missing", name)
		}
	}
	own, err := decodeCertificates(files[fileCert])
	if err != nil {
		return Chain{}, fmt.Errorf("%s: %w", fileCert, err)
	}
	c.Intermediate = own[0]
	none, key, err := decodePEM(files[fileKey])
	if err != nil {
		return Chain{}, fmt.Errorf("%s: %w", fileKey, err)
	}
	if len(none) > 0 || key == nil {
		return Chain{}, fmt.Errorf("%s: not one key", fileKey)
	}
	c.key = key
	path, err := decodeCertificates(files[fileChain])
	if err != nil {
		return Chain{}, fmt.Errorf("%s: %w", fileChain, err)
	}
	if !path[0].Equal(c.Intermediate) || len(own) > 1 {
		return Chain{}, fmt.Errorf("%s does not begin with the one certificate of %s", fileChain, fileCert)
	}
	if c.Trusts, err = decodeCertificates(files[fileRoots]); err != nil {
		return Chain{}, fmt.Errorf("%s: %w", fileRoots, err)
	}
	if len(path) > 1 {
		c.Root, c.Issuers = path[1], path[2:]
		return c, nil
	}
	for _, trusted := range c.Trusts {
		if issued(c.Intermediate, trusted) {
			c.Root = trusted
			return c, nil
		}
	}
	return Chain{}, errors.New("the intermediate CA is signed by no root that is trusted")
}

// issued says whether a certificate was signed by another one.
func issued(certificate, by *x509.Certificate) bool {
	return bytes.Equal(certificate.RawIssuer, by.RawSubject) && certificate.CheckSignatureFrom(by) == nil
}

// verify checks what istiod would only log, and more: the key, every link from
// the intermediate to one root that is trusted, and that each is a CA that may
// have what is below it.
func (c Chain) verify(now time.Time) error {
	if c.key == nil || !samePublicKey(c.Intermediate.PublicKey, c.key.Public()) {
		return errors.New("key and certificate do not belong together")
	}
	for i, trusted := range c.Trusts {
		if err := checkAnchor(trusted); err != nil {
			return err
		}
		for _, before := range c.Trusts[:i] {
			if before.Equal(trusted) {
				return fmt.Errorf("root %q is listed twice", trusted.Subject.CommonName)
			}
		}
	}
	path := c.upToTrusted()
	if path == nil {
		return errors.New("the chain leads to no root that is trusted")
	}
	return errors.Join(checkPath(path, 0, now), c.checkLists())
}

// upToTrusted are the certificates from the intermediate up to one that is
// trusted; nil when they lead to none.
func (c Chain) upToTrusted() []*x509.Certificate {
	path := c.path()
	for _, trusted := range c.Trusts {
		if issued(path[len(path)-1], trusted) {
			return append(path, trusted)
		}
	}
	return nil
}

func checkAnchor(certificate *x509.Certificate) error {
	if !issued(certificate, certificate) {
		return fmt.Errorf("root %q is not self-signed", certificate.Subject.CommonName)
	}
	return checkCA(certificate)
}

func checkCA(certificate *x509.Certificate) error {
	switch name := certificate.Subject.CommonName; {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return fmt.Errorf("%q is no CA (basic constraints)", name)
	case certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%q may not sign certificates (key usage)", name)
	}
	return nil
}

// checkPath checks CAs, each signed by the next, of which the first has a number
// of CAs below it.
func checkPath(path []*x509.Certificate, below int, now time.Time) error {
	if err := checkTimes(path, now); err != nil {
		return err
	}
	for i, certificate := range path {
		if err := checkCA(certificate); err != nil {
			return err
		}
		name := certificate.Subject.CommonName
		limited := certificate.MaxPathLen > 0 || certificate.MaxPathLenZero
		switch {
		case limited && certificate.MaxPathLen < i+below:
			return fmt.Errorf("%q allows %d CAs below it and is to have %d (path length)", name, certificate.MaxPathLen, i+below)
		case i == 0 && (len(certificate.SubjectKeyId) == 0 || certificate.KeyUsage == 0):
			return fmt.Errorf("%q has no subject key identifier or no key usage", name)
		}
		if i == len(path)-1 {
			break
		}
		if issuer := path[i+1]; !issued(certificate, issuer) {
			return fmt.Errorf("%q is not signed by %q, which follows it", name, issuer.Subject.CommonName)
		}
	}
	if first := path[0]; len(path) > 1 && first.NotAfter.After(path[1].NotAfter) {
		return fmt.Errorf("%q outlives %q, which signed it", first.Subject.CommonName, path[1].Subject.CommonName)
	}
	return checkUsages(path, now)
}

func checkTimes(path []*x509.Certificate, now time.Time) error {
	for _, certificate := range path {
		name := certificate.Subject.CommonName
		switch {
		case now.Before(certificate.NotBefore):
			return fmt.Errorf("%q is not valid before %s", name, certificate.NotBefore.UTC().Format(time.RFC3339))
		case !now.Before(certificate.NotAfter):
			return fmt.Errorf("%q expired on %s", name, certificate.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// checkUsages verifies as both sides of a connection do, each with its own
// extended key usage, and with name constraints.
func checkUsages(path []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(path[len(path)-1])
	for _, certificate := range path[1:] {
		between.AddCert(certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := path[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
		}); err != nil {
			return fmt.Errorf("verify %q: %w", path[0].Subject.CommonName, err)
		}
	}
	return nil
}

// files are the files of the Secret, in the layout of plugged-in certificates.
// Source: https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/
func (c Chain) files() (map[string][]byte, error) {
	key, err := encodeKey(c.key)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		fileCert:  encodeCertificates(c.Intermediate),
		fileKey:   key,
		fileChain: encodeCertificates(c.path()...),
		fileRoots: encodeCertificates(c.Trusts...),
	}
	if len(c.crl) > 0 {
		files[fileCRL] = c.crl
	}
	return files, nil
}

// encode is the member's document in the vault: the files as one JSON object, so
// that what delivers secrets from a vault to a cluster can deliver it as it is.
func (c Chain) encode() ([]byte, error) {
	files, err := c.files()
	if err != nil {
		return nil, err
	}
	text := map[string]string{}
	for name, content := range files {
		text[name] = string(content)
	}
	return json.Marshal(text)
}

// decodeChain reads a member's document: the JSON object, or the certificate and
// key as PEM that were kept before, for which roots say who signed.
func decodeChain(data []byte, roots []Root) (Chain, error) {
	if len(data) > maxPEM {
		return Chain{}, errors.New("more than 256 KiB")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		certificates, key, err := decodePEM(data)
		if err != nil {
			return Chain{}, err
		}
		if len(certificates) != 1 || key == nil {
			return Chain{}, errors.New("certificate or key is missing")
		}
		c := Chain{Intermediate: certificates[0], key: key}
		root, ok := SignerOf(roots, c.Intermediate)
		if !ok {
			return Chain{}, errForeign
		}
		c.Root, c.Trusts = root.Certificate, []*x509.Certificate{root.Anchor()}
		if between := root.between(); len(between) > 0 {
			c.Issuers = between[1:]
		}
		return c, nil
	}
	var text map[string]string
	if err := json.Unmarshal(data, &text); err != nil {
		return Chain{}, errors.New("not a JSON object of texts")
	}
	files := map[string][]byte{}
	for name, content := range text {
		files[name] = []byte(content)
	}
	return parseChain(files)
}

// errForeign says that a chain is of another hierarchy than the vault's.
var errForeign = errors.New("the chain is signed by no root of the vault")

// Secret returns the Secret "cacerts" for istiod's namespace: cert-chain.pem holds
// the CAs below the root, root-cert.pem what the network trusts.
func (c Chain) Secret(namespace string) (*unstructured.Unstructured, error) {
	files, err := c.files()
	if err != nil {
		return nil, err
	}
	data := map[string]any{}
	for name, content := range files {
		data[name] = base64.StdEncoding.EncodeToString(content)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]any{"name": SecretName, "namespace": namespace},
		"type":       "Opaque",
		"data":       data,
	}}, nil
}
