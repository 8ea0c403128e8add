package member

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestDialPodRefused: an API server that does not forward, in every way. One that
// does is in hack/controlplane.
func TestDialPodRefused(t *testing.T) {
	for _, tt := range []struct {
		reason string
		answer http.HandlerFunc
		want   Reason
		says   string
	}{
		{"we may not", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"pods is forbidden","reason":"Forbidden","code":403}`))
		}, AccessDenied, "is forbidden"},
		{"it fails", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no such kubelet", http.StatusBadGateway)
		}, ServerFailing, "forward port 15012 of pod s/p"},
		{"it does not upgrade", func(http.ResponseWriter, *http.Request) {}, Unclassified, ""},
		{"it is silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Unreachable, ""},
		{"it breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Unreachable, ""},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			var last atomic.Pointer[http.Request]
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				last.Store(r.Clone(context.Background()))
				tt.answer(w, r)
			}))
			defer server.Close()
			config := &rest.Config{Host: server.URL, BearerToken: "the-token", TLSClientConfig: rest.TLSClientConfig{
				CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			}}
			config.Wrap(newBudget(Options{Timeout: 2 * time.Second}).wrap)
			m, err := Connect(config)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := m.DialPod(t.Context(), "s", "p", 15012)
			if err == nil {
				_ = conn.Close()
				t.Fatal("it was forwarded")
			}
			if got := ReasonOf(err); got != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("reason %s, want %s: %v", got, tt.want, err)
			}
			if strings.Contains(err.Error(), "the-token") {
				t.Errorf("the error has the token: %v", err)
			}
			asked := last.Load()
			if asked.URL.Path != "/api/v1/namespaces/s/pods/p/portforward" || asked.Header.Get("Authorization") != "Bearer the-token" || asked.Method != http.MethodPost {
				t.Errorf("asked %s %s", asked.Method, asked.URL)
			}
			if own := (*Error)(nil); !errors.As(err, &own) {
				t.Errorf("no error of a member: %v", err)
			}
		})
	}
}
