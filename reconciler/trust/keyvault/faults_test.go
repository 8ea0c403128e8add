package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// canary is key material: no error shows it.
const canary = "Y2FuYXJ5LWtleQ"

func document(text string) trust.Document {
	return trust.Document{Data: []byte(`{"ca-key.pem":"-----BEGIN PRIVATE KEY----- ` + canary + `", "x":"` + text + `"}`)}
}

// filled is a vault with a key and a document at prod/root.
func filled(t *testing.T, o emulator.Options, change ...func(*Options)) (*emulator.Emulator, *Vault, trust.Key) {
	t.Helper()
	e := emulated(t, o)
	v := open(t, e, change...)
	v.settle = 0 // nobody races
	key, err := v.CreateKey(t.Context(), "prod/root", trust.KeySpec{Algorithm: trust.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Put(t.Context(), "prod/root", document("first")); err != nil {
		t.Fatal(err)
	}
	return e, v, key
}

func sign(ctx context.Context, key trust.Key) error {
	digest := sha256.Sum256([]byte("to be signed"))
	_, err := key.Sign(ctx, digest[:], crypto.SHA256)
	return err
}

// TestAnswers: each answer of a vault has a reason and says what to do, says the
// same when it is met again, and shows nothing. What the vault has stays.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const id = "Caller: appid=6f0b;oid=77;iss=https://sts.windows.net/t/ Client address: 203.0.113.7"
	for _, tt := range []struct {
		why    string
		faults emulator.Faults
		// do is get, put, create, key, make or sign.
		do   string
		want trust.VaultReason
		says string
	}{
		{"no connection", emulator.Faults{Down: true}, "get", trust.VaultUnavailable, "no connection"},
		{"slow", emulator.Faults{Latency: time.Hour}, "sign", trust.VaultUnavailable, "no answer in time"},
		{"an error of the service", emulator.Faults{Status: 500, Code: "InternalServerError"}, "put", trust.VaultUnavailable, "answers 500"},
		{"not available", emulator.Faults{Status: 503, Code: "ServiceUnavailable"}, "sign", trust.VaultUnavailable, "answers 503"},
		{"half an answer to a read", emulator.Faults{Truncate: true}, "get", trust.VaultUnavailable, "broke off"},
		{"half an answer to a signature", emulator.Faults{Truncate: true}, "sign", trust.VaultUnavailable, "broke off"},
		{"a token that is not taken", emulator.Faults{Challenge: `Bearer authorization="https://login.microsoftonline.com/` + azuretest.Tenant + `", resource="https://vault.azure.net"`}, "get", trust.VaultUnauthorized, "tenant"},
		{"a challenge for another service", emulator.Faults{Challenge: `Bearer authorization="https://login.microsoftonline.com/t", resource="https://management.azure.com"`}, "get", trust.VaultUnauthorized, "another service"},
		{"a challenge that the SDK falls over", emulator.Faults{Challenge: `Bearer authorization="x", resource="https://vault.azure.net"`}, "get", trust.VaultUnauthorized, "no tenant"},
		{"no right to read secrets", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: "Caller is not authorized to perform action on resource. " + id}, "get", trust.VaultForbidden, "Key Vault Secrets Officer"},
		{"no right to write secrets", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "AccessDenied", Message: id}, "put", trust.VaultForbidden, "Key Vault Secrets Officer"},
		{"no right to make keys", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: id, Ops: []string{"keys/create"}}, "make", trust.VaultForbidden, "Key Vault Crypto Officer"},
		{"no right to sign", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: id}, "sign", trust.VaultForbidden, "Key Vault Crypto User"},
		{"the firewall", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "ForbiddenByFirewall", Message: id}, "get", trust.VaultFirewall, "network-rule"},
		{"no public network", emulator.Faults{Status: 403, Code: "Forbidden", Inner: "ForbiddenByConnection", Message: id}, "sign", trust.VaultFirewall, "private endpoint"},
		{"a proxy that refuses", emulator.Faults{Status: 403, Page: "<html>blocked</html>"}, "get", trust.VaultForbidden, "proxy"},
		{"a proxy's 404 is not the vault's word", emulator.Faults{Status: 404, Page: "<html>not found</html>"}, "get", trust.VaultMissing, "no Key Vault's"},
		{"nor is one of a key", emulator.Faults{Status: 404, Page: "{}"}, "key", trust.VaultMissing, "no Key Vault's"},
		{"what is no answer", emulator.Faults{Status: 200, Page: "<html>welcome</html>"}, "get", trust.VaultCorrupt, "cannot be read"},
		{"what lacks its parts", emulator.Faults{Status: 200, Page: "{}"}, "get", trust.VaultCorrupt, "lacks"},
		{"a signature that is none", emulator.Faults{Status: 200, Page: `{"kid":"https://x/keys/n/v","value":"AAAA"}`}, "sign", trust.VaultKeyUnsuitable, "not of version"},
		{"more than there can be", emulator.Faults{Status: 200, Page: strings.Repeat(" ", 2<<20)}, "get", trust.VaultCorrupt, "cannot be read"},
		{"a way to another host", emulator.Faults{Status: 307, Page: ""}, "get", trust.VaultCorrupt, "not expected"},
		{"read-only, as in a failover", emulator.Faults{ReadOnly: true}, "put", trust.VaultReadOnly, "fails over"},
		{"read-only, for keys", emulator.Faults{ReadOnly: true}, "make", trust.VaultReadOnly, "fails over"},
		{"busy", emulator.Faults{Status: 409, Code: "Conflict", Inner: "ObjectIsBeingDeleted"}, "put", trust.VaultUnavailable, "ObjectIsBeingDeleted"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			e, v, key := filled(t, emulator.Options{}, func(o *Options) {
				if o.Timeout = time.Minute; tt.faults.Latency > 0 {
					o.Timeout = 2 * time.Second
				}
			})
			if tt.faults.Status == 307 {
				tt.faults.Code = "Moved"
			}
			do := func() error {
				var err error
				switch tt.do {
				case "get":
					_, err = v.Get(t.Context(), "prod/root")
				case "put":
					err = v.Put(t.Context(), "prod/root", document("second"))
				case "key":
					_, err = v.Key(t.Context(), "prod/root", key.Version())
				case "make":
					_, err = v.CreateKey(t.Context(), "prod/root-2", trust.KeySpec{Algorithm: trust.ECDSAP256})
				case "sign":
					err = sign(t.Context(), key)
				}
				return err
			}
			e.Break(tt.faults)
			err := do()
			refused := (*trust.VaultError)(nil)
			if !errors.As(err, &refused) || refused.Reason != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v; want %s and %q", err, tt.want, tt.says)
			}
			if errors.Is(err, trust.ErrNotFound) || errors.Is(err, trust.ErrExists) {
				t.Errorf("%v: as if it were the vault's word", err)
			}
			for _, no := range []string{canary, "203.0.113.7", "appid", s3cret, "html"} {
				if strings.Contains(err.Error(), no) {
					t.Errorf("the error shows %q: %v", no, err)
				}
			}
			if again := do(); again == nil || again.Error() != err.Error() {
				t.Errorf("the message flaps: %v, then %v", err, again)
			}
			e.Mend()
			if got, err := v.Get(t.Context(), "prod/root"); err != nil || !bytes.Equal(got.Data, document("first").Data) {
				t.Errorf("afterwards: %v, or another document", err)
			}
			if err := sign(t.Context(), key); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestThrottled: an answer of 429 is waited for as long as it asks, by all calls of
// its kind; where there is no time for that, the caller is told how long it is.
func TestThrottled(t *testing.T) {
	t.Parallel()
	e, v, key := filled(t, emulator.Options{})
	throttled := emulator.Faults{Status: 429, Code: "Throttled", RetryAfter: time.Second, Times: 1}
	e.Break(throttled)
	began := time.Now()
	if err := sign(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("signed after %s, and the vault wanted to be left alone for a second", took)
	}
	throttled.RetryAfter, throttled.Times = time.Minute, 0
	e.Break(throttled)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := sign(ctx, key)
	refused := (*trust.VaultError)(nil)
	if !errors.As(err, &refused) || refused.Reason != trust.VaultThrottled || refused.RetryAfter < 20*time.Second {
		t.Fatalf("no time to wait: %v", err)
	}
	calls := e.Calls("keys/sign")
	if err := sign(ctx, key); !errors.As(err, &refused) || refused.Reason != trust.VaultThrottled {
		t.Errorf("while the vault wants to be left alone: %v", err)
	}
	if more := e.Calls("keys/sign") - calls; more != 0 {
		t.Errorf("%d calls before Retry-After was over", more)
	}
	e.Mend()
	if _, err := v.Get(t.Context(), "prod/root"); err != nil {
		t.Errorf("calls of another kind wait too: %v", err)
	}
}

// TestSoftDeleted: what was deleted is found out and not made anew, for it may be
// what members trust; recovered, it is the same.
func TestSoftDeleted(t *testing.T) {
	t.Parallel()
	e, v, key := filled(t, emulator.Options{PurgeProtection: true})
	name := vaultname.KeyVault("prod/root")
	if _, err := v.keys.DeleteKey(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.secrets.DeleteSecret(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	fresh := open(t, e) // one that remembers nothing
	if _, err := fresh.Get(t.Context(), "prod/root"); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("read what was deleted: %v", err)
	}
	_, err := fresh.CreateKey(t.Context(), "prod/root", trust.KeySpec{Algorithm: trust.ECDSAP256})
	for what, err := range map[string]error{"key": err, "secret": fresh.Create(t.Context(), "prod/root", document("new"))} {
		refused := (*trust.VaultError)(nil)
		if !errors.As(err, &refused) || refused.Reason != trust.VaultSoftDeleted || !strings.Contains(err.Error(), "az keyvault "+what+" recover --vault-name emulated --name isthmus--prod--root") {
			t.Errorf("%s made anew: %v", what, err)
		}
	}
	if err := sign(t.Context(), key); !errors.Is(err, trust.ErrNotFound) {
		t.Errorf("sign with a deleted key: %v", err)
	}
	if _, err := v.keys.PurgeDeletedKey(t.Context(), name, nil); err == nil {
		t.Error("purged in spite of purge protection")
	}
	if _, err := v.keys.RecoverDeletedKey(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	if err := sign(t.Context(), key); err != nil {
		t.Errorf("after it was recovered: %v", err)
	}
}

// TestKeyChanges: what somebody does to the key between two signatures is named,
// and a version that is added changes nothing.
func TestKeyChanges(t *testing.T) {
	t.Parallel()
	past, future := to.Ptr(time.Now().Add(-time.Hour)), to.Ptr(time.Now().Add(time.Hour))
	for _, tt := range []struct {
		why    string
		change azkeys.UpdateKeyParameters
		want   trust.VaultReason
		says   string
	}{
		{"disabled", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}, trust.VaultKeyDisabled, "--enabled true"},
		{"expired", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Expires: past}}, trust.VaultKeyDisabled, "--expires"},
		{"not valid yet", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{NotBefore: future}}, trust.VaultKeyDisabled, "--not-before"},
		{"for something else", azkeys.UpdateKeyParameters{KeyOps: []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationVerify)}}, trust.VaultKeyUnsuitable, "key operations"},
	} {
		_, v, key := filled(t, emulator.Options{})
		if _, err := v.keys.UpdateKey(t.Context(), vaultname.KeyVault("prod/root"), key.Version(), tt.change, nil); err != nil {
			t.Fatal(err)
		}
		refused := (*trust.VaultError)(nil)
		if err := sign(t.Context(), key); !errors.As(err, &refused) || refused.Reason != tt.want || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.why, err)
		}
	}
	e, v, key := filled(t, emulator.Options{})
	time.Sleep(time.Second) // versions of one second have no order
	if _, err := v.keys.RotateKey(t.Context(), vaultname.KeyVault("prod/root"), nil); err != nil {
		t.Fatal(err)
	}
	later, err := open(t, e).Key(t.Context(), "prod/root", "")
	if err != nil || later.Version() != key.Version() {
		t.Fatalf("after a rotation behind our back: %v, another version", err)
	}
	if err := sign(t.Context(), later); err != nil {
		t.Error(err)
	}
}

// TestForeignKeys: a key that somebody else has made is used by its name, if a CA
// can have it.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	v := open(t, e)
	for _, tt := range []struct {
		name string
		make azkeys.CreateKeyParameters
		good bool
	}{
		{"corporate-CA", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM), Curve: to.Ptr(azkeys.CurveNameP384)}, true},
		{"rsa-3072", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr(int32(3072))}, true},
		{"rsa-2048", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr(int32(2048))}, false},
		{"p-521", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: to.Ptr(azkeys.CurveNameP521)}, false},
	} {
		if _, err := v.keys.GetKey(t.Context(), tt.name, "", nil); err == nil {
			t.Fatal("there already")
		}
		if _, err := v.keys.CreateKey(t.Context(), tt.name, tt.make, nil); err != nil {
			t.Fatal(err)
		}
		key, err := v.Key(t.Context(), tt.name, "")
		refused := (*trust.VaultError)(nil)
		if tt.good != (err == nil) || !tt.good && (!errors.As(err, &refused) || refused.Reason != trust.VaultKeyUnsuitable) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if tt.name == "rsa-3072" {
			err = sign(t.Context(), key)
		}
		if tt.good && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestHardware(t *testing.T) {
	t.Parallel()
	spec := trust.KeySpec{Algorithm: trust.ECDSAP384, Hardware: true}
	v := open(t, emulated(t, emulator.Options{}))
	v.settle = 0
	key, err := v.CreateKey(t.Context(), "prod/root", spec)
	if err != nil {
		t.Fatal(err)
	}
	made, err := v.keys.GetKey(t.Context(), vaultname.KeyVault("prod/root"), key.Version(), nil)
	if err != nil || *made.Key.Kty != azkeys.KeyTypeECHSM || len(made.Key.KeyOps) != 1 || *made.Key.KeyOps[0] != azkeys.KeyOperationSign || *made.Attributes.Exportable {
		t.Errorf("%v; a key of type %s with operations %d, exportable %t", err, *made.Key.Kty, len(made.Key.KeyOps), *made.Attributes.Exportable)
	}
	standard := open(t, emulated(t, emulator.Options{Standard: true}))
	_, err = standard.CreateKey(t.Context(), "prod/root", spec)
	refused := (*trust.VaultError)(nil)
	if !errors.As(err, &refused) || refused.Reason != trust.VaultKeyUnsuitable || !strings.Contains(err.Error(), "premium") {
		t.Errorf("a vault without hardware: %v", err)
	}
	if _, err := standard.CreateKey(t.Context(), "prod/root", trust.KeySpec{Algorithm: trust.ECDSAP384}); err != nil {
		t.Fatal(err)
	}
	if _, err := standard.CreateKey(t.Context(), "prod/root", spec); !errors.As(err, &refused) || refused.Reason != trust.VaultKeyUnsuitable {
		t.Errorf("a key in software where one in hardware is wanted: %v", err)
	}
}

// TestLateCreators: a document that was created too late does not count, also when
// it is the newest, and what was put counts.
func TestLateCreators(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	v := open(t, e)
	late := func(text string) {
		t.Helper()
		// As one that had looked before the first was there.
		if err := v.set(t.Context(), "prod/root", document(text), map[string]*string{createdTag: to.Ptr("another")}); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(why, text string) {
		t.Helper()
		for _, reader := range []*Vault{v, open(t, e)} {
			if got, err := reader.Get(t.Context(), "prod/root"); err != nil || !bytes.Equal(got.Data, document(text).Data) {
				t.Errorf("%s: %v, or not %q", why, err, text)
			}
		}
	}
	if err := v.Create(t.Context(), "prod/root", document("first")); err != nil {
		t.Fatal(err)
	}
	late("late")
	reads("created twice", "first")
	if err := v.Put(t.Context(), "prod/root", document("second")); err != nil {
		t.Fatal(err)
	}
	reads("put", "second")
	time.Sleep(time.Second) // versions of one second have no order
	late("very late")
	reads("created after it was put", "second")
}

// TestManyVersions: what is first is found on the last page of a list too, and
// further pages are read at the vault only.
func TestManyVersions(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{NoLimits: true})
	v := open(t, e)
	if err := v.Create(t.Context(), "prod/root", document("first")); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if err := v.set(t.Context(), "prod/root", document("late"), map[string]*string{createdTag: to.Ptr("another")}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, e).Get(t.Context(), "prod/root"); err != nil || !bytes.Equal(got.Data, document("first").Data) {
		t.Errorf("%v, or another document", err)
	}
	elsewhere := open(t, e, func(o *Options) {
		next := o.HTTP.Transport
		o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Hostname() == "evil.test" {
				t.Errorf("a call to another host, with a token: %t", r.Header.Get("Authorization") != "")
			}
			response, err := next.RoundTrip(r)
			if err == nil && strings.HasSuffix(r.URL.Path, "/versions") {
				response.Body = io.NopCloser(strings.NewReader(`{"value":[],"nextLink":"https://evil.test/secrets/x/versions?api-version=7.4"}`))
				response.Header.Del("Content-Length")
				response.ContentLength = -1
			}
			return response, err
		})}
	})
	_, err := elsewhere.Get(t.Context(), "prod/root")
	refused := (*trust.VaultError)(nil)
	if !errors.As(err, &refused) || refused.Reason != trust.VaultUnauthorized || !strings.Contains(err.Error(), "another host") {
		t.Errorf("a list that goes on elsewhere: %v", err)
	}
}

// TestSomebodyElses: what belongs to another is neither read nor overwritten.
func TestSomebodyElses(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	v := open(t, e)
	name := vaultname.KeyVault("prod/root")
	tags := map[string]*string{nameTag: to.Ptr("other/root")}
	if _, err := v.secrets.SetSecret(t.Context(), name, azsecrets.SetSecretParameters{Value: to.Ptr("theirs"), Tags: tags}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Tags: tags}, nil); err != nil {
		t.Fatal(err)
	}
	_, get := v.Get(t.Context(), "prod/root")
	_, key := v.Key(t.Context(), "prod/root", "")
	for what, err := range map[string]error{"get": get, "key": key, "put": v.Put(t.Context(), "prod/root", document("ours"))} {
		if err == nil || !strings.Contains(err.Error(), `"other/root"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if kept, err := v.secrets.GetSecret(t.Context(), name, "", nil); err != nil || *kept.Value != "theirs" {
		t.Errorf("overwritten, %v", err)
	}
}

// TestDNS: a name that nobody has is a vault that is not there; a server that does
// not say is one that is away.
func TestDNS(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	for _, tt := range []struct {
		err  net.DNSError
		want trust.VaultReason
		says string
	}{
		{net.DNSError{Err: "no such host", Name: emulator.Host, IsNotFound: true}, trust.VaultMissing, "privatelink"},
		{net.DNSError{Err: "server misbehaving", Name: emulator.Host, IsTemporary: true}, trust.VaultUnavailable, "no connection"},
	} {
		v := open(t, e, func(o *Options) {
			o.HTTP = &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, &tt.err })}
		})
		_, err := v.Get(t.Context(), "prod/root")
		refused := (*trust.VaultError)(nil)
		if !errors.As(err, &refused) || refused.Reason != tt.want || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: %v", tt.err.Err, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSkew: the vault's time is known by its answers, also by those that refuse.
func TestSkew(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	v := open(t, e)
	if _, known := v.Skew(); known {
		t.Error("known before there was an answer")
	}
	for _, ahead := range []time.Duration{10 * time.Minute, -10 * time.Minute, 0} {
		e.Break(emulator.Faults{Skew: ahead})
		_, _ = v.Get(t.Context(), "prod/root")
		if skew, known := v.Skew(); !known || (skew+ahead).Abs() > 5*time.Second {
			t.Errorf("a vault that is ahead by %s: %s, known %t", ahead, skew, known)
		}
	}
}

// TestAddresses: only an address of a vault in the fleet's cloud gets a token.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		url   string
		cloud v1alpha1.AzureCloud
		says  string
	}{
		{"https://prod-mesh.vault.azure.net", "", ""},
		{"https://PROD-mesh.vault.azure.net/", v1alpha1.AzurePublic, ""},
		{"https://prod.vault.usgovcloudapi.net", "", ""},
		{"https://prod.vault.azure.cn", v1alpha1.AzureChina, ""},
		{"https://prod.vault.azure.cn", v1alpha1.AzurePublic, "of cloud China"},
		{"http://prod.vault.azure.net", "", "want https://NAME.vault.azure.net"},
		{"https://prod.managedhsm.azure.net", "", "want"},
		{"https://vault.azure.net", "", "want"},
		{"https://prod.vault.azure.net.evil.test", "", "want"},
		{"https://prod.vault.azure.net:8443", "", "want"},
		{"https://u:p@prod.vault.azure.net", "", "want"},
		{"https://prod.vault.azure.net/secrets", "", "want"},
		{"https://prod.vault.azure.net?x=y", "", "want"},
	} {
		_, err := Open(Options{URL: tt.url, Cloud: tt.cloud, Identity: azure.Identity{Kind: v1alpha1.AzureManagedIdentity}})
		if (tt.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s in cloud %q: %v, want %q", tt.url, tt.cloud, err, tt.says)
		}
	}
}

func TestDocumentsThatDoNotFit(t *testing.T) {
	t.Parallel()
	v := open(t, emulated(t, emulator.Options{}))
	for why, data := range map[string][]byte{"too long": bytes.Repeat([]byte(canary), 2000), "no text": {0xff, 0xfe}, "empty": {}} {
		if err := v.Put(t.Context(), "prod/root", trust.Document{Data: data}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", why, err)
		}
	}
}
