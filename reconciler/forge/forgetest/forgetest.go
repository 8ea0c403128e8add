package forgetest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

// What the server knows.
const (
	PullRequest = 7
	Base        = "1111111111111111111111111111111111111111"
	Head        = "2222222222222222222222222222222222222222"
)

// Account is somebody with a token.
type Account struct {
	ID    int64
	Login string
	Token forge.Token
}

// The accounts.
var (
	Bot   = Account{101, "isthmus-bot", "s3cret-of-the-bot"}
	Human = Account{102, "maintainer", "s3cret-of-a-human"}
)

// Comment on the pull request.
type Comment struct {
	ID     int64
	Author Account
	Body   string
}

// Status of a commit, in the forge's own words.
type Status struct {
	Commit, Context, State, Description, URL string
}

// Server is one forge. Its exported fields may be set before requests are made.
type Server struct {
	Kind forge.Kind
	// JobToken makes the bot's token one of a CI job: on GitHub it is of no user.
	JobToken bool
	// ReadOnly refuses writes with 403.
	ReadOnly bool
	// PageSize of lists, whatever is asked for. Zero: 2.
	PageSize int
	// Heads of the pull request, one for each push, where they matter. The last one
	// is Head unless something else is set.
	Heads []string
	// Fault is called with the number of the call, from 1, before it is done; true
	// means that it was answered.
	Fault func(w http.ResponseWriter, r *http.Request, n int) bool
	// After is called with each call that was done. The answer has been kept back and
	// is given if it returns false.
	After func(w http.ResponseWriter, r *http.Request, n int) bool

	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex
	calls    []string
	made     map[string]bool // of the contract
	next     int64
	comments []Comment
	statuses []Status
	pulls    []Pull
}

// Start starts a forge, which ends with the test.
func Start(t testing.TB, kind forge.Kind) *Server {
	t.Helper()
	s := &Server{
		Kind: kind, PageSize: 2, Heads: []string{"3333333333333333333333333333333333333333", Head}, t: t, next: 1000, made: map[string]bool{},
	}
	mux := http.NewServeMux()
	switch kind {
	case forge.GitHub:
		s.github(mux, "/api/v3")
	case forge.Gitea:
		s.github(mux, "/api/v1")
	case forge.GitLab:
		s.gitlab(mux)
	case forge.AzureDevOps:
		s.azure(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "Not Found") })
	s.server = httptest.NewTLSServer(s.faulty(s.held(mux)))
	t.Cleanup(s.server.Close)
	return s
}

// Target is the pull request, for a client.
func (s *Server) Target() forge.Target {
	t := forge.Target{Forge: s.Kind, API: s.server.URL, Repository: "acme/fleet", PullRequest: PullRequest, Base: Base, Head: Head}
	switch s.Kind {
	case forge.GitHub:
		t.API += "/api/v3"
	case forge.Gitea:
		t.API += "/api/v1"
	case forge.GitLab:
		t.API, t.Repository = t.API+"/api/v4", "acme/mesh/fleet"
	case forge.AzureDevOps:
		t.API, t.Repository = t.API+"/acme", "Mesh Team/fleet"
	}
	return t
}

// CA is the certificate that the server shows, as PEM.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
}

// Say adds a comment, as somebody does in the browser.
func (s *Server) Say(author Account, body string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.say(author, body)
}

func (s *Server) say(author Account, body string) int64 {
	s.next++
	s.comments = append(s.comments, Comment{s.next, author, body})
	return s.next
}

// Delete removes a comment, as somebody does in the browser.
func (s *Server) Delete(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.comments = slices.DeleteFunc(s.comments, func(c Comment) bool { return c.ID == id })
}

// Comments are those on the pull request now.
func (s *Server) Comments() []Comment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.comments)
}

// Statuses are all that were written, the last one last.
func (s *Server) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses)
}

// Calls are method and path of all requests; Writes those that are no GET.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Writes are the requests that are no reads.
func (s *Server) Writes() []string {
	return slices.DeleteFunc(s.Calls(), func(call string) bool {
		return strings.HasPrefix(call, "GET ") || strings.HasSuffix(call, "/graphql")
	})
}

// faulty counts calls, holds them against the contract, and lets faults happen.
func (s *Server) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hold(r)
		s.mu.Lock()
		s.calls = append(s.calls, r.Method+" "+r.URL.EscapedPath())
		n := len(s.calls)
		s.mu.Unlock()
		if s.Fault != nil && s.Fault(w, r, n) {
			return
		}
		if s.After == nil {
			next.ServeHTTP(w, r)
			return
		}
		kept := httptest.NewRecorder()
		next.ServeHTTP(kept, r)
		if s.After(w, r, n) {
			return
		}
		copyAnswer(w, kept)
	})
}

// handle answers calls of a known account; do is called with the state locked.
func (s *Server) handle(mux *http.ServeMux, pattern string, do func(w http.ResponseWriter, r *http.Request, who Account)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.who(r)
		if !ok {
			refuse(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		if s.ReadOnly && r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/graphql") {
			refuse(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		do(w, r, who)
	})
}

func (s *Server) who(r *http.Request) (Account, bool) {
	given := r.Header.Get("Authorization")
	for _, each := range []Account{Bot, Human} {
		want := "Bearer " + string(each.Token)
		if s.Kind == forge.AzureDevOps {
			want = "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+string(each.Token)))
		}
		if given == want {
			return each, true
		}
	}
	return Account{}, false
}

// body reads a request's JSON.
func body[T any](w http.ResponseWriter, r *http.Request) (T, bool) {
	var in T
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return in, false
	}
	return in, true
}

// pullRequest says whether the pull request in the path is one that may be there.
func pullRequest(w http.ResponseWriter, r *http.Request) bool {
	if n, err := strconv.Atoi(r.PathValue("pr")); err != nil || n < PullRequest || n > PullRequest+9 {
		refuse(w, http.StatusNotFound, "Not Found")
		return false
	}
	return true
}

// find returns the index of the comment in the path, if who may change it.
func (s *Server) find(w http.ResponseWriter, r *http.Request, who Account) (int, bool) {
	i := slices.IndexFunc(s.comments, func(c Comment) bool { return strconv.FormatInt(c.ID, 10) == r.PathValue("id") })
	switch {
	case i < 0:
		refuse(w, http.StatusNotFound, "Not Found")
		return 0, false
	case s.comments[i].Author != who:
		s.t.Errorf("%s %s: the comment is %s's", r.Method, r.URL.Path, s.comments[i].Author.Login)
		refuse(w, http.StatusForbidden, "Must have admin rights to Repository.")
		return 0, false
	}
	return i, true
}

// page cuts a list to the page that is asked for, and links to the next one.
func page[T any](s *Server, w http.ResponseWriter, r *http.Request, all []T) []T {
	n := 1
	if asked, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil {
		n = max(1, asked)
	}
	from := min((n-1)*s.PageSize, len(all))
	to := min(n*s.PageSize, len(all))
	if to < len(all) {
		w.Header().Add("Link", fmt.Sprintf(`<https://elsewhere.invalid/?page=%d>; rel="next", <https://elsewhere.invalid/?page=9>; rel="last"`, n+1))
	}
	return all[from:to]
}

// latest returns the last status of each context of a commit.
func (s *Server) latest(commit string) []Status {
	var out []Status
	for i := len(s.statuses) - 1; i >= 0; i-- {
		each := s.statuses[i]
		if each.Commit == commit && !slices.ContainsFunc(out, func(o Status) bool { return o.Context == each.Context }) {
			out = append(out, each)
		}
	}
	return out
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, code int, message string) {
	answer(w, code, map[string]string{"message": message})
}
