package source_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// object writes an object that git itself would not make, and returns its hash.
func object(t *testing.T, dir, kind string, content []byte) string {
	t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--stdin", "--literally")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git hash-object: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// entry is one entry of a tree as Git stores it.
func entry(t *testing.T, mode, name, hash string) []byte {
	t.Helper()
	var raw []byte
	if _, err := fmt.Sscanf(hash, "%x", &raw); err != nil {
		t.Fatal(err)
	}
	return append([]byte(mode+" "+name+"\x00"), raw...)
}

// bareCommit makes a commit of a tree the head of the bare repository.
func bareCommit(t *testing.T, bare, tree string) string {
	t.Helper()
	head := git(t, bare, "commit-tree", "-m", "x", tree)
	git(t, bare, "update-ref", "refs/heads/main", head)
	return head
}

// snapshotOf fetches and reads the head of a bare repository.
func snapshotOf(t *testing.T, bare string) (source.Snapshot, error) {
	t.Helper()
	repository := open(t, t.TempDir(), source.Options{URL: "file://" + bare})
	return repository.Snapshot(fetch(t, repository))
}

// TestSnapshotRefuses: what git never makes, somebody can still push.
func TestSnapshotRefuses(t *testing.T) {
	for _, tt := range []struct {
		reason string
		tree   func(t *testing.T, bare, blob string) []byte
		want   string
	}{
		{"a name that leads out", func(t *testing.T, _, blob string) []byte { return entry(t, "100644", "..", blob) },
			`InvalidTree: folder "/" has an entry ".." that leads elsewhere`},
		{"a path for a name", func(t *testing.T, _, blob string) []byte { return entry(t, "100644", "../x.yaml", blob) },
			`InvalidTree: folder "/" has an entry "../x.yaml" that leads elsewhere`},
		{"a path for a name elsewhere", func(t *testing.T, _, blob string) []byte { return entry(t, "100644", `a\x.yaml`, blob) },
			`InvalidTree: folder "/" has an entry "a\\x.yaml" that leads elsewhere`},
		{"what would be Git's own in a work tree", func(t *testing.T, _, blob string) []byte { return entry(t, "100644", ".GIT", blob) },
			`InvalidTree: folder "/" has an entry ".GIT" that is Git's own`},
		{"one name twice: reviewers may have seen the other", func(t *testing.T, bare, blob string) []byte {
			other := object(t, bare, "blob", []byte("two"))
			return append(entry(t, "100644", "a.yaml", blob), entry(t, "100644", "a.yaml", other)...)
		}, `InvalidTree: folder "/" has an entry "a.yaml" that is there twice`},
		{"folders without end, in a few objects and without a file", func(t *testing.T, bare, _ string) []byte {
			tree := object(t, bare, "tree", nil)
			var content []byte
			for range 10 {
				content = nil
				for i := range 10 {
					content = append(content, entry(t, "40000", fmt.Sprint(i), tree)...)
				}
				tree = object(t, bare, "tree", content)
			}
			return content
		}, "RepositoryTooLarge: commit "},
		{"folders in folders in folders", func(t *testing.T, bare, blob string) []byte {
			content := entry(t, "100644", "a.yaml", blob)
			for range 200 {
				content = entry(t, "40000", "a", object(t, bare, "tree", content))
			}
			return content
		}, "RepositoryTooLarge: commit "},
		{"a file of zeros, small in a pack", func(t *testing.T, bare, _ string) []byte {
			return entry(t, "100644", "a.yaml", object(t, bare, "blob", make([]byte, source.MaxBytes+1)))
		}, "RepositoryTooLarge: commit "},
	} {
		_, bare := newRemote(t)
		blob := object(t, bare, "blob", []byte("one"))
		bareCommit(t, bare, object(t, bare, "tree", tt.tree(t, bare, blob)))
		snapshot, err := snapshotOf(t, bare)
		if err == nil || snapshot.FS != nil {
			t.Errorf("%s: no error", tt.reason)
			continue
		}
		reason, message, _ := strings.Cut(tt.want, ": ")
		if string(source.ReasonOf(err)) != reason || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: error %q, want %s: …%s", tt.reason, err, reason, message)
		}
	}
}

// TestSnapshotIsWholeOrNothing: a copy that lacks a folder must not read as a
// commit without it, since what is not in a commit is removed from clusters.
func TestSnapshotIsWholeOrNothing(t *testing.T) {
	work, bare := newRemote(t)
	commit(t, work, "members/a.yaml", "a")
	head := commit(t, work, "network.yaml", "b")
	cache := t.TempDir()
	repository := open(t, cache, source.Options{URL: "file://" + bare})
	fetch(t, repository)
	folder := git(t, work, "rev-parse", "HEAD:members")
	unpack(t, cache)
	missing, err := filepath.Glob(filepath.Join(cache, "*", "objects", folder[:2], folder[2:]))
	if err != nil || len(missing) != 1 {
		t.Fatalf("no folder to lose: %v, %v", missing, err)
	}
	if err := os.Remove(missing[0]); err != nil {
		t.Fatal(err)
	}
	if snapshot, err := repository.Snapshot(head); err == nil {
		t.Fatalf("a commit without a folder was read: %v", snapshot.FS)
	}
	if got := fetch(t, repository); got != head {
		t.Fatalf("fetch = %s, want %s", got, head)
	}
	snapshot, err := repository.Snapshot(head)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(snapshot.FS, "members/a.yaml", "network.yaml"); err != nil {
		t.Error(err)
	}
}

// unpack turns the packs of the copy below cache into single objects.
func unpack(t *testing.T, cache string) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(cache, "*", "objects", "pack", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatalf("no packs: %v", err)
	}
	for _, pack := range packs {
		away := filepath.Join(t.TempDir(), "pack")
		if err := os.Rename(pack, away); err != nil {
			t.Fatal(err)
		}
		data, err := os.Open(away)
		if err != nil {
			t.Fatal(err)
		}
		defer data.Close()
		cmd := exec.Command("git", "unpack-objects", "-q")
		cmd.Dir, cmd.Stdin = filepath.Dir(filepath.Dir(filepath.Dir(pack))), data
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git unpack-objects: %v\n%s", err, out)
		}
		if err := os.Remove(strings.TrimSuffix(pack, ".pack") + ".idx"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSnapshotKeepsOddEntries: what a work tree can have, a snapshot has too,
// so that both are judged alike.
func TestSnapshotKeepsOddEntries(t *testing.T) {
	_, bare := newRemote(t)
	blob := object(t, bare, "blob", []byte("one"))
	content := entry(t, "100644", "a\x1b[31m.yaml", blob)
	content = append(content, entry(t, "120000", "link", blob)...)
	content = append(content, entry(t, "160000", "sub", strings.Repeat("1", 40))...)
	bareCommit(t, bare, object(t, bare, "tree", content))
	snapshot, err := snapshotOf(t, bare)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"a\x1b[31m.yaml": 0, "link": fs.ModeSymlink, "sub": fs.ModeIrregular} {
		info, err := fs.Lstat(snapshot.FS, name)
		if err != nil || info.Mode().Type() != want {
			t.Errorf("%q: %v, %v, want type %v", name, info, err, want)
		}
	}
}

// TestSubmodulesAreNotFetched: a submodule's server is asked for nothing.
func TestSubmodulesAreNotFetched(t *testing.T) {
	_, bare := newRemote(t)
	other := serveGit(t, filepath.Dir(bare), httptest.NewServer, nil)
	modules := object(t, bare, "blob", fmt.Appendf(nil, "[submodule \"sub\"]\n\tpath = sub\n\turl = %s/other.git\n", other.URL))
	content := entry(t, "100644", ".gitmodules", modules)
	content = append(content, entry(t, "160000", "sub", strings.Repeat("1", 40))...)
	bareCommit(t, bare, object(t, bare, "tree", content))
	if _, err := snapshotOf(t, bare); err != nil {
		t.Fatal(err)
	}
	if asked := other.lists.Load() + other.packs.Load(); asked != 0 {
		t.Errorf("the submodule's server was asked %d times", asked)
	}
}
