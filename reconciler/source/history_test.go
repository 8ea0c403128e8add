package source_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// history writes commits quickly, by git fast-import, onto main of a bare
// repository, and returns them, the oldest first.
func history(t *testing.T, bare string, count int) []string {
	t.Helper()
	var in strings.Builder
	for i := range count {
		content := fmt.Sprintf("content %d of %s\n", i, strings.Repeat("x", i%50))
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter a <a@example.com> %d +0000\ndata 1\nx\n", 1_700_000_000+i)
		if i == 0 {
			fmt.Fprint(&in, "M 644 inline fleet/first.yaml\ndata 1\n1\n")
		}
		fmt.Fprintf(&in, "M 644 inline fleet/file-%d.yaml\ndata %d\n%s\n", i%20, len(content), content)
	}
	fastImport(t, bare, in.String())
	return strings.Fields(git(t, bare, "rev-list", "--reverse", "--first-parent", "main"))
}

func look(t *testing.T, cache string, options source.Options, accepted string) source.Head {
	t.Helper()
	found, err := open(t, cache, options).Fetch(t.Context(), accepted)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return found
}

// TestAncestry: the copy is shallow, and still every answer is right, from a
// copy that grew, over every transport, and from a cold one.
func TestAncestry(t *testing.T) {
	_, bare := newRemote(t)
	commits := history(t, bare, 300)
	last := len(commits) - 1
	git(t, bare, "branch", "keep", commits[last])
	for name, options := range transports(t, bare) {
		grown := t.TempDir()
		for _, tt := range []struct {
			reason   string
			head     string
			accepted string
			want     source.Ancestry
		}{
			{"the first look", commits[10], "", source.Descends},
			{"nothing new", commits[10], commits[10], source.Descends},
			{"the next commit", commits[11], commits[10], source.Descends},
			{"many commits later", commits[200], commits[11], source.Descends},
			{"the first commit of all", commits[last], commits[0], source.Descends},
			{"a rewind", commits[100], commits[last], source.Unrelated},
			{"another history", orphan(t, bare), commits[last], source.Unrelated},
			{"merged with the accepted commit on one side", merge(t, bare, commits[50], commits[last]), commits[last], source.Descends},
			{"merged without it", merge(t, bare, commits[50], commits[60]), commits[last], source.Unrelated},
			{"a commit that nobody has", commits[last], strings.Repeat("1", 40), source.Unrelated},
		} {
			git(t, bare, "update-ref", "refs/heads/main", tt.head)
			copies := map[string]string{"grown": grown}
			if name == "file" {
				copies["cold"] = t.TempDir()
			}
			for where, cache := range copies {
				found := look(t, cache, options, tt.accepted)
				if found.Commit != tt.head || found.Ancestry != tt.want {
					t.Errorf("%s, %s copy: %s: %s %v, want %s %v", name, where, tt.reason, found.Commit, found.Ancestry, tt.head, tt.want)
				}
				if _, err := open(t, cache, options).Snapshot(tt.head); err != nil {
					t.Errorf("%s, %s copy: %s: %v", name, where, tt.reason, err)
				}
			}
		}
	}
}

func orphan(t *testing.T, bare string) string {
	t.Helper()
	return git(t, bare, "commit-tree", "-m", "orphan", "main^{tree}")
}

func merge(t *testing.T, bare string, parents ...string) string {
	t.Helper()
	args := []string{"commit-tree", "-m", "merge", parents[0] + "^{tree}"}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	return git(t, bare, args...)
}

// TestLooksAreCheap: a first look takes one commit, not its history; a look
// with nothing new is one request and no objects; a new commit brings what is
// new in it.
func TestLooksAreCheap(t *testing.T) {
	_, bare := newRemote(t)
	commits := history(t, bare, 400)
	server := serveGit(t, filepath.Dir(bare), httptest.NewServer, nil)
	options, cache := source.Options{URL: server.URL + "/fleet.git"}, t.TempDir()
	requests := func(step, want string, do func()) int64 {
		server.lists.Store(0)
		server.packs.Store(0)
		server.bytes.Store(0)
		do()
		if got := fmt.Sprintf("%d lists, %d packs", server.lists.Load(), server.packs.Load()); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
		return server.bytes.Load()
	}
	first := requests("first look", "1 lists, 1 packs", func() { look(t, cache, options, "") })
	whole := int64(len(git(t, bare, "rev-list", "--objects", "main")))
	if first > 20_000 || first > whole {
		t.Errorf("the first look brought %d bytes: the history, too?", first)
	}
	head := commits[len(commits)-1]
	for range 3 {
		requests("nothing new", "1 lists, 0 packs", func() { look(t, cache, options, head) })
	}
	next := bareCommitOn(t, bare, head, "one more")
	if bytes := requests("one commit", "1 lists, 1 packs", func() { look(t, cache, options, head) }); bytes > 2_000 {
		t.Errorf("one commit brought %d bytes", bytes)
	}
	requests("a head that is not accepted stays cheap", "1 lists, 0 packs", func() { look(t, cache, options, head) })
	git(t, bare, "update-ref", "refs/heads/main", orphan(t, bare))
	look(t, cache, options, next)
	requests("a rewritten history stays cheap", "1 lists, 0 packs", func() {
		if found := look(t, cache, options, next); found.Ancestry != source.Unrelated {
			t.Errorf("ancestry %v, want unrelated", found.Ancestry)
		}
	})
}

// bareCommitOn makes a commit on a parent the head of main; its message tells it
// from others.
func bareCommitOn(t *testing.T, bare, parent, message string) string {
	t.Helper()
	head := git(t, bare, "commit-tree", "-m", message, "-p", parent, parent+"^{tree}")
	git(t, bare, "update-ref", "refs/heads/main", head)
	return head
}

// TestCopyStaysSmall: a branch that is rewritten again and again, as bots do,
// does not fill the disk, and the accepted commit stays readable all along.
func TestCopyStaysSmall(t *testing.T) {
	_, bare := newRemote(t)
	accepted := history(t, bare, 5)[4]
	options, cache := source.Options{URL: "file://" + bare}, t.TempDir()
	look(t, cache, options, "")
	folders, err := filepath.Glob(filepath.Join(cache, "*", "objects", "pack"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders of packs: %v, %v", folders, err)
	}
	if err := os.WriteFile(filepath.Join(folders[0], "tmp_pack_1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		git(t, bare, "update-ref", "refs/heads/main", git(t, bare, "commit-tree", "-m", fmt.Sprint(i), "main^{tree}"))
		found := look(t, cache, options, accepted)
		if found.Ancestry != source.Unrelated {
			t.Fatalf("rewrite %d: ancestry %v", i, found.Ancestry)
		}
	}
	packs, err := filepath.Glob(filepath.Join(cache, "*", "objects", "pack", "*"))
	if err != nil || len(packs) > 100 {
		t.Errorf("%d files of packs, %v", len(packs), err)
	}
	if _, err := open(t, cache, options).Snapshot(accepted); err != nil {
		t.Errorf("the accepted commit is gone: %v", err)
	}
	git(t, bare, "update-ref", "refs/heads/main", accepted)
	bareCommitOn(t, bare, accepted, "next")
	if found := look(t, cache, options, accepted); found.Ancestry != source.Descends {
		t.Errorf("after the branch was restored: ancestry %v", found.Ancestry)
	}
	for _, name := range packs {
		if strings.Contains(name, "tmp_") {
			t.Errorf("%s is left of a look that was killed", name)
		}
	}
	if err := source.Sweep(cache, []string{"another"}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) != 0 {
		t.Errorf("copies of nobody are left: %v, %v", left, err)
	}
}
