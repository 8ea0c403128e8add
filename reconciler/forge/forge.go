package forge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Kind is a product that hosts repositories and their reviews.
type Kind string

// The kinds. Forgejo is Gitea.
const (
	GitHub      Kind = "GitHub"
	GitLab      Kind = "GitLab"
	Gitea       Kind = "Gitea"
	AzureDevOps Kind = "AzureDevOps"
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{GitHub, GitLab, Gitea, AzureDevOps} }

// Target is a repository on a forge, and what of it is reviewed.
type Target struct {
	Forge Kind
	// API is the URL below which the forge answers: https://api.github.com,
	// https://gitlab.com/api/v4, https://HOST/api/v1 for Gitea, and the collection,
	// such as https://dev.azure.com/ORGANISATION, for Azure DevOps.
	API string
	// Repository is owner/name; for GitLab also deeper, or the project's number; for
	// Azure DevOps project/repository.
	Repository string
	// PullRequest is its number, in GitLab the merge request's; 0 without one.
	PullRequest int
	// Base and Head are what the pull request starts from and what it proposes:
	// commits or, where CI does not tell the commit, a remote branch as Base.
	Base, Head string
	// Run is the page of the CI job; empty if unknown.
	Run string
	// TokenVariable is the environment variable that holds the token.
	TokenVariable string
}

// Token lets its bearer in. It prints as nothing that would help.
type Token string

// String hides the token.
func (Token) String() string { return "[token]" }

// GoString hides the token.
func (Token) GoString() string { return "[token]" }

// MarshalText hides the token.
func (Token) MarshalText() ([]byte, error) { return []byte("[token]"), nil }

// Options of a client.
type Options struct {
	// Token of the account that writes.
	Token Token
	// CA is certificates, as PEM, that are trusted in place of the system's.
	CA []byte
	// Timeout of one request. Zero: 30 seconds.
	Timeout time.Duration
	// MaxWait is how long the forge may ask to wait before a request is made again.
	// Zero: a minute.
	MaxWait time.Duration
}

// Outcome is what a call did.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "Created"
	Updated   Outcome = "Updated"
	Unchanged Outcome = "Unchanged"
	None      Outcome = "None" // there was nothing, and nothing was made
)

// Client writes to one repository. It is safe for concurrent use.
type Client struct {
	target  Target
	wire    *wire
	dialect dialect
}

// dialect is what one kind of forge does in its own way.
type dialect interface {
	discussion
	checks
	pulls
	limits() limits
}

// New returns a client. It makes no request.
func New(t Target, o Options) (*Client, error) {
	base, err := apiURL(t.API)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(o.Token))
	switch {
	case token == "":
		return nil, fmt.Errorf("no token for %s: set %s", t.Forge, cmp.Or(t.TokenVariable, "one"))
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("the token has characters that no token has, such as a space or a line break: is it copied whole, and alone?")
	}
	transport, err := transport(o.CA)
	if err != nil {
		return nil, err
	}
	w := &wire{
		forge: t.Forge, base: base, token: token,
		timeout: cmp.Or(o.Timeout, 30*time.Second), maxWait: cmp.Or(o.MaxWait, time.Minute), wait: wait,
		maxAnswer: maxAnswer, client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}
	c := &Client{target: t, wire: w}
	c.dialect, err = dialectOf(t, w)
	return c, err
}

func dialectOf(t Target, w *wire) (dialect, error) {
	parts := strings.Split(t.Repository, "/")
	climbs := slices.ContainsFunc(parts, func(part string) bool { return part == "" || part == "." || part == ".." })
	if climbs || len(parts) != 2 && t.Forge != GitLab {
		return nil, fmt.Errorf("%q is no repository of %s: write %s", t.Repository, t.Forge, repositoryForm(t.Forge))
	}
	switch t.Forge {
	case GitHub:
		return newGitHub(w, parts[0], parts[1]), nil
	case Gitea:
		return newGitea(w, parts[0], parts[1]), nil
	case GitLab:
		return newGitLab(w, t.Repository), nil
	case AzureDevOps:
		return newAzure(w, parts[0], parts[1], t.PullRequest), nil
	}
	return nil, fmt.Errorf("%q is no forge: there are GitHub, GitLab, Gitea (also for Forgejo) and AzureDevOps", t.Forge)
}

func repositoryForm(kind Kind) string {
	switch kind {
	case AzureDevOps:
		return "project/repository"
	case GitLab:
		return "group/project, or the project's number"
	}
	return "owner/name"
}

// apiURL reads the address of an API and refuses what would show the token on the way.
func apiURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	switch {
	case err != nil:
		return nil, errors.New("the forge's API URL does not parse: write it as https://HOST/PATH")
	case u.User != nil:
		return nil, errors.New("the forge's API URL has a user in it: take it out, the token is sent in a header")
	case u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, fmt.Errorf("%q is no URL of a forge's API: write it as https://HOST/PATH", address)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the forge's API URL %q has more than a path after the host: take it out", u.Redacted())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("the token would be sent to %q for everyone on the way to read: use https", u.Host)
	}
	return u, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}

func transport(ca []byte) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 2
	if len(ca) == 0 {
		return t, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the forge's CA holds no certificate: give PEM, beginning with -----BEGIN CERTIFICATE-----")
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// isCommit says whether a string is the whole hash of a commit.
func isCommit(hash string) bool {
	raw, err := hex.DecodeString(hash)
	return err == nil && (len(raw) == 20 || len(raw) == 32)
}
