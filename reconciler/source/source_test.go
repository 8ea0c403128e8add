package source_test

import (
	"context"
	"io/fs"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// git runs the real git in dir and returns its output.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// newRemote returns a work tree and the bare repository that it pushes to.
func newRemote(t *testing.T) (work, bare string) {
	t.Helper()
	root := t.TempDir()
	bare, work = filepath.Join(root, "fleet.git"), filepath.Join(root, "work")
	git(t, root, "init", "-q", "--bare", "-b", "main", bare)
	git(t, root, "init", "-q", "-b", "main", work)
	git(t, work, "remote", "add", "origin", bare)
	return work, bare
}

func commit(t *testing.T, work, name, content string) string {
	t.Helper()
	path := filepath.Join(work, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	git(t, work, "add", "-A")
	git(t, work, "commit", "-q", "-m", name)
	git(t, work, "push", "-q", "-f", "origin", "HEAD:main")
	return git(t, work, "rev-parse", "HEAD")
}

func open(t *testing.T, cache string, options source.Options) *source.Repository {
	t.Helper()
	repository, err := source.Open(cache, options)
	if err != nil {
		t.Fatal(err)
	}
	return repository
}

func fetch(t *testing.T, repository *source.Repository) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	head, err := repository.Fetch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	return head.Commit
}

func TestFetchFollowsTheBranch(t *testing.T) {
	work, bare := newRemote(t)
	first := commit(t, work, "fleet/network.yaml", "one")
	repository := open(t, t.TempDir(), source.Options{URL: "file://" + bare, Path: "fleet"})
	if got := fetch(t, repository); got != first {
		t.Fatalf("first fetch = %s, want %s", got, first)
	}
	second := commit(t, work, "fleet/network.yaml", "two")
	if got := fetch(t, repository); got != second {
		t.Fatalf("second fetch = %s, want %s", got, second)
	}
	for _, tt := range []struct{ commit, want string }{{first, "one"}, {second, "two"}} {
		snapshot, err := repository.Snapshot(tt.commit)
		if err != nil {
			t.Fatal(err)
		}
		data, err := fs.ReadFile(snapshot.FS, "network.yaml")
		if err != nil || string(data) != tt.want {
			t.Errorf("network.yaml at %s = %q, %v, want %q", tt.commit, data, err, tt.want)
		}
	}
	if got, want := source.CommitOf(source.Revision("main", second)), second; got != want {
		t.Errorf("commit of its own revision = %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	work, bare := newRemote(t)
	empty := t.TempDir()
	git(t, empty, "init", "-q", "--bare", empty)
	commit(t, work, "fleet/network.yaml", "one")
	for _, tt := range []struct {
		reason  string
		options source.Options
		want    source.Reason
	}{
		{"no such repository", source.Options{URL: "file:///nowhere/at/all.git"}, source.ReasonNotFound},
		{"no such branch", source.Options{URL: "file://" + bare, Reference: source.Reference{Branch: "prod"}}, source.ReasonBranchNotFound},
		{"no commit yet", source.Options{URL: "file://" + empty}, source.ReasonEmpty},
		{"nobody listens", source.Options{URL: "http://127.0.0.1:1/fleet.git"}, source.ReasonUnreachable},
		{"a scheme that runs programs", source.Options{URL: "ext::sh -c touch% /tmp/pwned"}, source.ReasonInvalidURL},
		{"a password in the URL", source.Options{URL: "https://me:hunter2@example.com/fleet.git"}, source.ReasonInvalidURL},
		{"no such folder", source.Options{URL: "file://" + bare, Path: "nope"}, source.ReasonPathNotFound},
		{"a path that climbs out stays inside", source.Options{URL: "file://" + bare, Path: "../../etc"}, source.ReasonPathNotFound},
	} {
		err := func() error {
			repository, err := source.Open(t.TempDir(), tt.options)
			if err != nil {
				return err
			}
			head, err := repository.Fetch(t.Context(), "")
			if err != nil {
				return err
			}
			_, err = repository.Snapshot(head.Commit)
			return err
		}()
		if err == nil || source.ReasonOf(err) != tt.want {
			t.Errorf("%s: error %v, want reason %s", tt.reason, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", tt.reason, err)
		}
	}
}

// serve returns a real git server over http that wants the given password.
func serve(t *testing.T, root, username, password string) string {
	t.Helper()
	execPath := git(t, root, "--exec-path")
	backend := &cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != username || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestFetchOverHTTP(t *testing.T) {
	work, bare := newRemote(t)
	head := commit(t, work, "network.yaml", "one")
	url := serve(t, filepath.Dir(bare), "bot", "s3cret-canary") + "/fleet.git"
	good := source.Credentials{Username: "bot", Password: "s3cret-canary"}
	if got := fetch(t, open(t, t.TempDir(), source.Options{URL: url, Credentials: good})); got != head {
		t.Errorf("fetch = %s, want %s", got, head)
	}
	bad := source.Credentials{Username: "bot", Password: "wr0ng-canary"}
	_, err := open(t, t.TempDir(), source.Options{URL: url, Credentials: bad}).Fetch(t.Context(), "")
	if source.ReasonOf(err) != source.ReasonCredentialsRejected || strings.Contains(err.Error(), "canary") {
		t.Errorf("wrong password: error %v, want reason %s and no password", err, source.ReasonCredentialsRejected)
	}
}

func TestServerAwayKeepsTheCopy(t *testing.T) {
	work, bare := newRemote(t)
	head := commit(t, work, "network.yaml", "one")
	cache := t.TempDir()
	repository := open(t, cache, source.Options{URL: "file://" + bare})
	fetch(t, repository)
	if err := os.Rename(bare, bare+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := repository.Fetch(t.Context(), ""); err == nil {
		t.Fatal("fetch without a server: no error")
	}
	if _, err := open(t, cache, source.Options{URL: "file://" + bare}).Snapshot(head); err != nil {
		t.Errorf("the last commit is gone with the server: %v", err)
	}
}

func TestBrokenCopyIsMadeAnew(t *testing.T) {
	work, bare := newRemote(t)
	head := commit(t, work, "network.yaml", "one")
	cache := t.TempDir()
	repository := open(t, cache, source.Options{URL: "file://" + bare})
	fetch(t, repository)
	packs, err := filepath.Glob(filepath.Join(cache, "*", "objects", "pack", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs to break: %v", err)
	}
	for _, pack := range packs {
		if err := os.Remove(pack); err != nil {
			t.Fatal(err)
		}
	}
	if got := fetch(t, open(t, cache, source.Options{URL: "file://" + bare})); got != head {
		t.Errorf("fetch after the copy broke = %s, want %s", got, head)
	}
}

func TestSymlinksStayLinks(t *testing.T) {
	work, bare := newRemote(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(work, "evil.yaml")); err != nil {
		t.Fatal(err)
	}
	head := commit(t, work, "network.yaml", "one")
	repository := open(t, t.TempDir(), source.Options{URL: "file://" + bare})
	fetch(t, repository)
	snapshot, err := repository.Snapshot(head)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fs.Lstat(snapshot.FS, "evil.yaml")
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("evil.yaml: %v, %v, want a symbolic link", info, err)
	}
}

// fastImport feeds a stream to git fast-import.
func fastImport(t *testing.T, bare, stream string) {
	t.Helper()
	cmd := exec.Command("git", "fast-import", "--quiet", "--force")
	cmd.Dir, cmd.Stdin = bare, strings.NewReader(stream)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git fast-import: %v\n%s", err, out)
	}
}
