package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"io"
	"net/http"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// check reads a request to its end and reports whether its sender knows the
// secret. The zero hook lets nobody in and takes as long.
func (h Hook) check(header http.Header, body io.Reader) (bool, error) {
	mac := hmac.New(sha256.New, h.Token)
	if _, err := io.Copy(mac, body); err != nil {
		return false, err
	}
	signed := mac.Sum(nil)
	passed := false
	switch h.Type {
	case v1alpha1.WebhookGitHub:
		passed = sameSignature(header, "X-Hub-Signature-256", "sha256=", signed)
	case v1alpha1.WebhookGitea:
		passed = sameSignature(header, "X-Gitea-Signature", "", signed)
	case v1alpha1.WebhookBitbucket:
		passed = sameSignature(header, "X-Hub-Signature", "sha256=", signed)
	case v1alpha1.WebhookGitLab:
		passed = sameToken(one(header, "X-Gitlab-Token"), h.Token)
	case v1alpha1.WebhookAzureDevOps:
		_, password, _ := (&http.Request{Header: http.Header{"Authorization": {one(header, "Authorization")}}}).BasicAuth()
		passed = sameToken(password, h.Token)
	}
	return passed && len(h.Token) > 0, nil
}

func sameSignature(header http.Header, name, before string, want []byte) bool {
	given, ok := strings.CutPrefix(one(header, name), before)
	got, err := hex.DecodeString(given)
	return ok && err == nil && hmac.Equal(got, want)
}

// sameToken compares hashes: the time it takes does not tell the token's length.
func sameToken(given string, want []byte) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256(want)
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// one returns a header that is there once: of two, a proxy may have checked the
// other.
func one(header http.Header, name string) string {
	if values := header.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}
