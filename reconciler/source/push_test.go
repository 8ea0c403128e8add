package source_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

var bot = source.Person{Name: "isthmus", Email: "bot@example.com", When: time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)}

// pusher is a server that takes pushes by a token, and a copy of its main branch.
type pusher struct {
	t          *testing.T
	work, bare string
	server     *gitServer
	options    source.Options
	*source.Repository
}

func newPusher(t *testing.T) *pusher {
	t.Helper()
	work, bare := newRemote(t)
	git(t, bare, "config", "http.receivepack", "true")
	p := &pusher{t: t, work: work, bare: bare, server: serveGit(t, filepath.Dir(bare), httptest.NewTLSServer, basic("x-access-token", "t0ken-canary"))}
	p.options = source.Options{
		URL: p.server.URL + "/fleet.git", Path: "fleets/prod",
		Credentials: source.Credentials{Username: "x-access-token", Password: "t0ken-canary", CA: ca(p.server.Server)},
	}
	p.Repository = open(t, t.TempDir(), p.options)
	return p
}

// draft changes a file of the fleet on top of what was fetched.
func (p *pusher) draft(content string) source.Draft {
	p.t.Helper()
	d, err := p.Draft(source.Change{
		Parent: fetch(p.t, p.Repository), Files: map[string][]byte{"networks/network.yaml": []byte(content)}, By: bot,
		Message: func(tree string) string { return "Upgrade\n\nTree: " + tree + "\n" },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// TestPush: a branch with one commit that changes one file, made anew and removed,
// as the real git sees it.
func TestPush(t *testing.T) {
	p := newPusher(t)
	for i := range 3 {
		commit(t, p.work, fmt.Sprintf("other/%d.txt", i), "x")
	}
	if err := os.WriteFile(filepath.Join(p.work, "run.sh"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, p.work, "update-index", "--add", "--cacheinfo", "120000,"+git(t, p.work, "hash-object", "-w", "run.sh")+",link")
	base := commit(t, p.work, "fleets/prod/networks/network.yaml", "version: 1\n")

	branches, err := p.Branches(t.Context())
	if diff := cmp.Diff(source.Branches{Default: "main", Heads: map[string]string{"main": base}}, branches); diff != "" || err != nil {
		t.Errorf("branches (-want +got): %v\n%s", err, diff)
	}

	draft := p.draft("version: 2\n")
	if err := p.Push(t.Context(), "isthmus/upgrade", "", draft); err != nil {
		t.Fatal(source.Explain(err))
	}
	if got := git(t, p.bare, "rev-parse", "isthmus/upgrade"); got != draft.Hash {
		t.Errorf("the branch is at %s, not at %s", got, draft.Hash)
	}
	git(t, p.bare, "fsck", "--strict")
	if got := git(t, p.bare, "diff", "--raw", "--abbrev=1", "main", "isthmus/upgrade"); strings.Count(got, "\n") != 0 || !strings.HasSuffix(got, "M\tfleets/prod/networks/network.yaml") {
		t.Errorf("the commit changes:\n%s", got)
	}
	if got := git(t, p.bare, "diff", "main", "isthmus/upgrade"); !strings.HasSuffix(got, "-version: 1\n+version: 2") {
		t.Errorf("the commit changes:\n%s", got)
	}
	said := git(t, p.bare, "log", "-1", "--format=%P %an <%ae> %cn <%ce> %aI %B", "isthmus/upgrade")
	if want := base + " isthmus <bot@example.com> isthmus <bot@example.com> 2026-11-28T08:00:00+00:00 Upgrade\n\nTree: " + git(t, p.bare, "rev-parse", "isthmus/upgrade^{tree}"); said != want {
		t.Errorf("the commit says %q, want %q", said, want)
	}

	// It is read back by another job, from a copy of its own.
	options := p.options
	options.Reference.Branch = "isthmus/upgrade"
	other := open(t, t.TempDir(), options)
	read, err := other.Commit(fetch(t, other))
	if diff := cmp.Diff(draft.Commit, read); diff != "" || err != nil {
		t.Errorf("the commit as read (-want +got): %v\n%s", err, diff)
	}

	// main goes on: the branch is made anew, and is no descendant of what it was.
	newer := commit(t, p.work, "fleets/prod/networks/other.yaml", "x")
	second := p.draft("version: 3\n")
	if err := p.Push(t.Context(), "isthmus/upgrade", draft.Hash, second); err != nil {
		t.Fatal(source.Explain(err))
	}
	if got := git(t, p.bare, "rev-parse", "isthmus/upgrade", "isthmus/upgrade^"); got != second.Hash+"\n"+newer {
		t.Errorf("the branch and its parent are\n%s", got)
	}
	if err := p.Delete(t.Context(), "isthmus/upgrade", second.Hash); err != nil {
		t.Fatal(source.Explain(err))
	}
	if branches, err = p.Branches(t.Context()); err != nil || len(branches.Heads) != 1 {
		t.Errorf("branches after all: %v, %v", branches, err)
	}
}

// TestPushMoved: a branch on which somebody was meanwhile stays as it is.
func TestPushMoved(t *testing.T) {
	p := newPusher(t)
	base := commit(t, p.work, "fleets/prod/networks/network.yaml", "version: 1\n")
	draft := p.draft("version: 2\n")
	git(t, p.bare, "branch", "isthmus/upgrade", base)
	for reason, push := range map[string]func() error{
		"a branch that was not there":  func() error { return p.Push(t.Context(), "isthmus/upgrade", "", draft) },
		"a branch that was elsewhere":  func() error { return p.Push(t.Context(), "isthmus/upgrade", draft.Hash, draft) },
		"a branch that is gone":        func() error { return p.Push(t.Context(), "isthmus/gone", base, draft) },
		"a branch to be removed":       func() error { return p.Delete(t.Context(), "isthmus/upgrade", draft.Hash) },
		"a branch to be removed, gone": func() error { return p.Delete(t.Context(), "isthmus/gone", draft.Hash) },
	} {
		if err := push(); err == nil || source.ReasonOf(err) != source.ReasonBranchMoved {
			t.Errorf("%s: %v", reason, err)
		}
	}
	if got := git(t, p.bare, "rev-parse", "isthmus/upgrade"); got != base {
		t.Errorf("the branch is at %s", got)
	}
	// It moves after it was looked at, as the server finds out.
	if err := os.WriteFile(filepath.Join(p.bare, "hooks", "pre-receive"), []byte("#!/bin/sh\nunset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/isthmus/upgrade "+base+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	git(t, p.bare, "branch", "-f", "isthmus/upgrade", base)
	next := commit(t, p.work, "fleets/prod/networks/other.yaml", "x")
	git(t, p.bare, "branch", "-f", "isthmus/upgrade", next)
	if err := p.Push(t.Context(), "isthmus/upgrade", next, draft); err == nil || source.ReasonOf(err) != source.ReasonBranchMoved {
		t.Errorf("a branch that moves in between: %v", err)
	}
}

// TestPushRejected: what a server does not take says why, without the token.
func TestPushRejected(t *testing.T) {
	p := newPusher(t)
	commit(t, p.work, "fleets/prod/networks/network.yaml", "version: 1\n")
	draft := p.draft("version: 2\n")
	try := func(reason string, r *source.Repository, want source.Reason, text string) {
		t.Helper()
		err := r.Push(t.Context(), "isthmus/upgrade", "", draft)
		if err == nil || source.ReasonOf(err) != want || !strings.Contains(source.Explain(err), text) || strings.Contains(source.Explain(err), "canary") {
			t.Errorf("%s: %v, want %s with %q", reason, err, want, text)
		}
	}
	if err := os.WriteFile(filepath.Join(p.bare, "hooks", "update"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	try("a hook that declines", p.Repository, source.ReasonPushRejected, "hook declined: does a rule")

	// The copy is the same, and the credentials are others: as with a token that may read.
	cache := t.TempDir()
	with := func(change func(*source.Options)) *source.Repository {
		t.Helper()
		options := p.options
		change(&options)
		r := open(t, cache, p.options)
		fetch(t, r)
		return open(t, cache, options)
	}
	git(t, p.bare, "config", "http.receivepack", "false")
	try("a server that takes no pushes, or a token that may only read", p.Repository, source.ReasonCredentialsRejected, "the token may not do this")
	for _, tt := range []struct {
		reason string
		change func(*source.Options)
		want   source.Reason
		text   string
	}{
		{"a token that is not known", func(o *source.Options) { o.Credentials.Password = "wr0ng-canary" }, source.ReasonCredentialsRejected, "isthmus/upgrade"},
		{"a certificate that nobody vouches for", func(o *source.Options) { o.Credentials.CA = nil }, source.ReasonUnreachable, "certificate"},
		{"a repository that is gone", func(o *source.Options) { o.URL = p.server.URL + "/gone.git" }, source.ReasonNotFound, ""},
		{"nobody listens", func(o *source.Options) { o.URL = "http://127.0.0.1:1/fleet.git" }, source.ReasonUnreachable, "push branch"},
		{"a folder", func(o *source.Options) { o.URL = "file://" + p.bare }, source.ReasonInvalidURL, "over https"},
	} {
		r := with(tt.change)
		err := r.Push(t.Context(), "isthmus/upgrade", "", source.Draft{Commit: source.Commit{Hash: draft.Hash}})
		if err == nil || source.ReasonOf(err) != tt.want || !strings.Contains(err.Error(), tt.text) || strings.Contains(source.Explain(err), "canary") {
			t.Errorf("%s: %v, want %s with %q", tt.reason, err, tt.want, tt.text)
		}
	}
	if _, err := with(func(o *source.Options) { o.Credentials.Password = "wr0ng-canary" }).Branches(t.Context()); err == nil || source.ReasonOf(err) != source.ReasonCredentialsRejected {
		t.Errorf("branches: %v", err)
	}
	if err := p.Push(t.Context(), "isthmus/..", "", draft); err == nil || !strings.Contains(err.Error(), "no name of a branch") {
		t.Errorf("a name that is none: %v", err)
	}
}

// TestPushRedirect: a push follows no redirect that would show the token to another
// host, or send it without TLS.
func TestPushRedirect(t *testing.T) {
	p := newPusher(t)
	commit(t, p.work, "fleets/prod/networks/network.yaml", "version: 1\n")
	draft := p.draft("version: 2\n")
	shown := 0
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			shown++
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer other.Close()
	from := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusMovedPermanently)
	}))
	defer from.Close()
	options := p.options
	options.URL = from.URL + "/fleet.git"
	options.Credentials.CA = append(ca(from), ca(other)...)
	if err := open(t, t.TempDir(), options).Push(t.Context(), "isthmus/upgrade", "", source.Draft{Commit: draft.Commit}); err == nil {
		t.Error("pushed")
	}
	if shown != 0 {
		t.Errorf("the token was shown to another host %d times", shown)
	}
}

// TestDraftRefuses: what is no file of the commit can't be changed.
func TestDraftRefuses(t *testing.T) {
	p := newPusher(t)
	git(t, p.work, "update-index", "--add", "--cacheinfo", "120000,"+git(t, p.work, "hash-object", "-w", "/dev/null")+",fleets/prod/link.yaml")
	commit(t, p.work, "fleets/prod/networks/network.yaml", "version: 1\n")
	base := fetch(t, p.Repository)
	for name, want := range map[string]string{
		"networks/gone.yaml": `there is no "gone.yaml"`, "networks": `"networks" is no file`, "networks/network.yaml/x": `"network.yaml" is no file`,
	} {
		_, err := p.Draft(source.Change{Parent: base, Files: map[string][]byte{name: nil}, By: bot, Message: func(string) string { return "" }})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if _, err := p.Draft(source.Change{Parent: strings.Repeat("1", 40), By: bot, Message: func(string) string { return "" }}); err == nil {
		t.Error("a parent that is not there")
	}
	if _, err := p.Commit(strings.Repeat("1", 40)); err == nil {
		t.Error("a commit that is not there")
	}
}
