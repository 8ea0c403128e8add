package azure_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
)

const scope = "https://vault.azure.net/.default"

// login is one by workload identity against an emulated authority, and the file of
// its federated token.
func login(t *testing.T, now func() time.Time) (*azuretest.Azure, *azure.Login, string) {
	t.Helper()
	emulated := azuretest.StartEntra()
	t.Cleanup(emulated.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("assertion-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	emulated.Federated = "assertion-1"
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_CLIENT_ID", azuretest.Client)
	t.Setenv("AZURE_TENANT_ID", azuretest.Tenant)
	l, err := azure.New(azure.Identity{}, azure.Options{Cloud: emulated.Cloud(), HTTP: emulated.HTTP(), Scope: scope, Field: "spec.trust.vault", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return emulated, l, file
}

// TestRenew: a credential keeps its token, also one that was revoked; renewed, it
// reads the federated token anew. That is done at most every half minute.
func TestRenew(t *testing.T) {
	ahead := time.Duration(0)
	emulated, l, file := login(t, func() time.Time { return time.Now().Add(ahead) })
	o := policy.TokenRequestOptions{Scopes: []string{scope}, TenantID: strings.ToUpper(azuretest.Tenant)}
	token := func() string {
		t.Helper()
		given, err := l.GetToken(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return given.Token
	}
	first := token()
	emulated.Revoke()
	if token() != first {
		t.Fatal("another token without being told that the first is worthless")
	}
	if err := os.WriteFile(file, []byte("assertion-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	emulated.Lock()
	emulated.Federated = "assertion-2"
	emulated.Unlock()
	if !l.Renew(t.Context()) {
		t.Fatal("not renewed")
	}
	if second := token(); second == first || emulated.Refuses(second, "https://vault.azure.net") != "" {
		t.Errorf("the token after that is not good: %s", emulated.Refuses(second, "https://vault.azure.net"))
	}
	if l.Renew(t.Context()) {
		t.Error("renewed twice at once")
	}
	ahead = azure.RenewRetry
	if !l.Renew(t.Context()) {
		t.Error("not renewed half a minute later")
	}
}

// TestRefusals: what keeps an identity from a token is said with what to do, and
// nobody else is logged in in its place.
func TestRefusals(t *testing.T) {
	answer := func(code int, body string) func(string, http.ResponseWriter, *http.Request) bool {
		return func(what string, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	for _, tt := range []struct {
		why    string
		o      policy.TokenRequestOptions
		fault  func(string, http.ResponseWriter, *http.Request) bool
		change func(t *testing.T, file string)
		kind   azure.Kind
		says   string
		after  time.Duration
	}{
		{why: "the tenant of somebody else", o: policy.TokenRequestOptions{TenantID: "22222222-2222-3333-4444-555555555555"}, kind: azure.Refused, says: "check tenantID", after: azure.RenewRetry},
		{why: "an application that there is not", fault: answer(400, `{"error":"x","error_description":"AADSTS700016: s3cret"}`), kind: azure.Refused, says: "AADSTS700016", after: azure.RenewRetry},
		{why: "an expired federated token", change: func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, kind: azure.Refused, says: "the federated token has expired", after: azure.RenewRetry},
		{why: "no federated token", change: func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, kind: azure.Refused, says: "spec.trust.vault", after: azure.RenewRetry},
		{why: "too many", fault: answer(429, `{}`), kind: azure.Throttled, says: "too many", after: 90 * time.Second},
		{why: "failing", fault: answer(501, `{}`), kind: azure.Failing, says: "501", after: azure.RenewRetry},
	} {
		emulated, l, file := login(t, nil)
		t.Setenv("AZURE_CLIENT_SECRET", "s3cret") // a developer's
		emulated.Secret, emulated.Fault = "s3cret", tt.fault
		if tt.change != nil {
			tt.change(t, file)
		}
		tt.o.Scopes = []string{scope}
		_, err := l.GetToken(t.Context(), tt.o)
		if err == nil {
			t.Errorf("%s: a token all the same", tt.why)
			continue
		}
		refusal := l.Refusal(err)
		if refusal.Kind != tt.kind || !strings.Contains(refusal.Error(), tt.says) || strings.Contains(refusal.Error(), "s3cret") || refusal.RetryAfter != tt.after {
			t.Errorf("%s: %s, kind %s, again after %s", tt.why, refusal, refusal.Kind, refusal.RetryAfter)
		}
		if emulated.Calls("imds") != 0 {
			t.Errorf("%s: somebody else was tried", tt.why)
		}
	}
}

func TestNoIdentity(t *testing.T) {
	t.Setenv("AZURE_CLIENT_ID", "")
	t.Setenv("AZURE_TENANT_ID", "")
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	for _, identity := range []azure.Identity{
		{},
		{Kind: v1alpha1.AzureServicePrincipal, ClientID: azuretest.Client, TenantID: azuretest.Tenant, Secret: map[string][]byte{"clientCertificate": []byte("s3cret")}},
	} {
		_, err := azure.New(identity, azure.Options{Field: "spec.trust.vault"})
		if refusal := (*azure.Error)(nil); !errors.As(err, &refusal) || refusal.Kind != azure.Refused || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", identity.Kind, err)
		}
	}
}
