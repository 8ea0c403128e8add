package apisim_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	tokenOf = "/api/v1/namespaces/tokens/serviceaccounts/reader/token"
	anchor  = "/api/v1/namespaces/tokens/secrets/anchor"
)

func tokenRequest(bound string) string {
	return fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600,"boundObjectRef":%s}}`, bound)
}

// tokenClaims are those that are the same for every API server.
type tokenClaims struct {
	Audience   []string `json:"aud"`
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	IssuedAt   int64    `json:"iat"`
	Expires    int64    `json:"exp"`
	Kubernetes struct {
		Namespace      string            `json:"namespace"`
		ServiceAccount map[string]string `json:"serviceaccount"`
		Secret         map[string]string `json:"secret"`
	} `json:"kubernetes.io"`
}

func TestTokensAgree(t *testing.T) {
	t.Parallel()
	said := map[string][]string{}
	for _, which := range []string{"real", "played"} {
		s := serverOf(t, which)
		tell := func(format string, args ...any) { said[which] = append(said[which], fmt.Sprintf(format, args...)) }
		for _, o := range []step{
			{path: "/api/v1/namespaces/tokens", body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"tokens"}}`},
			{path: "/api/v1/namespaces/tokens/serviceaccounts/reader", body: `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"reader"}}`},
			{path: anchor, body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"anchor"}}`},
		} {
			o.method, o.contentType, o.path = "PATCH", applyPatch, o.path+"?fieldManager=isthmus"
			s.do(t, o)
		}
		for _, refused := range []step{
			{why: "an account that is not there", path: strings.Replace(tokenOf, "reader", "nobody", 1), body: tokenRequest("null")},
			{why: "a Secret that is not there", path: tokenOf, body: tokenRequest(`{"apiVersion":"v1","kind":"Secret","name":"none"}`)},
			{why: "another Secret's uid", path: tokenOf, body: tokenRequest(`{"apiVersion":"v1","kind":"Secret","name":"anchor","uid":"11111111-1111-1111-1111-111111111111"}`)},
		} {
			refused.method, refused.accept = "POST", "application/json"
			got := s.do(t, refused)
			tell("%s: %d %s", refused.why, got.Code, got.Reason)
		}

		claims, token := s.token(t)
		uids := claims.Kubernetes.ServiceAccount["uid"] == string(s.seen["reader"].UID) && claims.Kubernetes.Secret["uid"] == string(s.seen["anchor"].UID)
		delete(claims.Kubernetes.ServiceAccount, "uid")
		delete(claims.Kubernetes.Secret, "uid")
		tell("uids are those of the objects: %t, life: %ds", uids, claims.Expires-claims.IssuedAt)
		claims.IssuedAt, claims.Expires = 0, 0
		tell("%+v", claims)
		tell("with it: %d", codeWith(t, which, token))
		tell("with another: %d", codeWith(t, which, token+"x"))
		s.do(t, step{method: "DELETE", path: anchor})
		// A real API server keeps what it knows of a token for ten seconds.
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && codeWith(t, which, token) == http.StatusOK; {
			time.Sleep(100 * time.Millisecond)
		}
		tell("with it when the Secret is gone: %d", codeWith(t, which, token))
	}
	if diff := cmp.Diff(said["real"], said["played"]); diff != "" {
		t.Errorf("tokens (-real +played):\n%s", diff)
	}
	if n := len(said["real"]); n != 8 {
		t.Errorf("%d answers, want 8: %q", n, said["real"])
	}
}

// token asks for one that is bound to the anchor.
func (s *server) token(t *testing.T) (claims tokenClaims, token string) {
	t.Helper()
	response := s.send(t, step{method: "POST", path: tokenOf, accept: "application/json",
		body: tokenRequest(`{"apiVersion":"v1","kind":"Secret","name":"anchor","uid":"UID(anchor)"}`)})
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusCreated {
		t.Fatalf("%s, %v", response.Status, err)
	}
	var made authenticationv1.TokenRequest
	if err := json.Unmarshal(body, &made); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(made.Status.Token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token has %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	if at := metav1.Unix(claims.Expires, 0); !at.Equal(&made.Status.ExpirationTimestamp) {
		t.Errorf("the token says that it expires at %s, the answer %s", at, made.Status.ExpirationTimestamp)
	}
	return claims, made.Status.Token
}

// codeWith is what a call with a token, and nothing else, is answered.
func codeWith(t *testing.T, which, token string) int {
	t.Helper()
	config := rest.AnonymousClientConfig(configOf(t, which))
	config.BearerToken = token
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/api", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
