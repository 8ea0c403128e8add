// Package azuretest is as much of Azure as logins and a member of type AKS need:
// an authority that gives tokens for a federated token or a secret, an endpoint
// for managed identities, the two calls of Azure Resource Manager, and the API
// server of one cluster, which takes the tokens given and no others.
//
// It is honest about the protocol, because the real SDK speaks to it: OpenID
// discovery, client assertions, audiences, expiry, Retry-After and claims
// challenges. It leaves out signatures: a token is an opaque string that it
// remembers. A fault decides what happens to a call before it is answered.
package azuretest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
)

// What the emulator knows.
const (
	Tenant     = "11111111-2222-3333-4444-555555555555"
	Client     = "66666666-7777-8888-9999-000000000000"
	ResourceID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
	// AKSServer is the audience of AKS API servers.
	AKSServer = "6dae42f8-4368-4678-94ff-3960e28e3630"
)

// Azure is the emulator. Its exported fields may be changed while holding Lock.
type Azure struct {
	sync.Mutex
	// Federated and Secret are what the authority takes.
	Federated, Secret string
	// Lifetime of tokens.
	Lifetime time.Duration
	// FQDN and PrivateFQDN of the cluster; the port is that of its API server.
	FQDN, PrivateFQDN string
	// Entra says that the cluster takes tokens at all.
	Entra bool
	// Kubeconfig in place of the usual one.
	Kubeconfig string
	// Fault answers a call by itself if it returns true. What is "token", "imds",
	// "get", "credential" or "api".
	Fault func(what string, w http.ResponseWriter, r *http.Request) bool

	server, cluster *httptest.Server
	calls           map[string]int
	tokens          map[string]token
}

type token struct {
	audience string
	ends     time.Time
	claims   string
	revoked  bool
}

// StartEntra starts one without a cluster. Close ends it.
func StartEntra() *Azure {
	a := &Azure{Lifetime: time.Hour, FQDN: "127.0.0.1", Entra: true, calls: map[string]int{}, tokens: map[string]token{}}
	a.server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	return a
}

// Start starts one, in front of an API server that next reaches at the address
// given. Close ends it.
func Start(address *url.URL, next http.RoundTripper) *Azure {
	a := StartEntra()
	proxy := &httputil.ReverseProxy{Transport: next, FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(address)
		r.Out.Header.Del("Authorization")
	}}
	a.cluster = httptest.NewUnstartedServer(a.authenticated(proxy))
	a.cluster.EnableHTTP2 = true
	a.cluster.StartTLS()
	return a
}

// Close ends it.
func (a *Azure) Close() {
	a.server.Close()
	if a.cluster != nil {
		a.cluster.Close()
	}
}

// URL is where the authority is.
func (a *Azure) URL() string { return a.server.URL }

// CA is the certificate of the authority, which signs itself, as PEM.
func (a *Azure) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw})
}

// Cloud is the configuration of a client.
func (a *Azure) Cloud() cloud.Configuration {
	return cloud.Configuration{ActiveDirectoryAuthorityHost: a.server.URL, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: a.server.URL, Audience: "https://management.test"},
	}}
}

// HTTP is a client that reaches it, and it in place of the address that managed
// identities are asked at. Whatever else is asked fails.
func (a *Azure) HTTP() *http.Client { return &http.Client{Transport: redirect{a}} }

type redirect struct{ a *Azure }

func (t redirect) RoundTrip(r *http.Request) (*http.Response, error) {
	here, err := url.Parse(t.a.server.URL)
	if err != nil {
		return nil, err
	}
	switch r.URL.Host {
	case here.Host:
	case "169.254.169.254":
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = here.Scheme, here.Host
	default:
		return nil, fmt.Errorf("a call to %q, which nobody asked for", r.URL.Host)
	}
	return t.a.server.Client().Transport.RoundTrip(r)
}

// Calls is how often something was asked for.
func (a *Azure) Calls(what string) int {
	a.Lock()
	defer a.Unlock()
	return a.calls[what]
}

// Revoke makes every token given so far worthless.
func (a *Azure) Revoke() {
	a.Lock()
	defer a.Unlock()
	for name, t := range a.tokens {
		t.revoked = true
		a.tokens[name] = t
	}
}

// Claims returns the claims that a token was asked for with.
func (a *Azure) Claims(of string) string {
	a.Lock()
	defer a.Unlock()
	return a.tokens[of].claims
}

func (a *Azure) faulty(what string, w http.ResponseWriter, r *http.Request) bool {
	a.Lock()
	a.calls[what]++
	fault := a.Fault
	a.Unlock()
	return fault != nil && fault(what, w, r)
}

func (a *Azure) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	path := r.URL.Path
	switch {
	case strings.HasSuffix(path, "/.well-known/openid-configuration"):
		base := a.server.URL + "/" + strings.Split(path, "/")[1]
		reply(w, map[string]any{"issuer": base + "/v2.0", "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/oauth2/v2.0/token"})
	case strings.HasSuffix(path, "/oauth2/v2.0/token"):
		if !a.faulty("token", w, r) {
			a.giveToken(w, r)
		}
	case path == "/metadata/identity/oauth2/token":
		if !a.faulty("imds", w, r) {
			name := a.issue(r.URL.Query().Get("resource"), "")
			reply(w, map[string]any{"access_token": name, "token_type": "Bearer", "expires_in": "3600", "resource": r.URL.Query().Get("resource"),
				"expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix())})
		}
	case strings.EqualFold(path, ResourceID):
		if a.allowed(w, r, "https://management.test") && !a.faulty("get", w, r) {
			a.describe(w)
		}
	case strings.EqualFold(path, ResourceID+"/listClusterUserCredential") && r.Method == http.MethodPost:
		if a.allowed(w, r, "https://management.test") && !a.faulty("credential", w, r) {
			reply(w, map[string]any{"kubeconfigs": []any{map[string]any{"name": "clusterUser", "value": []byte(a.kubeconfig())}}})
		}
	default:
		w.WriteHeader(http.StatusNotFound)
		reply(w, map[string]any{"error": map[string]any{"code": "ResourceNotFound", "message": "no " + path}})
	}
}

func reply(w io.Writer, value any) { _ = json.NewEncoder(w).Encode(value) }

func (a *Azure) giveToken(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	a.Lock()
	good := strings.Contains(r.URL.Path, Tenant) && r.Form.Get("client_id") == Client &&
		(a.Federated != "" && r.Form.Get("client_assertion") == a.Federated || a.Secret != "" && r.Form.Get("client_secret") == a.Secret)
	lifetime := a.Lifetime
	a.Unlock()
	if !good {
		w.WriteHeader(http.StatusUnauthorized)
		reply(w, map[string]any{"error": "invalid_client", "error_description": "AADSTS700024: Client assertion is not within its valid time range. Trace ID: " + rand.Text(), "error_codes": []int{700024}})
		return
	}
	scope, _, _ := strings.Cut(r.Form.Get("scope"), "/.default")
	reply(w, map[string]any{"token_type": "Bearer", "expires_in": int(lifetime.Seconds()), "ext_expires_in": int(lifetime.Seconds()), "access_token": a.issue(scope, r.Form.Get("claims"))})
}

// Token gives a token for an audience to whom has no login.
func (a *Azure) Token(audience string) string { return a.issue(audience, "") }

func (a *Azure) issue(audience, claims string) string {
	a.Lock()
	defer a.Unlock()
	name := "token-" + rand.Text()
	a.tokens[name] = token{audience: audience, ends: time.Now().Add(a.Lifetime), claims: claims}
	return name
}

// Refuses says why a token is not good for an audience, empty when it is.
func (a *Azure) Refuses(name, audience string) string {
	a.Lock()
	defer a.Unlock()
	switch t, ok := a.tokens[name]; {
	case !ok:
		return "not a token of this authority"
	case t.revoked:
		return "revoked"
	case t.audience != audience:
		return fmt.Sprintf("for audience %q", t.audience)
	case !time.Now().Before(t.ends):
		return "expired"
	}
	return ""
}

// allowed answers for a call without a good token.
func (a *Azure) allowed(w http.ResponseWriter, r *http.Request, audience string) bool {
	if a.Refuses(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), audience) == "" {
		return true
	}
	w.WriteHeader(http.StatusUnauthorized)
	reply(w, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"})
	return false
}

func (a *Azure) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.faulty("api", w, r) && a.allowed(w, r, AKSServer) {
			next.ServeHTTP(w, r)
		}
	})
}

func (a *Azure) describe(w io.Writer) {
	a.Lock()
	defer a.Unlock()
	properties := map[string]any{"powerState": map[string]any{"code": "Running"}, "disableLocalAccounts": true}
	for name, value := range map[string]string{"fqdn": a.FQDN, "privateFQDN": a.PrivateFQDN} {
		if value != "" {
			properties[name] = value
		}
	}
	if a.Entra {
		properties["aadProfile"] = map[string]any{"managed": true}
	}
	reply(w, map[string]any{"id": ResourceID, "properties": properties})
}

// kubeconfig is as Azure gives it for a cluster without local accounts: with a
// program to run.
func (a *Azure) kubeconfig() string {
	a.Lock()
	defer a.Unlock()
	if a.Kubeconfig != "" {
		return a.Kubeconfig
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cluster.Certificate().Raw})
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "%s", certificate-authority-data: %s}}]
users:
- name: u
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: kubelogin, args: [get-token], interactiveMode: Never}
`, a.cluster.URL, base64.StdEncoding.EncodeToString(ca))
}
