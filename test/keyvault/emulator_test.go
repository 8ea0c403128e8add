package keyvault_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/isthmus-mesh/isthmus/test/keyvault"
)

// TestLimits: as many calls in ten seconds as the service takes, and no more.
func TestLimits(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	e, err := keyvault.Start(keyvault.Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	// No repetitions: 429 is what is looked for.
	options := azcore.ClientOptions{Transport: e.HTTP(), Retry: policy.RetryOptions{MaxRetries: -1}}
	keys, err := azkeys.NewClient(e.URL(), static(e.Entra.Token(keyvault.Audience)), &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := azsecrets.NewClient(e.URL(), static(e.Entra.Token(keyvault.Audience)), &azsecrets.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what  string
		limit int
		call  func() error
	}{
		{"keys made", 20, func() error {
			_, err := keys.CreateKey(t.Context(), "limited", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
			return err
		}},
		{"secrets written", 300, func() error {
			_, err := secrets.SetSecret(t.Context(), "limited", azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil)
			return err
		}},
	} {
		began, taken := time.Now(), 0
		var refusal error
		for refusal == nil {
			if refusal = tt.call(); refusal == nil {
				taken++
			}
		}
		response := (*azcore.ResponseError)(nil)
		if !errors.As(refusal, &response) || response.StatusCode != http.StatusTooManyRequests || response.RawResponse.Header.Get("Retry-After") == "" {
			t.Fatalf("%s: %v", tt.what, refusal)
		}
		// On a machine so slow that the window moved on, more are taken.
		if taken < tt.limit || taken > tt.limit && time.Since(began) < 10*time.Second {
			t.Errorf("%d %s in %s, want %d", taken, tt.what, time.Since(began), tt.limit)
		}
		ahead.Add(int64(10 * time.Second))
		if err := tt.call(); err != nil {
			t.Errorf("%s after ten seconds: %v", tt.what, err)
		}
	}
}

// TestTokens: a token is good for this service and for its time only.
func TestTokens(t *testing.T) {
	t.Parallel()
	e, err := keyvault.Start(keyvault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	e.Entra.Lifetime = -time.Minute
	expired := e.Entra.Token(keyvault.Audience)
	e.Entra.Lifetime = time.Hour
	for why, token := range map[string]string{
		"good": e.Entra.Token(keyvault.Audience), "for another service": e.Entra.Token("https://management.azure.com"), "expired": expired, "made up": "abc",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.URL()+"/secrets?api-version=7.4", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := e.HTTP().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		challenged := strings.Contains(response.Header.Get("WWW-Authenticate"), keyvault.Audience)
		if good := why == "good"; good != (response.StatusCode == http.StatusOK) || good == challenged {
			t.Errorf("%s: %d, challenged %t", why, response.StatusCode, challenged)
		}
	}
}
