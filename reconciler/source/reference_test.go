package source_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// TestReference: each way to say what to follow leads to one commit, and what
// has moved back is told from what went on.
func TestReference(t *testing.T) {
	_, bare := newRemote(t)
	c := history(t, bare, 12)
	git(t, bare, "tag", "v1.0.0", c[2])
	git(t, bare, "tag", "-a", "-m", "x", "v1.2.0", c[4])
	git(t, bare, "tag", "v1.10.0-rc.1", c[7])
	git(t, bare, "tag", "1.9.0", c[6])
	git(t, bare, "tag", "nightly", c[8])
	git(t, bare, "branch", "old", c[3])
	for _, tt := range []struct {
		reason    string
		reference source.Reference
		accepted  string
		commit    string
		name      string
		ancestry  source.Ancestry
	}{
		{"the branch main by default", source.Reference{}, "", c[11], "main", source.Descends},
		{"a branch", source.Reference{Branch: "old"}, c[1], c[3], "old", source.Descends},
		{"a tag", source.Reference{Tag: "v1.0.0"}, c[1], c[2], "v1.0.0", source.Descends},
		{"an annotated tag leads to its commit", source.Reference{Tag: "v1.2.0"}, c[2], c[4], "v1.2.0", source.Descends},
		{"a tag that moved back", source.Reference{Tag: "v1.0.0"}, c[5], c[2], "v1.0.0", source.Unrelated},
		{"versions are compared as numbers", source.Reference{SemVer: ">=1.0.0"}, c[4], c[6], "1.9.0", source.Descends},
		{"a range that ends", source.Reference{SemVer: ">=1.0.0 <1.5.0"}, "", c[4], "v1.2.0", source.Descends},
		{"pre-releases only when asked for", source.Reference{SemVer: ">=1.0.0-0"}, "", c[7], "v1.10.0-rc.1", source.Descends},
		{"a range that goes back", source.Reference{SemVer: "1.0.x"}, c[6], c[2], "v1.0.0", source.Unrelated},
		{"a commit of the branch", source.Reference{Commit: c[5]}, c[2], c[5], "main", source.Descends},
		{"a commit before the accepted one", source.Reference{Commit: c[5]}, c[9], c[5], "main", source.Unrelated},
		{"the first commit of all", source.Reference{Commit: c[0]}, "", c[0], "main", source.Descends},
	} {
		options, cache := source.Options{URL: "file://" + bare, Reference: tt.reference}, t.TempDir()
		found := look(t, cache, options, tt.accepted)
		if found.Commit != tt.commit || found.Name != tt.name || found.Ancestry != tt.ancestry {
			t.Errorf("%s: %s %q %v, want %s %q %v", tt.reason, found.Commit, found.Name, found.Ancestry, tt.commit, tt.name, tt.ancestry)
		}
		if want := tt.name + "@sha1:" + tt.commit; found.Revision() != want {
			t.Errorf("%s: revision %q, want %q", tt.reason, found.Revision(), want)
		}
		if _, err := open(t, cache, options).Snapshot(found.Commit); err != nil {
			t.Errorf("%s: %v", tt.reason, err)
		}
	}
}

// TestGone: what was followed is gone or has become something else. Each has its
// reason, and the accepted commit can still be read.
func TestGone(t *testing.T) {
	tip := func(t *testing.T, bare, ref string) string { return git(t, bare, "rev-parse", ref) }
	for _, tt := range []struct {
		reason    string
		reference source.Reference
		change    func(t *testing.T, bare string)
		want      source.Reason
	}{
		{"the branch was deleted", source.Reference{}, func(t *testing.T, bare string) {
			git(t, bare, "branch", "other", "main")
			git(t, bare, "update-ref", "-d", "refs/heads/main")
		}, source.ReasonBranchNotFound},
		{"every branch was deleted", source.Reference{}, func(t *testing.T, bare string) {
			git(t, bare, "update-ref", "-d", "refs/heads/main")
			git(t, bare, "tag", "-d", "v1.0.0")
		}, source.ReasonEmpty},
		{"the default branch was renamed", source.Reference{}, func(t *testing.T, bare string) {
			git(t, bare, "branch", "-m", "main", "trunk")
		}, source.ReasonBranchNotFound},
		{"HEAD is detached and the branch gone", source.Reference{}, func(t *testing.T, bare string) {
			git(t, bare, "update-ref", "--no-deref", "HEAD", tip(t, bare, "main"))
			git(t, bare, "update-ref", "-d", "refs/heads/main")
		}, source.ReasonBranchNotFound},
		{"the branch leads to a file", source.Reference{}, func(t *testing.T, bare string) {
			blob := object(t, bare, "blob", []byte("x"))
			if err := os.WriteFile(bare+"/refs/heads/main", []byte(blob+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, source.ReasonMalformed},
		{"the tag was deleted", source.Reference{Tag: "v1.0.0"}, func(t *testing.T, bare string) {
			git(t, bare, "tag", "-d", "v1.0.0")
		}, source.ReasonTagNotFound},
		{"the tag leads to a file", source.Reference{Tag: "v1.0.0"}, func(t *testing.T, bare string) {
			git(t, bare, "tag", "-f", "-a", "-m", "x", "v1.0.0", object(t, bare, "blob", []byte("x")))
		}, source.ReasonInvalidTree},
		{"no version is in the range any more", source.Reference{SemVer: "1.x"}, func(t *testing.T, bare string) {
			git(t, bare, "tag", "-d", "v1.0.0")
		}, source.ReasonTagNotFound},
		{"no range at all", source.Reference{SemVer: "latest"}, func(*testing.T, string) {}, source.ReasonInvalidReference},
		{"the commit is not in the branch", source.Reference{Commit: strings.Repeat("1", 40)}, func(*testing.T, string) {}, source.ReasonCommitNotInBranch},
	} {
		_, bare := newRemote(t)
		c := history(t, bare, 3)
		git(t, bare, "tag", "v1.0.0", c[2])
		cache := t.TempDir()
		look(t, cache, source.Options{URL: "file://" + bare}, "")
		tt.change(t, bare)
		options := source.Options{URL: "file://" + bare, Reference: tt.reference}
		_, err := open(t, cache, options).Fetch(t.Context(), c[2])
		if err == nil || source.ReasonOf(err) != tt.want {
			t.Errorf("%s: error %v (%s), want %s", tt.reason, err, source.ReasonOf(err), tt.want)
		}
		if _, err := open(t, cache, options).Snapshot(c[2]); err != nil {
			t.Errorf("%s: the accepted commit cannot be read any more: %v", tt.reason, err)
		}
	}
}

// TestTooFar: an accepted commit that is further back than the limit is not said
// to be there nor not to be, and that is not asked for at every look.
func TestTooFar(t *testing.T) {
	_, bare := newRemote(t)
	c := history(t, bare, 40)
	cache := t.TempDir()
	for _, tt := range []struct {
		reason   string
		accepted string
		want     source.Ancestry
	}{
		{"within the limit", c[39-15], source.Descends},
		{"beyond it", c[2], source.TooFar},
		{"still beyond it", c[2], source.TooFar},
	} {
		repository := open(t, cache, source.Options{URL: "file://" + bare})
		repository.SetLimits(source.Limits{History: 16})
		found, err := repository.Fetch(t.Context(), tt.accepted)
		if err != nil || found.Ancestry != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.reason, found.Ancestry, err, tt.want)
		}
	}
	pinned := open(t, t.TempDir(), source.Options{URL: "file://" + bare, Reference: source.Reference{Commit: c[1]}})
	pinned.SetLimits(source.Limits{History: 16})
	if _, err := pinned.Fetch(t.Context(), ""); source.ReasonOf(err) != source.ReasonCommitNotInBranch || !strings.Contains(fmt.Sprint(err), "last 16 commits") {
		t.Errorf("a commit beyond the limit: %v", err)
	}
}
