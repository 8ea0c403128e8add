package keyvault

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"
)

// defaultOps are what a key may do where its maker does not say.
var defaultOps = map[string][]string{
	"EC":  {"sign", "verify"},
	"RSA": {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"},
}

func (v *version) hsm() bool { return strings.HasSuffix(v.kty, "-HSM") }

// class is the kind of a key as the limits have it.
func (v *version) class() string {
	if private, ok := v.private.(*rsa.PrivateKey); ok {
		return fmt.Sprint(v.kty, private.N.BitLen())
	}
	return v.kty
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// generate makes a key; the second value says why it does not.
func generate(kty, crv string, size int) (crypto.Signer, string) {
	switch strings.TrimSuffix(kty, "-HSM") {
	case "EC":
		if crv == "" {
			crv = "P-256"
		}
		curve := curves[crv]
		if curve == nil {
			return nil, "Property 'crv' has invalid value " + crv
		}
		private, _ := ecdsa.GenerateKey(curve, rand.Reader) // never fails, by its documentation
		return private, ""
	case "RSA":
		if size == 0 {
			size = 2048
		}
		if !slices.Contains([]int{2048, 3072, 4096}, size) {
			return nil, "Invalid key size"
		}
		private, err := rsa.GenerateKey(rand.Reader, size)
		if err != nil {
			return nil, err.Error()
		}
		return private, ""
	}
	return nil, "Property 'kty' has invalid value " + kty
}

func (e *Emulator) createKey(q *request, b body) {
	v := newVersion(e.o.Now(), b.Attributes, b.Tags)
	v.kty, v.ops = b.Kty, b.KeyOps
	if v.ops == nil {
		v.ops = defaultOps[strings.TrimSuffix(b.Kty, "-HSM")]
	}
	switch {
	case v.hsm() && e.o.Standard:
		q.refuse(http.StatusBadRequest, "NotSupported", "The vault's SKU does not support hardware keys.")
		return
	case b.Attributes.Exportable:
		q.refuse(http.StatusBadRequest, "BadParameter", "An exportable key must have a release policy.")
		return
	}
	private, why := generate(b.Kty, b.Crv, b.KeySize)
	if why != "" {
		q.refuse(http.StatusBadRequest, "BadParameter", why)
		return
	}
	v.private = private
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.free(q) {
		v.created = e.o.Now()
		q.reply(e.whole(q, "keys", e.add(q, v), v))
	}
}

func (e *Emulator) rotate(q *request, _ body) {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, old := e.lookup(q)
	if old == nil {
		return
	}
	v := newVersion(e.o.Now(), attributes{}, old.tags)
	v.kty, v.ops = old.kty, old.ops
	switch private := old.private.(type) {
	case *ecdsa.PrivateKey:
		v.private, _ = generate("EC", private.Curve.Params().Name, 0)
	case *rsa.PrivateKey:
		v.private, _ = generate("RSA", "", private.N.BitLen())
	}
	e.add(q, v)
	q.reply(e.whole(q, "keys", o, v))
}

// algorithm is one of JSON Web Algorithms.
type algorithm struct {
	kty, curve string
	hash       crypto.Hash
	pss        bool
}

var algorithms = map[string]algorithm{
	"ES256": {"EC", "P-256", crypto.SHA256, false}, "ES384": {"EC", "P-384", crypto.SHA384, false}, "ES512": {"EC", "P-521", crypto.SHA512, false},
	"RS256": {"RSA", "", crypto.SHA256, false}, "RS384": {"RSA", "", crypto.SHA384, false}, "RS512": {"RSA", "", crypto.SHA512, false},
	"PS256": {"RSA", "", crypto.SHA256, true}, "PS384": {"RSA", "", crypto.SHA384, true}, "PS512": {"RSA", "", crypto.SHA512, true},
}

func (e *Emulator) sign(q *request, b body) {
	e.mu.Lock()
	o, v := e.lookup(q)
	if v == nil {
		e.mu.Unlock()
		return
	}
	why, inner := v.usable(e.o.Now())
	allowed, kid, kty, private := slices.Contains(v.ops, "sign"), q.id("keys", o.name, v.id), v.kty, v.private
	e.mu.Unlock()
	a, known := algorithms[b.Alg]
	digest, err := []byte(nil), error(nil)
	if b.Value != nil {
		digest, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(*b.Value, "="))
	}
	switch {
	case why != "":
		q.refuse(http.StatusForbidden, "Forbidden", why, inner)
	case !allowed:
		q.refuse(http.StatusForbidden, "Forbidden", "Operation sign is not permitted on this key.", "KeyOperationForbidden")
	case !known:
		q.refuse(http.StatusBadRequest, "BadParameter", "Property 'alg' has invalid value "+b.Alg)
	case a.kty != strings.TrimSuffix(kty, "-HSM") || a.curve != curveOf(private):
		q.refuse(http.StatusBadRequest, "BadParameter", fmt.Sprintf("Key and signing algorithm are incompatible. Key %s is of type '%s' and algorithm '%s' can only be used with a key of another.", kid, kty, b.Alg))
	case err != nil || len(digest) != a.hash.Size():
		q.refuse(http.StatusBadRequest, "BadParameter", fmt.Sprintf("Invalid length of 'value': %d bytes. %s requires %d bytes, encoded with base64url.", len(digest), b.Alg, a.hash.Size()))
	default:
		signature, err := signDigest(private, a, digest)
		if err != nil {
			q.refuse(http.StatusInternalServerError, "InternalServerError", err.Error())
			return
		}
		q.reply(map[string]any{"kid": kid, "value": base64.RawURLEncoding.EncodeToString(signature)})
	}
}

// usable says why a key does not sign now, and by which inner code.
func (v *version) usable(now time.Time) (string, string) {
	switch a := v.attributes; {
	case !*a.Enabled:
		return "Operation sign is not allowed on a disabled key.", "KeyDisabled"
	case a.Expires != nil && now.Unix() >= *a.Expires:
		return "Operation sign is not allowed on an expired key.", "KeyExpired"
	case a.NotBefore != nil && now.Unix() < *a.NotBefore:
		return "Operation sign is not allowed on a key that is not yet valid.", "KeyNotYetValid"
	}
	return "", ""
}

func curveOf(private crypto.Signer) string {
	if private, ok := private.(*ecdsa.PrivateKey); ok {
		return private.Curve.Params().Name
	}
	return ""
}

// signDigest signs in the service's formats: the two numbers of ECDSA one after
// the other.
func signDigest(private crypto.Signer, a algorithm, digest []byte) ([]byte, error) {
	switch private := private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			return nil, err
		}
		size := (private.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	case *rsa.PrivateKey:
		if a.pss {
			return rsa.SignPSS(rand.Reader, private, a.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, private, a.hash, digest)
	}
	return nil, fmt.Errorf("no key of a known kind")
}

// jwk is the public part.
func (v *version) jwk(kid string) map[string]any {
	out := map[string]any{"kid": kid, "kty": v.kty, "key_ops": v.ops}
	encode := base64.RawURLEncoding.EncodeToString
	switch private := v.private.(type) {
	case *ecdsa.PrivateKey:
		point, err := private.PublicKey.Bytes() // 4, then both coordinates
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		out["crv"], out["x"], out["y"] = private.Curve.Params().Name, encode(point[1:1+half]), encode(point[1+half:])
	case *rsa.PrivateKey:
		out["n"], out["e"] = encode(private.N.Bytes()), encode(big.NewInt(int64(private.E)).Bytes())
	}
	return out
}

func (e *Emulator) setSecret(q *request, b body) {
	if b.Value == nil || len(*b.Value) > maxValue {
		q.refuse(http.StatusBadRequest, "BadParameter", fmt.Sprintf("The value of a secret must be there and have at most %d bytes.", maxValue))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.free(q) {
		return
	}
	v := newVersion(e.o.Now(), b.Attributes, b.Tags)
	v.value = *b.Value
	if b.ContentType != nil {
		v.contentType = *b.ContentType
	}
	q.reply(e.whole(q, "secrets", e.add(q, v), v))
}
