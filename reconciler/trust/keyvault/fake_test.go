package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	keysfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	secretsfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets/fake"

	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// faked is a vault over the SDK's fakes, for answers that no vault should give.
func faked(t *testing.T, keys keysfake.Server, secrets secretsfake.Server) *Vault {
	t.Helper()
	toKeys, toSecrets := keysfake.NewServerTransport(&keys), secretsfake.NewServerTransport(&secrets)
	v, err := Open(Options{
		URL: "https://prod.vault.azure.net", Credential: &azfake.TokenCredential{},
		HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			var to policy.Transporter = toSecrets
			if strings.HasPrefix(r.URL.Path, "/keys") {
				to = toKeys
			}
			response, err := to.Do(r)
			if response != nil && response.Request == nil {
				response.Request = r
			}
			return response, err
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	v.settle = 0
	return v
}

const version = "0123456789abcdef0123456789abcdef"

func kid(version string) *azkeys.ID {
	return to.Ptr(azkeys.ID("https://prod.vault.azure.net/keys/isthmus--prod--root/" + version))
}

// jwkOf is a good key, for a test to change.
func jwkOf(t *testing.T) (*ecdsa.PrivateKey, azkeys.JSONWebKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return private, azkeys.JSONWebKey{KID: kid(version), Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256), X: point[1:33], Y: point[33:]}
}

// TestKeysThatAreNone: what a vault says of a key is checked before anybody trusts
// it.
func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why    string
		change func(k *azkeys.JSONWebKey)
		want   trust.VaultReason // empty: it is good
	}{
		{"as it should be", func(*azkeys.JSONWebKey) {}, ""},
		{"coordinates without leading zeros", func(k *azkeys.JSONWebKey) { k.X, k.Y = shortPoint(t) }, ""},
		{"coordinates with too many bytes", func(k *azkeys.JSONWebKey) { k.X = append([]byte{0}, k.X...) }, trust.VaultCorrupt},
		{"a point that is not on the curve", func(k *azkeys.JSONWebKey) { k.Y[0] ^= 1 }, trust.VaultCorrupt},
		{"no coordinates", func(k *azkeys.JSONWebKey) { k.X, k.Y = nil, nil }, trust.VaultCorrupt},
		{"no curve", func(k *azkeys.JSONWebKey) { k.Crv = nil }, trust.VaultKeyUnsuitable},
		{"the curve of coins", func(k *azkeys.JSONWebKey) { k.Crv = to.Ptr(azkeys.CurveNameP256K) }, trust.VaultKeyUnsuitable},
		{"no type", func(k *azkeys.JSONWebKey) { k.Kty = nil }, trust.VaultCorrupt},
		{"a symmetric key", func(k *azkeys.JSONWebKey) { k.Kty = to.Ptr(azkeys.KeyTypeOct) }, trust.VaultKeyUnsuitable},
		{"no id", func(k *azkeys.JSONWebKey) { k.KID = nil }, trust.VaultCorrupt},
		{"another version than asked for", func(k *azkeys.JSONWebKey) { k.KID = kid("ffffffffffffffffffffffffffffffff") }, trust.VaultCorrupt},
		{"RSA of 2048 bits", func(k *azkeys.JSONWebKey) { rsaKey(k, 2048, 65537) }, trust.VaultKeyUnsuitable},
		{"RSA of 3080 bits", func(k *azkeys.JSONWebKey) { rsaKey(k, 3080, 65537) }, trust.VaultKeyUnsuitable},
		{"RSA whose exponent is 1", func(k *azkeys.JSONWebKey) { rsaKey(k, 3072, 1) }, trust.VaultCorrupt},
	} {
		_, jwk := jwkOf(t)
		tt.change(&jwk)
		v := faked(t, keysfake.Server{
			GetKey: func(context.Context, string, string, *azkeys.GetKeyOptions) (resp azfake.Responder[azkeys.GetKeyResponse], errs azfake.ErrorResponder) {
				resp.SetResponse(http.StatusOK, azkeys.GetKeyResponse{KeyBundle: azkeys.KeyBundle{Key: &jwk}}, nil)
				return
			},
		}, secretsfake.Server{})
		_, err := v.Key(t.Context(), "prod/root", version)
		refused := (*trust.VaultError)(nil)
		if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, &refused) || refused.Reason != tt.want) {
			t.Errorf("%s: %v; want %q", tt.why, err, tt.want)
		}
	}
}

// shortPoint is a point whose first coordinate begins with a zero, which some
// encoders leave out.
func shortPoint(t *testing.T) (x, y []byte) {
	for {
		_, jwk := jwkOf(t)
		if jwk.X[0] == 0 {
			return jwk.X[1:], jwk.Y
		}
	}
}

func rsaKey(k *azkeys.JSONWebKey, bits int, exponent int64) {
	modulus := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
	k.Kty, k.N, k.E = to.Ptr(azkeys.KeyTypeRSA), modulus.Bytes(), big.NewInt(exponent).Bytes()
}

// TestSignaturesThatAreNone: a signature that does not verify, of another version
// or in another format is an error.
func TestSignaturesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why    string
		answer func(good []byte) azkeys.KeyOperationResult
		ok     bool
	}{
		{"as it should be", func(good []byte) azkeys.KeyOperationResult {
			return azkeys.KeyOperationResult{KID: kid(version), Result: good}
		}, true},
		{"of another version", func(good []byte) azkeys.KeyOperationResult {
			return azkeys.KeyOperationResult{KID: kid("ffffffffffffffffffffffffffffffff"), Result: good}
		}, false},
		{"of another key", func(good []byte) azkeys.KeyOperationResult {
			good[5] ^= 1
			return azkeys.KeyOperationResult{KID: kid(version), Result: good}
		}, false},
		{"cut", func(good []byte) azkeys.KeyOperationResult {
			return azkeys.KeyOperationResult{KID: kid(version), Result: good[1:]}
		}, false},
		{"none", func([]byte) azkeys.KeyOperationResult { return azkeys.KeyOperationResult{KID: kid(version)} }, false},
		{"without a key", func(good []byte) azkeys.KeyOperationResult { return azkeys.KeyOperationResult{Result: good} }, false},
	} {
		private, jwk := jwkOf(t)
		v := faked(t, keysfake.Server{
			GetKey: func(context.Context, string, string, *azkeys.GetKeyOptions) (resp azfake.Responder[azkeys.GetKeyResponse], errs azfake.ErrorResponder) {
				resp.SetResponse(http.StatusOK, azkeys.GetKeyResponse{KeyBundle: azkeys.KeyBundle{Key: &jwk}}, nil)
				return
			},
			Sign: func(_ context.Context, _, _ string, p azkeys.SignParameters, _ *azkeys.SignOptions) (resp azfake.Responder[azkeys.SignResponse], errs azfake.ErrorResponder) {
				r, s, err := ecdsa.Sign(rand.Reader, private, p.Value)
				if err != nil {
					t.Error(err)
				}
				good := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
				resp.SetResponse(http.StatusOK, azkeys.SignResponse{KeyOperationResult: tt.answer(good)}, nil)
				return
			},
		}, secretsfake.Server{})
		key, err := v.Key(t.Context(), "prod/root", version)
		if err != nil {
			t.Fatal(err)
		}
		err = sign(t.Context(), key)
		refused := (*trust.VaultError)(nil)
		if tt.ok && err != nil || !tt.ok && (!errors.As(err, &refused) || refused.Reason != trust.VaultKeyUnsuitable) {
			t.Errorf("%s: %v", tt.why, err)
		}
	}
	// The key's format of signatures is not the hash's.
	key := &key{vault: faked(t, keysfake.Server{}, secretsfake.Server{}), public: &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 3071, 1), E: 65537}}
	if _, err := key.Sign(t.Context(), make([]byte, 20), crypto.SHA1); err == nil {
		t.Error("signed with SHA-1")
	}
}

// TestRepeatedWrites: a write whose answer got lost and that was repeated is one
// write: who made the first version has made the document.
func TestRepeatedWrites(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	v := open(t, e)
	e.Break(emulator.Faults{Ops: []string{"secrets/set"}, Truncate: true, Times: 1})
	if err := v.Create(t.Context(), "prod/root", document("ours")); err != nil {
		t.Errorf("%v", err)
	}
	if n := e.Calls("secrets/set"); n < 2 {
		t.Errorf("%d writes: the first was not repeated", n)
	}
	if err := v.Create(t.Context(), "prod/root", document("ours")); !errors.Is(err, trust.ErrExists) {
		t.Errorf("made again: %v", err)
	}
	if got, err := open(t, e).Get(t.Context(), "prod/root"); err != nil || !bytes.Equal(got.Data, document("ours").Data) {
		t.Errorf("read: %v, or another document", err)
	}
}

// TestDocumentsThatAreNone: a list or a write whose answer lacks what it must have
// is not taken for an empty one, or for a write.
func TestDocumentsThatAreNone(t *testing.T) {
	t.Parallel()
	var sets int
	v := faked(t, keysfake.Server{}, secretsfake.Server{
		SetSecret: func(context.Context, string, azsecrets.SetSecretParameters, *azsecrets.SetSecretOptions) (resp azfake.Responder[azsecrets.SetSecretResponse], errs azfake.ErrorResponder) {
			sets++
			resp.SetResponse(http.StatusOK, azsecrets.SetSecretResponse{Secret: azsecrets.Secret{Value: to.Ptr("another")}}, nil)
			return
		},
		GetSecret: func(context.Context, string, string, *azsecrets.GetSecretOptions) (resp azfake.Responder[azsecrets.GetSecretResponse], errs azfake.ErrorResponder) {
			errs.SetResponseError(http.StatusNotFound, "SecretNotFound")
			return
		},
		NewListSecretPropertiesVersionsPager: func(string, *azsecrets.ListSecretPropertiesVersionsOptions) (pages azfake.PagerResponder[azsecrets.ListSecretPropertiesVersionsResponse]) {
			pages.AddPage(http.StatusOK, azsecrets.ListSecretPropertiesVersionsResponse{SecretPropertiesListResult: azsecrets.SecretPropertiesListResult{Value: []*azsecrets.SecretProperties{{}}}}, nil)
			return
		},
	})
	refused := (*trust.VaultError)(nil)
	if err := v.Create(t.Context(), "prod/root", document("ours")); !errors.As(err, &refused) || refused.Reason != trust.VaultCorrupt || sets > 0 {
		t.Errorf("a list that cannot be read: %v, %d writes", err, sets)
	}
	if err := v.Put(t.Context(), "prod/root", document("ours")); !errors.As(err, &refused) || refused.Reason != trust.VaultCorrupt || strings.Contains(err.Error(), canary) {
		t.Errorf("the vault says that it has something else: %v", err)
	}
}
