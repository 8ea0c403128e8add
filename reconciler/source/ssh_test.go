package source_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// TestSSH: what can be wrong with an ssh server or with the Secret for it says
// what to do, and shows no key.
func TestSSH(t *testing.T) {
	_, bare := newRemote(t)
	head := history(t, bare, 2)[1]
	identity, client := newKey(t, "s3same-canary")
	plain, _ := newKey(t, "")
	server := serveSSH(t, client.PublicKey())
	other := serveSSH(t, client.PublicKey())
	good := source.Credentials{Identity: identity, Password: "s3same-canary", KnownHosts: server.knownHosts()}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("SSH_AUTH_SOCK", "/nowhere")
	for _, tt := range []struct {
		reason string
		path   string
		change func(*source.Credentials)
		want   source.Reason
		hint   string
	}{
		{"all right", bare, func(*source.Credentials) {}, "", ""},
		{"another host key", bare, func(c *source.Credentials) {
			c.KnownHosts = []byte(strings.Replace(string(other.knownHosts()), other.address[strings.LastIndex(other.address, ":"):], server.address[strings.LastIndex(server.address, ":"):], 1))
		}, source.ReasonHostKeyMismatch, "somebody may be in between"},
		{"an unknown host", bare, func(c *source.Credentials) { c.KnownHosts = other.knownHosts() }, source.ReasonHostKeyUnknown, "ssh-keyscan"},
		{"no known_hosts", bare, func(c *source.Credentials) { c.KnownHosts = []byte("\n") }, source.ReasonInvalidSecret, "ssh-keyscan"},
		{"known_hosts that is none", bare, func(c *source.Credentials) { c.KnownHosts = []byte("what is this") }, source.ReasonInvalidSecret, "one line per key"},
		{"a key that the server does not know", bare, func(c *source.Credentials) { c.Identity = plain }, source.ReasonCredentialsRejected, "read access"},
		{"no key", bare, func(c *source.Credentials) { c.Identity = nil }, source.ReasonInvalidSecret, "private key"},
		{"no passphrase", bare, func(c *source.Credentials) { c.Password = "" }, source.ReasonInvalidSecret, "under the key password"},
		{"another passphrase", bare, func(c *source.Credentials) { c.Password = "wr0ng-canary" }, source.ReasonInvalidSecret, "ssh-keygen"},
		{"a key that is none", bare, func(c *source.Credentials) { c.Identity = []byte("canary") }, source.ReasonInvalidSecret, "ssh-keygen"},
		{"no repository", "/nowhere.git", func(*source.Credentials) {}, source.ReasonNotFound, "check spec.url"},
		{"a path that would be a command", "/x'; touch pwned; '", func(*source.Credentials) {}, source.ReasonNotFound, "check spec.url"},
	} {
		credentials := good
		tt.change(&credentials)
		repository := open(t, t.TempDir(), source.Options{URL: "ssh://git@" + server.address + tt.path, Credentials: credentials})
		found, err := repository.Fetch(t.Context(), "")
		if tt.want == "" {
			if err != nil || found.Commit != head {
				t.Errorf("%s: %v, %v", tt.reason, found, err)
			}
			continue
		}
		if err == nil || source.ReasonOf(err) != tt.want || !strings.Contains(source.Explain(err), tt.hint) {
			t.Errorf("%s: error %v (%s), want %s: …%s", tt.reason, err, source.ReasonOf(err), tt.want, tt.hint)
		}
		if err != nil && strings.Contains(source.Explain(err), "canary") {
			t.Errorf("%s: the error shows a secret: %v", tt.reason, err)
		}
	}
}
