package keyvault

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// reads is what a vault that one can log in to says of a document that is not there.
func reads(ctx context.Context, v *Vault) error {
	if _, err := v.Get(ctx, "prod/root"); !errors.Is(err, trust.ErrNotFound) {
		return errors.Join(errors.New("not the vault's word that there is none"), err)
	}
	return nil
}

// federated logs in by the token in a file.
func federated(t *testing.T, e *emulator.Emulator) (func(*Options), string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("assertion-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Entra.Federated = "assertion-1"
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_CLIENT_ID", azuretest.Client)
	t.Setenv("AZURE_TENANT_ID", azuretest.Tenant)
	return func(o *Options) { o.Identity = azure.Identity{} }, file
}

// TestIdentities: each way to log in opens the vault, with one token for all calls.
func TestIdentities(t *testing.T) {
	for identity, asked := range map[v1alpha1.AzureIdentity]string{
		v1alpha1.AzureWorkloadIdentity: "token", v1alpha1.AzureManagedIdentity: "imds", v1alpha1.AzureServicePrincipal: "token",
	} {
		e := emulated(t, emulator.Options{})
		_, _ = federated(t, e)
		v := open(t, e, func(o *Options) { o.Identity.Kind = identity })
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				if err := reads(t.Context(), v); err != nil {
					t.Errorf("%s: %v", identity, err)
				}
			})
		}
		calls.Wait()
		if n := e.Entra.Calls(asked); n < 1 || n > 2 {
			t.Errorf("%s: %d tokens asked for", identity, n)
		}
	}
}

// TestTokens: a federated token that was replaced is read, a token that was revoked
// or that lacks claims is replaced at once, by one more call each.
func TestTokens(t *testing.T) {
	e := emulated(t, emulator.Options{})
	as, file := federated(t, e)
	var ahead atomic.Int64
	v := open(t, e, as, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	if err := reads(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("assertion-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Entra.Lock()
	e.Entra.Federated = "assertion-2"
	e.Entra.Unlock()
	e.Entra.Revoke()
	tokens := e.Entra.Calls("token")
	if err := reads(t.Context(), v); err != nil {
		t.Fatalf("after the token was revoked and the federated token replaced: %v", err)
	}
	if more := e.Entra.Calls("token") - tokens; more != 1 {
		t.Errorf("%d tokens for one that was revoked", more)
	}
	e.Break(emulator.Faults{Claims: `{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}`})
	if err := reads(t.Context(), v); err != nil {
		t.Errorf("the vault asks for claims: %v", err)
	}
	if more := e.Entra.Calls("token") - tokens; more != 2 {
		t.Errorf("%d tokens, want one with the claims", more-1)
	}
}

// TestLoginRefused: without a token no call gets to the vault, Azure is asked once
// in half a minute however many callers there are, and nobody else is logged in.
func TestLoginRefused(t *testing.T) {
	for _, tt := range []struct {
		why    string
		breaks func(e *emulator.Emulator, file string)
		as     func(o *Options)
		want   trust.VaultReason
		says   string
	}{
		{"an expired federated token", func(_ *emulator.Emulator, file string) { _ = os.WriteFile(file, []byte("old"), 0o600) }, nil, trust.VaultUnauthorized, "federated token has expired"},
		{"no federated token", func(_ *emulator.Emulator, file string) { _ = os.Remove(file) }, nil, trust.VaultUnauthorized, "spec.trust.vault.azure"},
		{"the identity of another tenant", nil, func(o *Options) {
			o.Identity.TenantID = "99999999-2222-3333-4444-555555555555"
		}, trust.VaultUnauthorized, azuretest.Tenant},
		{"too many tokens", fail("token", http.StatusTooManyRequests), nil, trust.VaultThrottled, "too many"},
		{"an authority that fails", fail("token", http.StatusNotImplemented), nil, trust.VaultUnavailable, "501"},
		{"slow metadata of the machine", func(e *emulator.Emulator, _ string) {
			e.Entra.Fault = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			}
		}, func(o *Options) { o.Identity.Kind = v1alpha1.AzureManagedIdentity }, trust.VaultUnavailable, "no answer"},
	} {
		e := emulated(t, emulator.Options{})
		as, file := federated(t, e)
		t.Setenv("AZURE_CLIENT_SECRET", s3cret) // a developer's, that would do
		if tt.breaks != nil {
			tt.breaks(e, file)
		}
		v := open(t, e, as, func(o *Options) {
			if o.Timeout = time.Minute; tt.want == trust.VaultUnavailable && tt.as != nil {
				o.Timeout = 2 * time.Second
			}
			if tt.as != nil {
				tt.as(o)
			}
		})
		var first string
		for range 3 {
			_, err := v.Get(t.Context(), "prod/root")
			refused := (*trust.VaultError)(nil)
			if !errors.As(err, &refused) || refused.Reason != tt.want || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), s3cret) {
				t.Errorf("%s: %v; want %s and %q", tt.why, err, tt.want, tt.says)
				break
			}
			if first == "" {
				first = err.Error()
			}
			if err.Error() != first {
				t.Errorf("%s: the message flaps: %v, then %v", tt.why, first, err)
			}
		}
		if n := e.Entra.Calls("token") + e.Entra.Calls("imds"); n > 3 {
			t.Errorf("%s: %d tokens asked for by three calls", tt.why, n)
		}
		if tt.as == nil && e.Entra.Calls("imds") > 0 {
			t.Errorf("%s: somebody else was tried", tt.why)
		}
	}
}

func fail(what string, status int) func(*emulator.Emulator, string) {
	return func(e *emulator.Emulator, _ string) {
		e.Entra.Fault = func(asked string, w http.ResponseWriter, _ *http.Request) bool {
			if asked == what {
				w.WriteHeader(status)
			}
			return asked == what
		}
	}
}
