package peering

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Asking makes a token of an account: the create of serviceaccounts/token.
type Asking func(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)

// Request is for a credential.
type Request struct {
	// Peer to read, and where.
	Peer     string
	Endpoint Endpoint
	// Namespace of the account.
	Namespace string
	// Anchor that the token is bound to, in the same namespace, and its uid: another
	// Secret of that name is refused.
	Anchor    string
	AnchorUID types.UID
	// Lifetime to ask for; the peer's API server may give less.
	Lifetime time.Duration
	// Before is what the reader has; nil for none. Its kubeconfig stays if it leads
	// there still.
	Before *Credential
}

// Mint makes a credential in the peer. The audience is the peer's own API server,
// whatever it calls itself. An error wraps that of ask and tells no token.
func Mint(ctx context.Context, ask Asking, r Request) (Credential, error) {
	seconds := int64(r.Lifetime / time.Second)
	made, err := ask(ctx, r.Namespace, Account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: &seconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: r.Anchor, UID: r.AnchorUID},
		},
	})
	if err != nil {
		return Credential{}, fmt.Errorf("make a token of the account %s/%s: %w", r.Namespace, Account, err)
	}
	c := Credential{Peer: r.Peer, Endpoint: r.Endpoint, Token: NewToken(made.Status.Token)}
	if c.Claims, err = claimsOf(c.Token); err != nil {
		return Credential{}, fmt.Errorf("make a token of the account %s/%s: %w", r.Namespace, Account, err)
	}
	if c.Account != Account || c.Namespace != r.Namespace || c.Anchor != r.Anchor || c.AnchorUID != r.AnchorUID {
		return Credential{}, errors.New("the API server gave a token of another account, or one that is not bound as asked")
	}
	c.First = c.Token
	if r.Before != nil && r.Before.Endpoint.Equal(r.Endpoint) {
		c.First = r.Before.First
	}
	return c, nil
}

// Status is the record of the credential on the hub, which does not tell what it is.
func (c Credential) Status() *v1alpha1.PeerCredentialStatus {
	return &v1alpha1.PeerCredentialStatus{
		IssuedAt: metav1.NewTime(c.IssuedAt), ExpiresAt: metav1.NewTime(c.ExpiresAt), Digest: Digest(c.Data(), []byte(c.Token.Reveal())), Anchor: c.Anchor,
	}
}
