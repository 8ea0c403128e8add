package trust

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// SecretName is the Secret in which istiod looks for its CA. Applied after
// istiod has started without it, it comes too late: istiod has then signed
// itself a CA that no other member trusts.
const SecretName = "cacerts"

// Chain is a member's CA: what its istiod signs with and what the network trusts.
// It holds a private key; print only its certificates.
type Chain struct {
	Root, Intermediate *x509.Certificate
	key                *ecdsa.PrivateKey
}

// String names the chain without its key.
func (c Chain) String() string {
	return fmt.Sprintf("%s (serial %x)", c.Intermediate.Subject.CommonName, c.Intermediate.SerialNumber)
}

// GoString is String: %#v must not print the key either.
func (c Chain) GoString() string { return c.String() }

// verify checks what istiod would only log: the key, the chain, the lifetimes.
func (c Chain) verify(now time.Time) error {
	if err := (pair{certificate: c.Intermediate, key: c.key}).match(); err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.Root)
	_, err := c.Intermediate.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("verify intermediate CA: %w", err)
	}
	if c.Intermediate.NotAfter.After(c.Root.NotAfter) {
		return fmt.Errorf("intermediate CA outlives its root")
	}
	return nil
}

// Secret returns the Secret "cacerts" for istiod's namespace, in the layout of
// plugged-in certificates: cert-chain.pem holds the intermediate, root-cert.pem
// what the network trusts.
// Source: https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/
func (c Chain) Secret(namespace string) (*unstructured.Unstructured, error) {
	key, err := encodeKey(c.key)
	if err != nil {
		return nil, err
	}
	intermediate := encodeCertificate(c.Intermediate)
	data := map[string]any{}
	for name, content := range map[string][]byte{
		"ca-cert.pem":    intermediate,
		"ca-key.pem":     key,
		"cert-chain.pem": intermediate,
		"root-cert.pem":  encodeCertificate(c.Root),
	} {
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
