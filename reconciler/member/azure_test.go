package member

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
)

// inAzure is an emulated Azure with a cluster that knows its own uid, and the
// client of it, whose clock can be set forward.
func inAzure(t *testing.T) (*azuretest.Azure, *Azure, *atomic.Int64) {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"uid":"u"}}`)
	}))
	t.Cleanup(api.Close)
	address, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	emulated := azuretest.Start(address, http.DefaultTransport)
	t.Cleanup(emulated.Close)
	a := NewAzure(Options{Timeout: 20 * time.Second})
	a.HTTP = emulated.HTTP()
	a.Clouds = map[v1alpha1.AzureCloud]cloud.Configuration{v1alpha1.AzureChina: emulated.Cloud()}
	ahead := &atomic.Int64{}
	a.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	return emulated, a, ahead
}

// federated is a cluster that is reached with the token in a file.
func federated(t *testing.T, emulated *azuretest.Azure) (ManagedCluster, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("assertion-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	emulated.Lock()
	emulated.Federated = "assertion-1"
	emulated.Unlock()
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_CLIENT_ID", azuretest.Client)
	t.Setenv("AZURE_TENANT_ID", azuretest.Tenant)
	return ManagedCluster{ResourceID: azuretest.ResourceID, Azure: v1alpha1.Azure{AzureLogin: v1alpha1.AzureLogin{Cloud: v1alpha1.AzureChina}}}, file
}

func uidOf(t *testing.T, a *Azure, c ManagedCluster) (Reached, error) {
	t.Helper()
	reached, err := a.Reach(t.Context(), c)
	if err != nil {
		return reached, err
	}
	m, err := Connect(reached.Config())
	if err != nil {
		return reached, err
	}
	defer m.Close()
	_, err = m.ClusterUID(t.Context())
	return reached, err
}

// TestAzureIdentities: each way to log in reaches the cluster, and what Azure says
// of it is read once.
func TestAzureIdentities(t *testing.T) {
	for _, tt := range []struct {
		identity v1alpha1.AzureIdentity
		secret   map[string][]byte
		wants    string // what was asked for a token
	}{
		{v1alpha1.AzureWorkloadIdentity, nil, "token"},
		{v1alpha1.AzureManagedIdentity, nil, "imds"},
		{v1alpha1.AzureServicePrincipal, map[string][]byte{"clientSecret": []byte(canary)}, "token"},
	} {
		emulated, a, _ := inAzure(t)
		c, _ := federated(t, emulated)
		emulated.Secret = canary
		c.Azure.Identity, c.ClientID, c.TenantID, c.Secret = tt.identity, azuretest.Client, azuretest.Tenant, tt.secret
		first, err := uidOf(t, a, c)
		if err != nil {
			t.Errorf("%s: %v", tt.identity, err)
			continue
		}
		second, err := uidOf(t, a, c)
		if err != nil || first.Version != second.Version {
			t.Errorf("%s: again: %v, versions %q and %q", tt.identity, err, first.Version, second.Version)
		}
		if emulated.Calls("get") != 1 || emulated.Calls("credential") != 1 || emulated.Calls(tt.wants) != 2 {
			t.Errorf("%s: %d reads, %d credentials, %d tokens; want 1, 1, and one token for each audience",
				tt.identity, emulated.Calls("get"), emulated.Calls("credential"), emulated.Calls(tt.wants))
		}
	}
}

// TestAzureCertificate: an application with a certificate signs with its key what
// it sends to the authority.
func TestAzureCertificate(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})...)
	emulated, a, _ := inAzure(t)
	var asserted atomic.Value
	emulated.Fault = func(what string, _ http.ResponseWriter, r *http.Request) bool {
		if what == "token" {
			_ = r.ParseForm()
			asserted.Store(r.Form.Get("client_assertion"))
			emulated.Lock()
			emulated.Federated = r.Form.Get("client_assertion")
			emulated.Unlock()
		}
		return false
	}
	c := ManagedCluster{ResourceID: azuretest.ResourceID, Secret: map[string][]byte{"clientCertificate": both}, Azure: v1alpha1.Azure{AzureLogin: v1alpha1.AzureLogin{
		Cloud: v1alpha1.AzureChina, Identity: v1alpha1.AzureServicePrincipal, ClientID: azuretest.Client, TenantID: azuretest.Tenant,
	}}}
	if _, err := uidOf(t, a, c); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(asserted.Load().(string), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts of an assertion", len(parts))
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, sum[:], signature, nil) != nil && rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		t.Error("the assertion is not signed by the certificate's key")
	}
	c.Secret = map[string][]byte{"clientCertificate": []byte(canary)}
	c.SecretVersion = "2"
	if _, err := a.Reach(t.Context(), c); ReasonOf(err) != AzureLoginRefused || strings.Contains(err.Error(), canary) {
		t.Errorf("not a certificate: %v", err)
	}
}

// TestAzureRotates: a federated token that was replaced in its file is used, a
// token that ends is replaced ahead of its end, and one that an API server does
// not take any more is replaced at once.
func TestAzureRotates(t *testing.T) {
	emulated, a, _ := inAzure(t)
	c, file := federated(t, emulated)
	reached, err := a.Reach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Connect(reached.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	look := func(why string) {
		t.Helper()
		if _, err := m.ClusterUID(t.Context()); err != nil {
			t.Errorf("%s: %v", why, err)
		}
	}
	look("first")
	tokens := emulated.Calls("token")
	for range 5 {
		look("with the same token")
	}
	if emulated.Calls("token") != tokens {
		t.Errorf("%d tokens more for calls within an hour", emulated.Calls("token")-tokens)
	}
	if err := os.WriteFile(file, []byte("assertion-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	emulated.Lock()
	emulated.Federated = "assertion-2"
	emulated.Unlock()
	emulated.Revoke()
	look("after the token was revoked and the federated token replaced")
	if emulated.Calls("token") != tokens+1 {
		t.Errorf("%d tokens after one was revoked, want 1", emulated.Calls("token")-tokens)
	}
}

// TestAzureRenewsAhead: a token that ends soon is replaced ahead, and used on to
// its end while Azure gives no other, without asking at every call.
func TestAzureRenewsAhead(t *testing.T) {
	emulated, a, ahead := inAzure(t)
	c, _ := federated(t, emulated)
	emulated.Lifetime = 4 * time.Minute
	reached, err := a.Reach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Connect(reached.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var tokens []int
	for i := range 6 {
		if i == 2 {
			emulated.Lock()
			emulated.Federated = "another"
			emulated.Unlock()
		}
		if _, err := m.ClusterUID(t.Context()); err != nil {
			t.Errorf("call %d: %v", i, err)
		}
		tokens = append(tokens, emulated.Calls("token"))
	}
	if tokens[1] != tokens[0]+1 || tokens[5] != tokens[1]+1 {
		t.Errorf("tokens asked for after each call: %v; want one ahead of the end, and one more for all calls that get none", tokens)
	}
	ahead.Store(int64(5 * time.Minute))
	if _, err := m.ClusterUID(t.Context()); ReasonOf(err) != AzureLoginRefused {
		t.Errorf("after the end of the token: %v", err)
	}
}

// TestAzureRevokedForGood: a token is asked for once after a refusal, however many
// calls are refused, and the refusal is what is told.
func TestAzureRevokedForGood(t *testing.T) {
	emulated, a, _ := inAzure(t)
	c, _ := federated(t, emulated)
	var want string
	const asked = `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`
	emulated.Fault = func(what string, w http.ResponseWriter, r *http.Request) bool {
		if what != "api" {
			return false
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if want = emulated.Claims(token); strings.Contains(want, "nbf") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="`+base64.StdEncoding.EncodeToString([]byte(asked))+`"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	if _, err := uidOf(t, a, c); err != nil || !strings.Contains(want, `"nbf"`) {
		t.Errorf("claims challenge: %v, the token was asked for with claims %q", err, want)
	}
	tokens := emulated.Calls("token")
	emulated.Lock()
	emulated.Fault = func(what string, w http.ResponseWriter, _ *http.Request) bool {
		if what == "api" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return what == "api"
	}
	emulated.Unlock()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			if _, err := uidOf(t, a, c); ReasonOf(err) != CredentialsRejected {
				t.Errorf("refused for good: %v", err)
			}
		})
	}
	calls.Wait()
	if more := emulated.Calls("token") - tokens; more > 1 {
		t.Errorf("%d tokens asked for by calls that are refused for good", more)
	}
}

// TestAzureAnswers: what Azure answers has a reason, says what to do, and no
// value of it changes from one try to the next.
func TestAzureAnswers(t *testing.T) {
	answer := func(at string, code int, body string, headers ...string) func(string, http.ResponseWriter, *http.Request) bool {
		return func(what string, w http.ResponseWriter, _ *http.Request) bool {
			if what != at {
				return false
			}
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for _, tt := range []struct {
		why   string
		fault func(string, http.ResponseWriter, *http.Request) bool
		want  Reason
		says  string
	}{
		{"the cluster was deleted", answer("get", 404, `{"error":{"code":"ResourceNotFound"}}`), ClusterGone, "not there any more"},
		{"its group was deleted", answer("get", 404, `{"error":{"code":"ResourceGroupNotFound"}}`), ClusterGone, "not there any more"},
		{"a subscription that cannot be seen is not a cluster that is gone", answer("get", 404, `{"error":{"code":"SubscriptionNotFound"}}`), AccessDenied, "tenant"},
		{"a proxy's 404 is not Azure's word", answer("get", 404, `not found`), AccessDenied, "subscription"},
		{"may not read", answer("get", 403, `{"error":{"code":"AuthorizationFailed"}}`), AccessDenied, "Azure Kubernetes Service Cluster User Role"},
		{"may not list", answer("credential", 403, `{"error":{"code":"AuthorizationFailed"}}`), AccessDenied, "Azure Kubernetes Service Cluster User Role"},
		{"too many", answer("get", 429, `{}`, "Retry-After", "120"), Throttled, "too many"},
		{"failing", answer("get", 501, `{}`), ServerFailing, "501"},
		{"no answer that can be read", answer("get", 200, `{"properties":`), ServerFailing, "read the answer"},
		{"the identity is refused", answer("token", 400, `{"error":"x","error_description":"AADSTS700016: `+canary+`"}`), AzureLoginRefused, "AADSTS700016"},
		{"too many tokens", answer("token", 429, `{"error":"x"}`, "Retry-After", "120"), Throttled, "too many"},
		{"a stopped cluster", answer("get", 200, `{"properties":{"fqdn":"f","aadProfile":{},"powerState":{"code":"Stopped"}}}`), Unreachable, "az aks start"},
		{"without Entra", answer("get", 200, `{"properties":{"fqdn":"f"}}`), CredentialsRejected, "--enable-aad"},
	} {
		emulated, a, ahead := inAzure(t)
		c, _ := federated(t, emulated)
		emulated.Fault = tt.fault
		_, err := a.Reach(t.Context(), c)
		if ReasonOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v, reason %s, want %s and %q", tt.why, err, ReasonOf(err), tt.want, tt.says)
			continue
		}
		_, again := a.Reach(t.Context(), c)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("%s: the message flaps: %v, then %v", tt.why, err, again)
		}
		if tt.want != Throttled || strings.Contains(tt.why, "tokens") {
			continue
		}
		if n := emulated.Calls("get"); n != 1 {
			t.Errorf("%s: %d calls before Retry-After was over", tt.why, n)
		}
		ahead.Store(int64(121 * time.Second))
		emulated.Lock()
		emulated.Fault = nil
		emulated.Unlock()
		if _, err := a.Reach(t.Context(), c); err != nil {
			t.Errorf("%s: after Retry-After: %v", tt.why, err)
		}
	}
}

// TestAzureKnows: what is known of a cluster is used while Azure fails, is read
// again when the cluster does not answer there, and ends when Azure says so.
func TestAzureKnows(t *testing.T) {
	emulated, a, ahead := inAzure(t)
	c, _ := federated(t, emulated)
	first, err := uidOf(t, a, c)
	if err != nil {
		t.Fatal(err)
	}
	set := func(change func()) { emulated.Lock(); defer emulated.Unlock(); change() }
	set(func() {
		emulated.Fault = func(what string, w http.ResponseWriter, _ *http.Request) bool {
			if what == "get" {
				w.WriteHeader(http.StatusForbidden)
			}
			return what == "get"
		}
	})
	ahead.Store(int64(azureFresh))
	if known, err := a.Reach(t.Context(), c); err != nil || known.Version != first.Version || emulated.Calls("get") != 2 {
		t.Errorf("while Azure refuses: %v, %d reads", err, emulated.Calls("get"))
	}
	set(func() { emulated.Fault, emulated.FQDN = nil, "nowhere.invalid" })
	ahead.Add(int64(azureFresh))
	moved, err := uidOf(t, a, c)
	if ReasonOf(err) != Unreachable || moved.Version == first.Version {
		t.Errorf("moved to where nobody is: %v", err)
	}
	reads := emulated.Calls("get")
	set(func() { emulated.FQDN = "127.0.0.1" })
	if _, err := uidOf(t, a, c); ReasonOf(err) != Unreachable || emulated.Calls("get") != reads {
		t.Errorf("suspect, and just read: %v, %d reads more", err, emulated.Calls("get")-reads)
	}
	ahead.Add(int64(azureSuspect))
	if _, err := uidOf(t, a, c); err != nil || emulated.Calls("get") != reads+1 {
		t.Errorf("suspect: %v, %d reads more", err, emulated.Calls("get")-reads)
	}
	set(func() {
		emulated.Fault = func(what string, w http.ResponseWriter, _ *http.Request) bool {
			if what == "get" {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"error":{"code":"ResourceNotFound"}}`)
			}
			return what == "get"
		}
	})
	ahead.Add(int64(azureFresh))
	if _, err := a.Reach(t.Context(), c); ReasonOf(err) != ClusterGone {
		t.Errorf("deleted: %v", err)
	}
}

func TestAzureEndpoints(t *testing.T) {
	for _, tt := range []struct {
		public, private string
		endpoint        v1alpha1.AzureEndpoint
		want            string
	}{
		{"public.test", "private.test", "", "public.test"},
		{"", "private.test", "", "private.test"},
		{"public.test", "private.test", v1alpha1.EndpointPrivate, "private.test"},
		{"public.test", "", v1alpha1.EndpointPrivate, ""},
		{"", "private.test", v1alpha1.EndpointPublic, ""},
	} {
		emulated, a, _ := inAzure(t)
		c, _ := federated(t, emulated)
		c.Endpoint, emulated.FQDN, emulated.PrivateFQDN = tt.endpoint, tt.public, tt.private
		reached, err := a.Reach(t.Context(), c)
		if tt.want == "" {
			if ReasonOf(err) != Unreachable || !strings.Contains(err.Error(), "spec.cluster.azure.endpoint") {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(reached.Config().Host, "https://"+tt.want+":") {
			t.Errorf("%+v: %v, at %q", tt, err, reached.at.server)
		}
	}
}

// TestAzureKubeconfig: what Azure gives is checked as a member's own would be, and
// what it says of users has no effect.
func TestAzureKubeconfig(t *testing.T) {
	emulated, a, _ := inAzure(t)
	c, _ := federated(t, emulated)
	ran := filepath.Join(t.TempDir(), "ran")
	reached, err := uidOf(t, a, c)
	if err != nil {
		t.Fatal(err)
	}
	if config := reached.Config(); config.ExecProvider != nil || config.AuthProvider != nil || config.BearerToken != "" || config.BearerTokenFile != "" {
		t.Errorf("taken over from Azure's kubeconfig: %v", config)
	}
	harmless(t, reached.Config())
	for _, cluster := range []string{
		`{server: "https://h", insecure-skip-tls-verify: true}`, `{server: "http://h"}`, `{server: "https://h"}`,
		`{server: "https://h", certificate-authority: /etc/passwd}`, `{server: "https://h", proxy-url: "http://p"}`,
	} {
		emulated, a, _ := inAzure(t)
		c, _ := federated(t, emulated)
		emulated.Kubeconfig = `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: ` + cluster +
			`}], users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: ["` + ran + `"], interactiveMode: Never}}}]}`
		if _, err := uidOf(t, a, c); ReasonOf(err) != KubeconfigRefused {
			t.Errorf("%s: %v", cluster, err)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the kubeconfig ran")
	}
}

// TestAzureNobodyElse: without its own credentials an identity has none, whatever
// else this machine could log in with.
func TestAzureNobodyElse(t *testing.T) {
	emulated, a, _ := inAzure(t)
	t.Setenv("AZURE_CLIENT_SECRET", canary)
	t.Setenv("AZURE_CLIENT_ID", azuretest.Client)
	t.Setenv("AZURE_TENANT_ID", azuretest.Tenant)
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "")
	emulated.Secret = canary
	_, err := a.Reach(t.Context(), ManagedCluster{ResourceID: azuretest.ResourceID, Azure: v1alpha1.Azure{AzureLogin: v1alpha1.AzureLogin{Cloud: v1alpha1.AzureChina}}})
	if ReasonOf(err) != AzureLoginRefused || emulated.Calls("token")+emulated.Calls("imds") != 0 {
		t.Errorf("%v, %d tokens", err, emulated.Calls("token")+emulated.Calls("imds"))
	}
}
