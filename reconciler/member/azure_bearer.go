package member

import (
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
)

// bearer puts the identity's token on every call to an AKS cluster.
type bearer struct {
	cluster *managedCluster
	next    http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (b *bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.cluster.login.Token(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	response, err := b.send(r, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized || (r.Body != nil && r.GetBody == nil) {
		return response, err
	}
	// Once: the token may have been revoked, or the server asks for more claims.
	another, err := b.cluster.login.Again(r.Context(), token, claimsOf(response))
	if err != nil {
		return response, nil //nolint:nilerr // the server's refusal is the answer, and says more
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	retry := r.Clone(r.Context())
	if r.GetBody != nil {
		if retry.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return b.send(retry, another)
}

func (b *bearer) send(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := b.next.RoundTrip(r)
	if err != nil && r.Context().Err() == nil {
		b.cluster.suspect.Store(true) // it may be elsewhere now, or have another CA
	}
	return response, err
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

var claims = regexp.MustCompile(`claims="([A-Za-z0-9+/=_-]+)"`)

// claimsOf are the claims that a refusal asks for, as continuous access
// evaluation has it; empty for none.
func claimsOf(r *http.Response) string {
	for _, challenge := range r.Header.Values("WWW-Authenticate") {
		if found := claims.FindStringSubmatch(challenge); found != nil {
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding} {
				if raw, err := encoding.DecodeString(found[1]); err == nil {
					return string(raw)
				}
			}
		}
	}
	return ""
}
