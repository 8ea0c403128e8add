package source_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// TestHTTPS: credentials and certificates against the real git behind TLS.
func TestHTTPS(t *testing.T) {
	_, bare := newRemote(t)
	head := history(t, bare, 2)[1]
	bearer := func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer t0ken-canary" }
	byPassword := serveGit(t, filepath.Dir(bare), httptest.NewTLSServer, basic("bot", "s3cret-canary"))
	byToken := serveGit(t, filepath.Dir(bare), httptest.NewTLSServer, bearer)
	for _, tt := range []struct {
		reason      string
		server      *gitServer
		credentials source.Credentials
		want        source.Reason
	}{
		{"a password", byPassword, source.Credentials{Username: "bot", Password: "s3cret-canary", CA: ca(byPassword.Server)}, ""},
		{"a token", byToken, source.Credentials{BearerToken: "t0ken-canary", CA: ca(byToken.Server)}, ""},
		{"another password", byPassword, source.Credentials{Username: "bot", Password: "wr0ng-canary", CA: ca(byPassword.Server)}, source.ReasonCredentialsRejected},
		{"no credentials", byToken, source.Credentials{CA: ca(byToken.Server)}, source.ReasonCredentialsRejected},
		{"a certificate of nobody we know", byToken, source.Credentials{BearerToken: "t0ken-canary"}, source.ReasonUnreachable},
	} {
		found, err := open(t, t.TempDir(), source.Options{URL: tt.server.URL + "/fleet.git", Credentials: tt.credentials}).Fetch(t.Context(), "")
		if tt.want == "" && (err != nil || found.Commit != head) {
			t.Errorf("%s: %v, %v", tt.reason, found, err)
		}
		if tt.want != "" && (err == nil || source.ReasonOf(err) != tt.want) {
			t.Errorf("%s: %v, want %s", tt.reason, err, tt.want)
		}
		if err != nil && strings.Contains(source.Explain(err), "canary") {
			t.Errorf("%s: the error shows a secret: %v", tt.reason, err)
		}
	}
}

// TestProxy: what goes to a server goes through the proxy, which needs its own
// credentials and sees none of the server's.
func TestProxy(t *testing.T) {
	_, bare := newRemote(t)
	head := history(t, bare, 2)[1]
	server := serveGit(t, filepath.Dir(bare), httptest.NewServer, nil)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var through atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("p:pr0xy-canary")) {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		through.Add(1)
		r.URL.Host = target.Host
		r.RequestURI = ""
		r.Header.Del("Proxy-Authorization")
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
		_ = response.Write(&onlyBody{w: w})
	}))
	t.Cleanup(proxy.Close)
	// The name is one that only the proxy can resolve.
	options := source.Options{URL: "http://git.internal.example/fleet.git", Proxy: &source.Proxy{Address: proxy.URL, Username: "p", Password: "pr0xy-canary"}}
	if found := look(t, t.TempDir(), options, ""); found.Commit != head || through.Load() < 2 {
		t.Errorf("%v, %d requests through the proxy", found, through.Load())
	}
	options.Proxy = &source.Proxy{Address: proxy.URL, Username: "p", Password: "wr0ng-canary"}
	_, err = open(t, t.TempDir(), options).Fetch(t.Context(), "")
	if err == nil || strings.Contains(source.Explain(err), "canary") {
		t.Errorf("wrong password for the proxy: %v", err)
	}
}

// onlyBody takes a response in its wire form and passes the body on.
type onlyBody struct {
	w    http.ResponseWriter
	past bool
	head []byte
}

func (o *onlyBody) Write(p []byte) (int, error) {
	if o.past {
		return o.w.Write(p)
	}
	o.head = append(o.head, p...)
	if _, body, found := strings.Cut(string(o.head), "\r\n\r\n"); found {
		o.past = true
		_, err := o.w.Write([]byte(body))
		return len(p), err
	}
	return len(p), nil
}

// TestRedirects: credentials never reach another host, nor a connection in the
// clear, wherever a server sends us.
func TestRedirects(t *testing.T) {
	_, bare := newRemote(t)
	history(t, bare, 2)
	var seen atomic.Value
	seen.Store("")
	other := serveGit(t, filepath.Dir(bare), httptest.NewServer, func(r *http.Request) bool {
		if value := r.Header.Get("Authorization") + r.Header.Get("Cookie"); value != "" {
			seen.Store(value)
		}
		return true
	})
	for _, credentials := range []source.Credentials{
		{Username: "bot", Password: "s3cret-canary"}, {BearerToken: "t0ken-canary"},
	} {
		for name, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
			server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusFound)
			}))
			t.Cleanup(server.Close)
			if name == "https" {
				credentials.CA = ca(server)
			}
			_, err := open(t, t.TempDir(), source.Options{URL: server.URL + "/fleet.git", Credentials: credentials}).Fetch(t.Context(), "")
			if name == "https" && err == nil {
				t.Error("followed from https to http")
			}
			if got := seen.Load(); got != "" {
				t.Errorf("%s: the other host got %q", name, got)
			}
		}
	}
	before := other.packs.Load()
	onlyPacks := serveGit(t, filepath.Dir(bare), httptest.NewServer, nil)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return
		}
		onlyPacks.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	if _, err := open(t, t.TempDir(), source.Options{URL: front.URL + "/fleet.git"}).Fetch(t.Context(), ""); err == nil || other.packs.Load() != before {
		t.Errorf("objects were asked for elsewhere than references: %v", err)
	}
}

// TestOptions: what is refused before anything is sent.
func TestOptions(t *testing.T) {
	secret := source.Credentials{Username: "bot", Password: "s3cret-canary"}
	for _, tt := range []struct {
		reason  string
		options source.Options
		want    source.Reason
	}{
		{"git's own protocol, which nobody signs", source.Options{URL: "git://example.com/fleet.git"}, source.ReasonInvalidURL},
		{"a form that Git takes for ssh", source.Options{URL: "git@example.com:fleet.git"}, source.ReasonInvalidURL},
		{"a helper program", source.Options{URL: "ext::sh -c id"}, source.ReasonInvalidURL},
		{"no host", source.Options{URL: "https:///fleet.git"}, source.ReasonInvalidURL},
		{"a query", source.Options{URL: "https://example.com/fleet.git?token=canary"}, source.ReasonInvalidURL},
		{"a password for ssh", source.Options{URL: "ssh://git:canary@example.com/fleet.git"}, source.ReasonInvalidURL},
		{"a password in the clear", source.Options{URL: "http://example.com/fleet.git", Credentials: secret}, source.ReasonInvalidURL},
		{"a token in the clear", source.Options{URL: "http://example.com/fleet.git", Credentials: source.Credentials{BearerToken: "canary"}}, source.ReasonInvalidURL},
		{"a CA that is none", source.Options{URL: "https://example.com/fleet.git", Credentials: source.Credentials{CA: []byte("canary")}}, source.ReasonInvalidSecret},
		{"a proxy for ssh", source.Options{URL: "ssh://example.com/fleet.git", Proxy: &source.Proxy{Address: "http://proxy"}}, source.ReasonInvalidURL},
		{"a proxy that is none", source.Options{URL: "https://example.com/fleet.git", Proxy: &source.Proxy{Address: "proxy-canary:80"}}, source.ReasonInvalidSecret},
	} {
		_, err := source.Open(t.TempDir(), tt.options)
		if err == nil || source.ReasonOf(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.reason, err, tt.want)
		}
		if err != nil && strings.Contains(source.Explain(err), "canary") {
			t.Errorf("%s: the error shows a secret: %v", tt.reason, err)
		}
	}
	for _, url := range []string{"https://example.com/fleet.git", "http://127.0.0.1/fleet.git", "ssh://git@example.com/fleet.git", "file:///srv/fleet.git"} {
		if _, err := source.Open(t.TempDir(), source.Options{URL: url, Credentials: secret}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
