package keyvault_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/isthmus-mesh/isthmus/test/keyvault"
)

// vault is one that the suite asks: the emulator, or what the environment names.
type vault struct {
	url     string
	http    *http.Client
	token   azcore.TokenCredential
	keys    *azkeys.Client
	secrets *azsecrets.Client
	// prefix of the names of this run.
	prefix string
}

// static is a credential with a token that somebody else got.
type static string

func (s static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// open is the emulator, unless the environment names a vault:
//
//	ISTHMUS_KEYVAULT_URL       its address
//	ISTHMUS_KEYVAULT_TOKEN     from az account get-access-token --resource https://vault.azure.net
//	ISTHMUS_KEYVAULT_CA        a file with its CA, for an emulator
//	ISTHMUS_KEYVAULT_EMULATOR  true: its challenge may name another host than its own
func open(t *testing.T) vault {
	t.Helper()
	v := vault{url: os.Getenv("ISTHMUS_KEYVAULT_URL"), token: static(os.Getenv("ISTHMUS_KEYVAULT_TOKEN")), http: http.DefaultClient, prefix: "conformance-" + strings.ToLower(rand.Text()[:8]) + "-"}
	if v.url == "" {
		e, err := keyvault.Start(keyvault.Options{NoLimits: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		v.url, v.http, v.token = e.URL(), e.HTTP(), static(e.Entra.Token(keyvault.Audience))
	}
	if file := os.Getenv("ISTHMUS_KEYVAULT_CA"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		v.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	}
	emulated := os.Getenv("ISTHMUS_KEYVAULT_EMULATOR") == "true"
	options := azcore.ClientOptions{APIVersion: "7.4", Transport: v.http, Retry: policy.RetryOptions{MaxRetryDelay: 15 * time.Second}}
	var err error
	if v.keys, err = azkeys.NewClient(v.url, v.token, &azkeys.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: emulated}); err != nil {
		t.Fatal(err)
	}
	if v.secrets, err = azsecrets.NewClient(v.url, v.token, &azsecrets.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: emulated}); err != nil {
		t.Fatal(err)
	}
	return v
}

// answers checks an error answer: its status, its code and, where there is one, the
// code inside.
func answers(t *testing.T, why string, err error, status int, code, inner string) {
	t.Helper()
	response := (*azcore.ResponseError)(nil)
	if !errors.As(err, &response) || response.StatusCode != status || response.ErrorCode != code {
		t.Errorf("%s: %v; want %d %s", why, err, status, code)
		return
	}
	raw, err := runtime.Payload(response.RawResponse)
	var body struct {
		Error struct {
			Inner struct{ Code string } `json:"innererror"`
		}
	}
	if err != nil || json.Unmarshal(raw, &body) != nil || body.Error.Inner.Code != inner {
		t.Errorf("%s: %s; want the inner code %q", why, raw, inner)
	}
}

// eventually waits for what a service does after it has answered.
func eventually(t *testing.T, why string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", why, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestConformance makes the calls that isthmus makes, and those that a person may
// make besides, and says what each answer is. The same passes on the emulator and
// on a real vault, which is tried by naming it in the environment.
func TestConformance(t *testing.T) {
	t.Parallel()
	v := open(t)
	for name, test := range map[string]func(*testing.T, vault){
		"challenge": challenge, "keys": keys, "keys that do not sign": unusable, "deleted keys": deletedKeys,
		"secrets": secrets, "deleted secrets": deletedSecrets, "limits of secrets": limitsOfSecrets, "pages": pages,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, v) })
	}
}

func challenge(t *testing.T, v vault) {
	for _, path := range []string{"/keys/none?api-version=7.4", "/secrets/none?api-version=7.4"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := v.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		asked := response.Header.Get("WWW-Authenticate")
		if response.StatusCode != http.StatusUnauthorized || !strings.Contains(asked, `authorization="https://`) || !strings.Contains(asked, `resource="https://`) {
			t.Errorf("%s without a token: %d, %q", path, response.StatusCode, asked)
		}
		if _, err := http.ParseTime(response.Header.Get("Date")); err != nil {
			t.Errorf("no date: %v", err)
		}
	}
	token, err := v.token.GetToken(t.Context(), policy.TokenRequestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"": 400, "?api-version=1999-01-01": 400, "?api-version=7.4": 404} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.url+"/secrets/"+v.prefix+"none"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token.Token)
		response, err := v.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%q: %d, want %d", query, response.StatusCode, want)
		}
	}
}

var digest = sha256.Sum256([]byte("to be signed"))

func ec(t *testing.T, v vault, name string) *azkeys.JSONWebKey {
	t.Helper()
	made, err := v.keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{
		Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveNameP256), KeyOps: []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationSign)},
		Tags: map[string]*string{"a": to.Ptr("b")},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = v.keys.DeleteKey(context.Background(), name, nil)
	})
	return made.Key
}

func signs(t *testing.T, v vault, key *azkeys.JSONWebKey, version string) bool {
	t.Helper()
	signed, err := v.keys.Sign(t.Context(), key.KID.Name(), version, azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}, nil)
	if err != nil || len(signed.Result) != 64 {
		t.Errorf("sign: %v, %d bytes", err, len(signed.Result))
		return false
	}
	point := make([]byte, 65)
	point[0] = 4
	copy(point[33-len(key.X):], key.X)
	copy(point[65-len(key.Y):], key.Y)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signed.Result[:32]), new(big.Int).SetBytes(signed.Result[32:]))
}

func keys(t *testing.T, v vault) {
	name := v.prefix + "key"
	_, err := v.keys.GetKey(t.Context(), name, "", nil)
	answers(t, "a key that is not there", err, 404, "KeyNotFound", "")
	first := ec(t, v, name)
	if first.KID.Name() != name || len(first.KID.Version()) != 32 || *first.Kty != azkeys.KeyTypeEC || len(first.D) > 0 {
		t.Errorf("made: %+v", first.KID)
	}
	if !signs(t, v, first, first.KID.Version()) {
		t.Error("the signature does not verify")
	}
	got, err := v.keys.GetKey(t.Context(), strings.ToUpper(name), "", nil)
	if err != nil || got.Key.KID.Version() != first.KID.Version() || *got.Tags["a"] != "b" || got.Attributes.Created == nil || !*got.Attributes.Enabled {
		t.Errorf("read by its name in capitals: %v", err)
	}
	_, err = v.keys.GetKey(t.Context(), name, strings.Repeat("0", 32), nil)
	answers(t, "a version that is not there", err, 404, "KeyNotFound", "")
	second := ec(t, v, name) // a key that is made where there is one is a version more
	third, err := v.keys.RotateKey(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !signs(t, v, first, first.KID.Version()) || !signs(t, v, third.Key, "") || signs(t, v, first, second.KID.Version()) {
		t.Error("a version signs with the key of another")
	}
	versions := map[string]bool{}
	for pager := v.keys.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Value {
			versions[item.KID.Version()] = item.Attributes.Created != nil
		}
	}
	if len(versions) != 3 || !versions[first.KID.Version()] || !versions[second.KID.Version()] || !versions[third.Key.KID.Version()] {
		t.Errorf("versions %v", versions)
	}
}

func unusable(t *testing.T, v vault) {
	key := ec(t, v, v.prefix+"unusable")
	sign := func(algorithm azkeys.SignatureAlgorithm, value []byte) error {
		_, err := v.keys.Sign(t.Context(), key.KID.Name(), key.KID.Version(), azkeys.SignParameters{Algorithm: &algorithm, Value: value}, nil)
		return err
	}
	answers(t, "no digest", sign(azkeys.SignatureAlgorithmES256, digest[1:]), 400, "BadParameter", "")
	answers(t, "the algorithm of another type", sign(azkeys.SignatureAlgorithmRS256, digest[:]), 400, "BadParameter", "")
	for _, tt := range []struct {
		why    string
		change azkeys.UpdateKeyParameters
		inner  string
	}{
		{"disabled", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, "KeyDisabled"},
		{"expired", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true), Expires: to.Ptr(time.Now().Add(-time.Hour))}}, "KeyExpired"},
	} {
		if _, err := v.keys.UpdateKey(t.Context(), key.KID.Name(), key.KID.Version(), tt.change, nil); err != nil {
			t.Fatal(err)
		}
		err := sign(azkeys.SignatureAlgorithmES256, digest[:])
		answers(t, tt.why, err, 403, "Forbidden", tt.inner)
		if _, err := v.keys.GetKey(t.Context(), key.KID.Name(), "", nil); err != nil {
			t.Errorf("%s: read: %v", tt.why, err)
		}
	}
}

func deletedKeys(t *testing.T, v vault) {
	key := ec(t, v, v.prefix+"deleted")
	name := key.KID.Name()
	if _, err := v.keys.DeleteKey(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted key", func() error { _, err := v.keys.GetDeletedKey(t.Context(), name, nil); return err })
	_, err := v.keys.GetKey(t.Context(), name, "", nil)
	answers(t, "a deleted key", err, 404, "KeyNotFound", "")
	_, err = v.keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	answers(t, "the name of a deleted key", err, 409, "Conflict", "ObjectIsDeletedButRecoverable")
	if _, err := v.keys.RecoverDeletedKey(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the recovered key", func() error { _, err := v.keys.GetKey(t.Context(), name, key.KID.Version(), nil); return err })
	if !signs(t, v, key, key.KID.Version()) {
		t.Error("the recovered key is another")
	}
}

func put(t *testing.T, v vault, name, value string, parameters azsecrets.SetSecretParameters) azsecrets.SetSecretResponse {
	t.Helper()
	parameters.Value = &value
	set, err := v.secrets.SetSecret(t.Context(), name, parameters, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = v.secrets.DeleteSecret(context.Background(), name, nil) })
	return set
}

func secrets(t *testing.T, v vault) {
	name := v.prefix + "secret"
	_, err := v.secrets.GetSecret(t.Context(), name, "", nil)
	answers(t, "a secret that is not there", err, 404, "SecretNotFound", "")
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	first := put(t, v, name, "one", azsecrets.SetSecretParameters{
		ContentType: to.Ptr("application/json"), Tags: map[string]*string{"a": to.Ptr("b")}, SecretAttributes: &azsecrets.SecretAttributes{Expires: &past},
	})
	got, err := v.secrets.GetSecret(t.Context(), name, "", nil)
	if err != nil || *got.Value != "one" || *got.ContentType != "application/json" || *got.Tags["a"] != "b" || !got.Attributes.Expires.Equal(past) {
		t.Errorf("an expired secret is read all the same: %v", err)
	}
	put(t, v, name, "two", azsecrets.SetSecretParameters{})
	if got, err = v.secrets.GetSecret(t.Context(), name, "", nil); err != nil || *got.Value != "two" || len(got.Tags) > 0 || got.Attributes.Expires != nil {
		t.Errorf("the newest version has nothing of the one before: %v", err)
	}
	if got, err = v.secrets.GetSecret(t.Context(), name, first.ID.Version(), nil); err != nil || *got.Value != "one" {
		t.Errorf("the first version: %v", err)
	}
	_, err = v.secrets.UpdateSecretProperties(t.Context(), name, first.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.secrets.GetSecret(t.Context(), name, first.ID.Version(), nil)
	answers(t, "a disabled secret", err, 403, "Forbidden", "SecretDisabled")
}

func deletedSecrets(t *testing.T, v vault) {
	name := v.prefix + "deleted"
	first := put(t, v, name, "one", azsecrets.SetSecretParameters{})
	if _, err := v.secrets.DeleteSecret(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deleted secret", func() error { _, err := v.secrets.GetDeletedSecret(t.Context(), name, nil); return err })
	_, err := v.secrets.GetSecret(t.Context(), name, "", nil)
	answers(t, "a deleted secret", err, 404, "SecretNotFound", "")
	_, err = v.secrets.SetSecret(t.Context(), name, azsecrets.SetSecretParameters{Value: to.Ptr("two")}, nil)
	answers(t, "the name of a deleted secret", err, 409, "Conflict", "ObjectIsDeletedButRecoverable")
	if _, err := v.secrets.RecoverDeletedSecret(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the recovered secret", func() error {
		_, err := v.secrets.GetSecret(t.Context(), name, first.ID.Version(), nil)
		return err
	})
}

func limitsOfSecrets(t *testing.T, v vault) {
	name := v.prefix + "limits"
	for _, tt := range []struct {
		why, name, value string
		tags             int
	}{
		{"more than 25 KB", name, strings.Repeat("x", 25<<10+1), 0},
		{"more than 15 tags", name, "x", 16},
		{"a name with a dot", "a.b", "x", 0},
		{"a name that is too long", strings.Repeat("a", 128), "x", 0},
	} {
		tags := map[string]*string{}
		for i := range tt.tags {
			tags[string(rune('a'+i))] = to.Ptr("x")
		}
		_, err := v.secrets.SetSecret(t.Context(), tt.name, azsecrets.SetSecretParameters{Value: &tt.value, Tags: tags}, nil)
		answers(t, tt.why, err, 400, "BadParameter", "")
	}
	put(t, v, strings.Repeat("a", 60)+strings.ToLower(rand.Text())+strings.Repeat("a", 41), strings.Repeat("x", 25<<10), azsecrets.SetSecretParameters{})
}

func pages(t *testing.T, v vault) {
	name := v.prefix + "pages"
	made := map[string]int{}
	for range 30 {
		set := put(t, v, name, "x", azsecrets.SetSecretParameters{})
		made[set.ID.Version()]++
	}
	count := 0
	for pager := v.secrets.NewListSecretPropertiesVersionsPager(name, nil); pager.More(); count++ {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Value) > 25 {
			t.Errorf("a page of %d", len(page.Value))
		}
		for _, item := range page.Value {
			made[item.ID.Version()]++
		}
	}
	for version, times := range made {
		if times != 2 {
			t.Errorf("version %s is listed %d times", version, times-1)
		}
	}
	if count < 2 {
		t.Errorf("%d pages", count)
	}
}
