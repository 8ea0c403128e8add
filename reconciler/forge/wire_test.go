package forge_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

// noSecret fails a test in whose text the token is, in a form that it is sent in.
func noSecret(t *testing.T, text string) {
	t.Helper()
	token := string(forgetest.Bot.Token)
	for _, secret := range []string{token, base64.StdEncoding.EncodeToString([]byte(":" + token)), base64.StdEncoding.EncodeToString([]byte(token))} {
		if strings.Contains(text, secret) {
			t.Errorf("the token is in %q", text)
		}
	}
}

// TestPassingFaults: a forge that is busy, away or breaks off is asked again, as
// late as it says; the comment is there once.
func TestPassingFaults(t *testing.T) {
	answer := func(code int, header ...string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	forges(t, func(t *testing.T, _ *forgetest.Server) {
		kind := forge.Kind(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
		for _, tt := range []struct {
			reason string
			fault  func(http.ResponseWriter, *http.Request)
			// least is how long is waited before the call is made again.
			least time.Duration
			reads bool // writes are left alone
		}{
			{"500", answer(500), time.Second, false},
			{"502 of a proxy", answer(502), time.Second, false},
			{"503 with Retry-After", answer(503, "Retry-After", "7"), 7 * time.Second, false},
			{"429 with Retry-After", answer(429, "Retry-After", "9"), 9 * time.Second, false},
			{"429 without", answer(429), time.Second, false},
			{"429 until a time", answer(429, "Retry-After", "Fri, 27 Nov 2026 22:00:30 GMT", "Date", "Fri, 27 Nov 2026 22:00:00 GMT"), 30 * time.Second, false},
			{
				"GitHub's limit by the hour",
				answer(403, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", strconv.FormatInt(time.Date(2026, 11, 27, 22, 0, 20, 0, time.UTC).Unix(), 10), "Date", "Fri, 27 Nov 2026 22:00:00 GMT"),
				20 * time.Second, false,
			},
			{"GitHub's second limit", answer(403, "Retry-After", "5"), 5 * time.Second, false},
			{"the connection breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, time.Second, false},
			{"an answer that breaks off", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				fmt.Fprint(w, " ")
			}, time.Second, true},
			{"an answer that is empty, and whole for HTTP", answer(200), time.Second, true},
		} {
			s := forgetest.Start(t, kind)
			s.Say(forgetest.Human, "hello")
			hit := map[string]bool{}
			s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				call := r.Method + " " + r.URL.EscapedPath()
				if hit[call] || tt.reads && r.Method != http.MethodGet {
					return false
				}
				hit[call] = true
				tt.fault(w, r)
				return true
			}
			var waits []time.Duration
			c := client(t, s, &waits)
			for _, body := range []string{"first", "second"} {
				if _, err := c.Comment(t.Context(), forgetest.PullRequest, marker, body); err != nil {
					t.Errorf("%s: %v", tt.reason, err)
				}
			}
			if _, err := c.Status(t.Context(), forgetest.Head, forge.Status{Context: "isthmus/prod", State: forge.Success}); err != nil {
				t.Errorf("%s: %v", tt.reason, err)
			}
			if diff := cmp.Diff([]string{"maintainer: hello", "isthmus-bot: " + marker + "\nsecond"}, said(s)); diff != "" {
				t.Errorf("%s: comments (-want +got):\n%s", tt.reason, diff)
			}
			if len(s.Statuses()) != 1 {
				t.Errorf("%s: statuses %v", tt.reason, s.Statuses())
			}
			if len(waits) == 0 {
				t.Errorf("%s: nothing was waited for", tt.reason)
			}
			for _, d := range waits {
				if d < tt.least || d > tt.least+time.Minute {
					t.Errorf("%s: waited %s, want at least %s", tt.reason, d, tt.least)
				}
			}
		}
	})
}

// TestLastingFaults: a forge that stays away is given up, with an error that says
// what was being done; and one that asks for too long a wait is not waited for.
func TestLastingFaults(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		for _, tt := range []struct {
			reason string
			fault  func(http.ResponseWriter)
			calls  int
			want   string
		}{
			{"502", func(w http.ResponseWriter) { w.WriteHeader(502) }, 4, "read whose token it is: 502 bad gateway"},
			{"429 for an hour", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "3600"); w.WriteHeader(429) }, 1, "it asks to wait for 1h0m0s"},
			{"429 for ever", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "99999999999999999999"); w.WriteHeader(429) }, 4, "it limits how much it is asked"},
			{"no answer", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 4, "read whose token it is: "},
			{"a page to sign in", func(w http.ResponseWriter) { fmt.Fprint(w, "<!DOCTYPE html><title>Sign in</title>") }, 1, "is no JSON: is the API URL right?"},
			{"a page to sign in, as Azure DevOps has it", func(w http.ResponseWriter) { w.WriteHeader(203); fmt.Fprint(w, "<html>") }, 1, "the token is not known"},
			{"another kind of JSON", func(w http.ResponseWriter) { fmt.Fprint(w, `["a"]`) }, 1, "is no JSON: is the API URL right?"},
			{"JSON that does not say who", func(w http.ResponseWriter) { fmt.Fprint(w, `{"ok": true}`) }, 1, "can't be told from another's"},
		} {
			before := len(s.Calls())
			s.Fault = func(w http.ResponseWriter, _ *http.Request, _ int) bool { tt.fault(w); return true }
			_, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "x")
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), string(s.Kind)+": read whose token it is: ") {
				t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
			}
			if n := len(s.Calls()) - before; n != tt.calls {
				t.Errorf("%s: asked %d times, want %d", tt.reason, n, tt.calls)
			}
			noSecret(t, fmt.Sprint(err))
		}
	})
}

// TestSlow: an answer that takes for ever is given up, and so is the work when its
// context ends.
func TestSlow(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			fmt.Fprint(w, `{"id": `)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}
		c, err := forge.New(s.Target(), forge.Options{Token: forgetest.Bot.Token, CA: s.CA(), Timeout: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		waits := 0
		c.Waits(func(time.Duration) { waits++ })
		if _, err := c.Comment(t.Context(), forgetest.PullRequest, marker, "x"); err == nil || !strings.Contains(err.Error(), "no whole answer in time") {
			t.Errorf("error %v", err)
		}
		if waits != 3 {
			t.Errorf("waited %d times to ask again", waits)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("the job was called off")
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			cancel(stop)
			<-r.Context().Done()
			return true
		}
		if _, err := client(t, s).Comment(ctx, forgetest.PullRequest, marker, "x"); !errors.Is(err, stop) {
			t.Errorf("error %v, want %v", err, stop)
		}
	})
}

// TestLargeAnswer: no answer is read for ever.
func TestLargeAnswer(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		c.MaxAnswer(1 << 16)
		s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if !strings.HasSuffix(r.URL.Path, "/comments") && !strings.HasSuffix(r.URL.Path, "/notes") && !strings.HasSuffix(r.URL.Path, "/threads") {
				return false
			}
			fmt.Fprint(w, map[bool]string{true: `{"value": `}[s.Kind == forge.AzureDevOps]+`[`)
			for {
				if _, err := fmt.Fprint(w, `{"id": 1, "body": "`, strings.Repeat("x", 1000), `"},`); err != nil {
					return true
				}
			}
		}
		_, err := c.Comment(t.Context(), forgetest.PullRequest, marker, "x")
		if err == nil || !strings.Contains(err.Error(), "larger than any that makes sense") {
			t.Errorf("error %v", err)
		}
		if n := len(s.Calls()); n != 2 {
			t.Errorf("asked %d times: %q", n, s.Calls())
		}
	})
}

// TestRefused: an error names what the token lacks, and repeats what the forge
// said on one harmless line.
func TestRefused(t *testing.T) {
	needs := map[forge.Kind][2]string{
		forge.GitHub:      {"pull-requests: write", "statuses: write"},
		forge.Gitea:       {"write:issue", "write:repository"},
		forge.GitLab:      {"scope api", "scope api"},
		forge.AzureDevOps: {"Contribute to pull requests", "Code (status)"},
	}
	hostile := fmt.Sprintf(`{"message": "no \u001b[2J\nway %s %s", "errors": [{"code": "x"}], "pad": "%s"}`,
		forgetest.Bot.Token, base64.StdEncoding.EncodeToString([]byte(":"+string(forgetest.Bot.Token))), strings.Repeat("y", 1000))
	forges(t, func(t *testing.T, s *forgetest.Server) {
		for _, status := range []int{400, 401, 403, 404, 410, 422} {
			for _, write := range []bool{false, true} {
				s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if strings.HasSuffix(r.URL.Path, "/user") || strings.HasSuffix(r.URL.Path, "/connectionData") || (r.Method != http.MethodGet) != write {
						return false
					}
					w.WriteHeader(status)
					fmt.Fprint(w, hostile)
					return true
				}
				c := client(t, s)
				_, commentErr := c.Comment(t.Context(), forgetest.PullRequest, marker, "x")
				_, statusErr := c.Status(t.Context(), forgetest.Head, forge.Status{Context: "isthmus/prod", State: forge.Success})
				for i, err := range []error{commentErr, statusErr} {
					var refused *forge.Error
					if !errors.As(err, &refused) || refused.Status != status || refused.Forge != s.Kind {
						t.Errorf("%d (write %t): error %v", status, write, err)
						continue
					}
					text := err.Error()
					noSecret(t, text)
					if strings.ContainsAny(text, "\n\x1b") || len(text) > 1000 || !strings.Contains(text, "no [2J way [token]") {
						t.Errorf("%d: not a line to read: %q", status, text)
					}
					if wants := status == 401 || status == 403 || status == 404; wants && !strings.Contains(text, needs[s.Kind][i]) {
						t.Errorf("%d: the error does not name %q: %s", status, needs[s.Kind][i], text)
					}
				}
			}
		}
		if n := len(s.Comments()) + len(s.Statuses()); n != 0 {
			t.Errorf("%d things were written", n)
		}
	})
}

// TestReadOnly: a job of a fork's pull request may look and not write.
func TestReadOnly(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.ReadOnly = true
		_, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "x")
		var refused *forge.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || refused.Hint == "" {
			t.Errorf("error %v", err)
		}
		if n := len(s.Writes()); n != 1 {
			t.Errorf("%d writes tried: %q", n, s.Writes())
		}
	})
}

// TestRedirects: a repository that was renamed is found, and no request goes to
// another host, nor becomes another one.
func TestRedirects(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		var elsewhere atomic.Int32
		other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
		defer other.Close()

		for _, code := range []int{301, 302, 303, 307, 308} {
			s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				http.Redirect(w, r, other.URL+r.URL.Path+"?token="+string(forgetest.Bot.Token), code)
				return true
			}
			_, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "x")
			if err == nil || !strings.Contains(err.Error(), "name it in the API URL") || !strings.Contains(err.Error(), other.URL) {
				t.Errorf("%d to another host: %v", code, err)
			}
			noSecret(t, fmt.Sprint(err))
			// The same host without TLS would show the token.
			s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				http.Redirect(w, r, "http://"+r.Host+r.URL.Path, code)
				return true
			}
			if _, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "x"); err == nil {
				t.Errorf("%d to http was followed", code)
			}
		}
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d requests went to another host", n)
		}

		// A read that stays on the host is followed.
		moved := map[string]bool{}
		s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method != http.MethodGet || moved[r.URL.RequestURI()] {
				return false
			}
			moved[r.URL.RequestURI()] = true
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusMovedPermanently)
			return true
		}
		mustComment(t, client(t, s), marker, "x", forge.Created)
		if len(moved) == 0 {
			t.Error("nothing was moved")
		}
		// A write is not turned into a read, which would seem to have worked.
		s.Fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodGet {
				return false
			}
			http.Redirect(w, r, r.URL.EscapedPath()+"/new", http.StatusMovedPermanently)
			return true
		}
		_, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "y")
		if err == nil || !strings.Contains(err.Error(), "has the repository got another name?") {
			t.Errorf("a write that was moved: %v", err)
		}
	})
}

// TestTLS: a certificate that nobody vouches for ends it at once.
func TestTLS(t *testing.T) {
	s := forgetest.Start(t, forge.GitHub)
	c, err := forge.New(s.Target(), forge.Options{Token: forgetest.Bot.Token})
	if err != nil {
		t.Fatal(err)
	}
	waited := false
	c.Waits(func(time.Duration) { waited = true })
	_, err = c.Comment(t.Context(), forgetest.PullRequest, marker, "x")
	if err == nil || !strings.Contains(err.Error(), "give its certificate") || waited {
		t.Errorf("error %v, waited %t", err, waited)
	}
}

// TestNew: what can't work is refused before a request, without the token.
func TestNew(t *testing.T) {
	good := forgetest.Start(t, forge.GitHub).Target()
	for _, tt := range []struct {
		reason string
		change func(*forge.Target, *forge.Options)
		want   string
	}{
		{"no token", func(t *forge.Target, o *forge.Options) { o.Token, t.TokenVariable = "", "GITHUB_TOKEN" }, "set GITHUB_TOKEN"},
		{"a token of blanks", func(_ *forge.Target, o *forge.Options) { o.Token = " \n" }, "no token"},
		{"two lines", func(_ *forge.Target, o *forge.Options) { o.Token += "\nX-Evil: 1" }, "copied whole"},
		{"http", func(t *forge.Target, _ *forge.Options) { t.API = "http://git.example.com/api/v1" }, "use https"},
		{"a password in the URL", func(t *forge.Target, _ *forge.Options) { t.API = "https://u:s3cret-of-the-bot@git.example.com" }, "take it out"},
		{"a query in the URL", func(t *forge.Target, _ *forge.Options) { t.API += "?token=x" }, "take it out"},
		{"no URL", func(t *forge.Target, _ *forge.Options) { t.API = "github.com" }, "is no URL"},
		{"broken URL", func(t *forge.Target, _ *forge.Options) { t.API = "https://%zz" }, "does not parse"},
		{"no repository", func(t *forge.Target, _ *forge.Options) { t.Repository = "" }, "owner/name"},
		{"a path that climbs", func(t *forge.Target, _ *forge.Options) { t.Repository = "../user" }, "owner/name"},
		{"a subgroup on GitHub", func(t *forge.Target, _ *forge.Options) { t.Repository = "a/b/c" }, "owner/name"},
		{"Azure without project", func(t *forge.Target, _ *forge.Options) { t.Forge, t.Repository = forge.AzureDevOps, "fleet" }, "project/repository"},
		{"an unknown forge", func(t *forge.Target, _ *forge.Options) { t.Forge = "SourceHut" }, "there are GitHub"},
		{"no certificate", func(_ *forge.Target, o *forge.Options) { o.CA = []byte("x") }, "BEGIN CERTIFICATE"},
	} {
		target, options := good, forge.Options{Token: forgetest.Bot.Token}
		tt.change(&target, &options)
		_, err := forge.New(target, options)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
		noSecret(t, fmt.Sprint(err))
	}
	if _, err := forge.New(good, forge.Options{Token: forgetest.Bot.Token + "\n"}); err != nil {
		t.Errorf("a token that a file's last line end came with: %v", err)
	}
	loopback := good
	loopback.API = "http://127.0.0.1:3000/api/v1"
	if _, err := forge.New(loopback, forge.Options{Token: forgetest.Bot.Token}); err != nil {
		t.Errorf("loopback: %v", err)
	}
}

// TestTokenDoesNotPrint: in no way that values are printed.
func TestTokenDoesNotPrint(t *testing.T) {
	options := forge.Options{Token: forgetest.Bot.Token}
	data, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(options), fmt.Sprintf("%+v", options), fmt.Sprintf("%#v", options), fmt.Sprintf("%s %v %q", options.Token, options.Token, options.Token), string(data)} {
		noSecret(t, text)
	}
}
