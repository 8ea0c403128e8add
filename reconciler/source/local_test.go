package source

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkout makes a repository of git's own with two commits, the first of which is
// tagged.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(context.Background(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "fleets", "prod"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "fleets", "prod", "network.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "-q", "-b", "main")
	write("one")
	run("add", "-A")
	run("commit", "-qm", "one")
	run("tag", "v1")
	run("checkout", "-qb", "topic")
	write("two")
	run("commit", "-qam", "two")
	return dir
}

// TestLocalReadsCommits by every name that people give them, packed or not, from
// any folder of the checkout and from a work tree beside it.
func TestLocalReadsCommits(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	beside := filepath.Join(t.TempDir(), "beside")
	for _, args := range [][]string{{"gc", "-q"}, {"worktree", "add", "-q", "--detach", beside, "v1"}} {
		cmd := exec.CommandContext(context.Background(), "git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	for _, tt := range []struct{ from, revision, folder, want string }{
		{dir, "main", "fleets/prod", "one"},
		{dir, "topic", "fleets/prod", "two"},
		{dir, "HEAD~1", "fleets/prod", "one"},
		{dir, "v1", "fleets/prod", "one"},
		{filepath.Join(dir, "fleets"), "HEAD", "prod", "two"},
		{filepath.Join(dir, "fleets"), "HEAD", "/fleets/prod", "two"},
		{filepath.Join(dir, "fleets", "prod"), "HEAD", ".", "two"},
		{beside, "HEAD", "fleets/prod", "one"},
		{filepath.Join(beside, "fleets"), "topic", "prod", "two"},
	} {
		local, err := OpenLocal(tt.from)
		if err != nil {
			t.Fatalf("%s: %v", tt.from, err)
		}
		snapshot, err := local.Snapshot(tt.revision, tt.folder)
		if err != nil {
			t.Errorf("%s of %s: %v", tt.revision, tt.from, err)
			continue
		}
		if got, err := fs.ReadFile(snapshot.FS, "network.yaml"); err != nil || string(got) != tt.want {
			t.Errorf("%s of %s: %q, error %v, want %q", tt.revision, tt.from, got, err, tt.want)
		}
	}
}

// TestLocalRefuses what it cannot read, with what to do.
func TestLocalRefuses(t *testing.T) {
	t.Parallel()
	if _, err := OpenLocal(t.TempDir()); ReasonOf(err) != ReasonNotFound {
		t.Errorf("no repository: %v", err)
	}
	local, err := OpenLocal(checkout(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		revision, folder string
		reason           Reason
		says             string
	}{
		{"mian", "fleets/prod", ReasonCommitNotFound, "git fetch"},
		{strings.Repeat("0", 40), "fleets/prod", ReasonCommitNotFound, ""},
		{"HEAD:fleets", "fleets/prod", ReasonCommitNotFound, "name the folder"},
		{"HEAD", "fleets/stage", ReasonPathNotFound, "name the fleet's folder"},
		{"HEAD", "../..", ReasonPathNotFound, ""},
	} {
		_, err := local.Snapshot(tt.revision, tt.folder)
		if tt.folder == "../.." { // stays inside: the root
			if err != nil {
				t.Errorf("%q: %v", tt.folder, err)
			}
			continue
		}
		if ReasonOf(err) != tt.reason || !strings.Contains(Explain(err), tt.says) {
			t.Errorf("%q %q: %v, want %s and %q", tt.revision, tt.folder, err, tt.reason, tt.says)
		}
	}
	base, err := local.MergeBase("main", "topic")
	if err != nil || len(base) != 40 {
		t.Errorf("merge base %q, error %v", base, err)
	}
}

// TestLocalSame: a folder is compared by what is in it, not by who changed what else.
func TestLocalSame(t *testing.T) {
	t.Parallel()
	local, err := OpenLocal(filepath.Join(checkout(t), "fleets"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		before, after, folder string
		want                  bool
	}{
		{"v1", "main", "prod", true},
		{"main", "topic", "prod", false},
		{"topic", "main", "/fleets/prod", false},
		{"topic", "HEAD", "/", true},
		{"main", "main", "stage", false},
	} {
		if got, err := local.Same(tt.before, tt.after, tt.folder); err != nil || got != tt.want {
			t.Errorf("%s of %s and %s: %t, %v; want %t", tt.folder, tt.before, tt.after, got, err, tt.want)
		}
	}
	if _, err := local.Same("main", "mian", "prod"); ReasonOf(err) != ReasonCommitNotFound {
		t.Errorf("a revision that is not there: %v", err)
	}
}
