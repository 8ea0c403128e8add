package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPEM bounds what is read as certificates: Go's PEM reader takes its time with
// large input that is almost PEM.
const maxPEM = 256 << 10

// decodePEM reads certificates and at most one key, in the order in which they
// come. Errors say what is wrong without showing any of it.
func decodePEM(data []byte) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
	if len(data) > maxPEM {
		return nil, nil, errors.New("more than 256 KiB")
	}
	var certificates []*x509.Certificate
	var key *ecdsa.PrivateKey
	for len(bytes.TrimSpace(data)) > 0 {
		if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
			return nil, nil, errors.New("not PEM")
		}
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, nil, errors.New("not PEM")
		}
		data = rest
		switch block.Type {
		case "CERTIFICATE":
			certificate, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, errors.New("certificate does not parse")
			}
			certificates = append(certificates, certificate)
		case "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			ecdsaKey, ok := parsed.(*ecdsa.PrivateKey)
			if err != nil || !ok {
				return nil, nil, errors.New("key is not a PKCS #8 ECDSA key")
			}
			if key != nil {
				return nil, nil, errors.New("more than one key")
			}
			key = ecdsaKey
		default:
			return nil, nil, fmt.Errorf("unexpected PEM block %q", block.Type)
		}
	}
	return certificates, key, nil
}

// decodeCertificates reads one certificate or more, and no key.
func decodeCertificates(data []byte) ([]*x509.Certificate, error) {
	certificates, key, err := decodePEM(data)
	switch {
	case err != nil:
		return nil, err
	case key != nil:
		return nil, errors.New("a key where certificates should be")
	case len(certificates) == 0:
		return nil, errors.New("certificate is missing")
	}
	return certificates, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("encode key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
