package keyvault

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer is more than any answer that is asked for: a page of 25 items, or a
// secret of 25 KB.
const maxAnswer = 1 << 20

// wire is the way to one vault. It tells what happened to each call, learns the
// vault's time, and stops challenges that are not Key Vault's before a token is
// made for them.
type wire struct {
	next     http.RoundTripper
	host     string // of the vault: no page of a list leads elsewhere
	observe  func(op, code string)
	resource string // of the tokens that the vault may ask for; empty for any
	now      func() time.Time
	skew     atomic.Pointer[time.Duration]
}

type opKey struct{}

// withOp names the operation of the calls of a context.
func withOp(ctx context.Context, op string) context.Context {
	return context.WithValue(ctx, opKey{}, op)
}

func (t *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	// The service writes its port into the addresses of further pages.
	if strings.TrimSuffix(r.URL.Host, ":443") != strings.TrimSuffix(t.host, ":443") {
		return nil, &challengeError{"the vault leads to another host"}
	}
	op, _ := r.Context().Value(opKey{}).(string)
	response, err := t.next.RoundTrip(r)
	if err != nil {
		t.observe(op, "error")
		return nil, err
	}
	t.observe(op, strconv.Itoa(response.StatusCode))
	// The header has whole seconds: half of one is right on average.
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		skew := t.now().Sub(date.Add(time.Second / 2))
		t.skew.Store(&skew)
	}
	if response.StatusCode == http.StatusUnauthorized {
		if err := t.check(response.Header.Values("WWW-Authenticate")); err != nil {
			_ = response.Body.Close()
			return nil, err
		}
	}
	response.Body = &limited{ReadCloser: response.Body, left: maxAnswer}
	return response, nil
}

// challengeError is a challenge that is not Key Vault's, or another way to lure a
// token away.
type challengeError struct{ text string }

func (e *challengeError) Error() string { return e.text }

// NonRetriable tells the SDK that another try does not help.
func (*challengeError) NonRetriable() {}

var parameter = regexp.MustCompile(`(authorization|authorization_uri|resource|scope)="?([^", ]*)"?`)

// check refuses challenges that the SDK would stumble over, and those that ask for
// tokens of another service: whoever got one could use it there.
func (t *wire) check(challenges []string) error {
	given := map[string]string{}
	for _, challenge := range challenges {
		for _, found := range parameter.FindAllStringSubmatch(challenge, -1) {
			given[found[1]] = found[2]
		}
	}
	authority, err := url.Parse(given["authorization"])
	if err != nil || authority.Scheme != "https" || strings.Trim(authority.Path, "/") == "" {
		return &challengeError{"the challenge names no tenant"}
	}
	for _, name := range []string{"resource", "scope"} {
		asked := strings.TrimSuffix(strings.TrimSuffix(given[name], "/.default"), "/")
		if asked != "" && t.resource != "" && asked != t.resource {
			return &challengeError{"the challenge asks for tokens of another service"}
		}
	}
	return nil
}

// limited ends a body that is too long with an error.
type limited struct {
	io.ReadCloser
	left int64
}

var errTooLong = errors.New("the answer is too long")

func (l *limited) Read(into []byte) (int, error) {
	n, err := l.ReadCloser.Read(into)
	if l.left -= int64(n); l.left < 0 {
		return n, errTooLong
	}
	return n, err
}
