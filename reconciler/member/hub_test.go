package member

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"
)

// TestHubProtects: through a member that is the hub everything can be written
// but what isthmus itself lives from.
func TestHubProtects(t *testing.T) {
	var wrapped, arrived atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+canary || r.UserAgent() != "isthmus/r1" {
			t.Errorf("%s %s: authorization or user agent %q", r.Method, r.URL.Path, r.UserAgent())
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
	}))
	defer server.Close()
	hub := &rest.Config{Host: server.URL, BearerToken: canary, UserAgent: "controller-runtime", TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}}
	hub.Wrap(func(next http.RoundTripper) http.RoundTripper { wrapped.Add(1); return next })
	m, err := Connect(Hub(hub, "isthmus-system", Options{UserAgent: "isthmus/r1"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		reason, verb, path string
		refused            bool
	}{
		{"its namespace", "DELETE", "/api/v1/namespaces/isthmus-system", true},
		{"what is in it", "DELETE", "/apis/apps/v1/namespaces/isthmus-system/deployments/isthmus", true},
		{"what would be put into it", "PATCH", "/api/v1/namespaces/isthmus-system/secrets/cacerts", true},
		{"its kinds", "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/members.isthmus.dev", true},
		{"its objects", "DELETE", "/apis/isthmus.dev/v1alpha1/namespaces/elsewhere/members/a", true},
		{"a label that enrols it", "PATCH", "/api/v1/namespaces/isthmus-system", false},
		{"a look", "GET", "/apis/apps/v1/namespaces/isthmus-system/deployments/isthmus", false},
		{"another namespace", "DELETE", "/api/v1/namespaces/isthmus-system-2", false},
		{"the mesh's namespace", "DELETE", "/api/v1/namespaces/applink-system", false},
		{"another's kinds", "DELETE", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.gateway.networking.k8s.io", false},
	} {
		before := arrived.Load()
		err := m.REST.Verb(tt.verb).AbsPath(tt.path).Do(t.Context()).Error()
		switch {
		case !tt.refused && (err != nil || arrived.Load() == before):
			t.Errorf("%s: %s %s: %v", tt.reason, tt.verb, tt.path, err)
		case tt.refused && (ReasonOf(err) != HubProtected || arrived.Load() != before):
			t.Errorf("%s: %s %s: %v, arrived %v", tt.reason, tt.verb, tt.path, err, arrived.Load() != before)
		case tt.refused && !strings.Contains(err.Error(), "isthmus"):
			t.Errorf("%s: %v has to say what is protected", tt.reason, err)
		}
	}
	if wrapped.Load() != 0 {
		t.Error("what the hub's clients do to their calls was done to the member's")
	}
}
