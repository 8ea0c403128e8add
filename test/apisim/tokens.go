package apisim

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// audience of tokens for which none is asked, as a real API server has it.
	audience = "https://kubernetes.default.svc.cluster.local"
	// defaultLifetime of a token, in seconds.
	defaultLifetime = int64(time.Hour / time.Second)
)

var (
	builtinAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	builtinSecrets  = schema.GroupResource{Resource: "secrets"}
	builtinPods     = schema.GroupResource{Resource: "pods"}
)

// accountToken is a token of a ServiceAccount. It is good until it expires, or
// what it is bound to is gone.
type accountToken struct {
	account, bound     types.NamespacedName
	accountUID, uid    types.UID
	issuedAt, expireAt int64
}

// issue makes one of an account, bound to a Secret if that is asked. Its claims
// are those of a real one that isthmus reads; its signature is chance.
func (m *member) issue(w http.ResponseWriter, r request, body []byte) error {
	var asked authenticationv1.TokenRequest
	if err := readJSON(body, &asked); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	account := m.objects[builtinAccounts][r.identity]
	if account == nil {
		return apierrors.NewNotFound(builtinAccounts, r.identity.Name)
	}
	made := accountToken{account: r.identity, accountUID: account.uid, issuedAt: now()}
	lifetime := defaultLifetime
	if asked.Spec.ExpirationSeconds != nil {
		lifetime = *asked.Spec.ExpirationSeconds
	}
	made.expireAt = made.issuedAt + lifetime
	if to := asked.Spec.BoundObjectRef; to != nil {
		if to.Kind != "Secret" {
			return apierrors.NewBadRequest("only tokens that are bound to Secrets are played")
		}
		made.bound = types.NamespacedName{Namespace: r.identity.Namespace, Name: to.Name}
		secret := m.objects[builtinSecrets][made.bound]
		if secret == nil {
			return apierrors.NewNotFound(builtinSecrets, to.Name)
		}
		if to.UID != "" && to.UID != secret.uid {
			return apierrors.NewConflict(builtinSecrets, to.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record", to.UID))
		}
		made.uid = secret.uid
	}
	if len(asked.Spec.Audiences) == 0 {
		asked.Spec.Audiences = []string{audience}
	}
	text := made.text(asked.Spec.Audiences)
	if m.tokens == nil {
		m.tokens = map[string]accountToken{}
	}
	m.tokens[text] = made
	asked.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	asked.Name, asked.Namespace = r.identity.Name, r.identity.Namespace
	asked.Spec.ExpirationSeconds = &lifetime
	asked.Status = authenticationv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.Unix(made.expireAt, 0)}
	write(w, http.StatusCreated, encode(asked))
	return nil
}

func (t accountToken) text(audiences []string) string {
	claims := map[string]any{
		"namespace":      t.account.Namespace,
		"serviceaccount": map[string]any{"name": t.account.Name, "uid": t.accountUID},
	}
	if t.uid != "" {
		claims["secret"] = map[string]any{"name": t.bound.Name, "uid": t.uid}
	}
	part := base64.RawURLEncoding.EncodeToString
	return strings.Join([]string{
		part([]byte(`{"alg":"none"}`)),
		part(encode(map[string]any{
			"aud": audiences, "iss": audience, "iat": t.issuedAt, "nbf": t.issuedAt, "exp": t.expireAt, "jti": rand.Text(),
			"sub": "system:serviceaccount:" + t.account.Namespace + ":" + t.account.Name, "kubernetes.io": claims,
		})),
		part([]byte(rand.Text())),
	}, ".")
}

// admits says whether a call has the member's own token, or one of an account
// that is still good.
func (m *member) admits(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == m.token {
		return ok
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tokens[token]
	if !ok || now() >= t.expireAt {
		return false
	}
	account, secret := m.objects[builtinAccounts][t.account], m.objects[builtinSecrets][t.bound]
	return account != nil && account.uid == t.accountUID && (t.uid == "" || secret != nil && secret.uid == t.uid)
}
