package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func everything(string) bool { return true }

// writeFolder makes an output folder equal to files.
func writeFolder(t *testing.T, dir string, files map[string]string, inScope func(string) bool) (*folderEdit, error) {
	t.Helper()
	folder, err := openOutput(dir)
	if err != nil {
		return nil, err
	}
	defer folder.close()
	data := map[string][]byte{}
	for name, content := range files {
		data[name] = []byte(content)
	}
	edit, err := folder.edit(data, inScope)
	if err != nil {
		return nil, err
	}
	return edit, folder.apply(edit)
}

// readFolder returns every file of a folder but the marker.
func readFolder(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == markerFile {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func mustWrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFolderReplacesItsOwnFilesOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := writeFolder(t, dir, map[string]string{
		"members/a/x.yaml": "1", "members/b/deep/y.yaml": "1", "releases/1.30.4/crds.yaml": "1",
	}, everything); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "members/b/notes.txt"), "mine")
	mustWrite(t, filepath.Join(dir, "README.md"), "mine")

	edit, err := writeFolder(t, dir, map[string]string{
		"members/a/x.yaml": "2", "releases/1.30.4/crds.yaml": "1",
	}, everything)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"members/a/x.yaml": "2", "releases/1.30.4/crds.yaml": "1",
		"members/b/notes.txt": "mine", "README.md": "mine",
	}
	if diff := cmp.Diff(want, readFolder(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "members/b/deep")); !os.IsNotExist(err) {
		t.Errorf("an empty folder is left: %v", err)
	}
	if diff := cmp.Diff([]string{"b"}, edit.removedMembers(nil)); diff != "" {
		t.Errorf("removed members (-want +got):\n%s", diff)
	}
}

func TestFolderOfSomeMembersKeepsTheOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := writeFolder(t, dir, map[string]string{
		"members/a/x.yaml": "1", "members/a/old.yaml": "1", "members/b/x.yaml": "1", "releases/1.29.1/crds.yaml": "1",
	}, everything); err != nil {
		t.Fatal(err)
	}
	only := renderScope([]bundle.Bundle{{Member: "a"}}, true)
	if _, err := writeFolder(t, dir, map[string]string{"members/a/x.yaml": "2"}, only); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"members/a/x.yaml": "2", "members/b/x.yaml": "1", "releases/1.29.1/crds.yaml": "1"}
	if diff := cmp.Diff(want, readFolder(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := writeFolder(t, dir, map[string]string{"members/a/x.yaml": "2"}, everything); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"members/a/x.yaml": "2"}, readFolder(t, dir)); diff != "" {
		t.Errorf("a whole render forgot what an earlier partial one kept (-want +got):\n%s", diff)
	}
}

func TestFolderFinishesAnInterruptedRender(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := writeFolder(t, dir, map[string]string{"members/a/x.yaml": "1"}, everything); err != nil {
		t.Fatal(err)
	}
	folder, err := openOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.close()
	// What apply does before it is killed: it records, and writes some files.
	if err := folder.writeMarker(map[string]bool{"members/a/x.yaml": true, "members/b/x.yaml": true, "members/b/y.yaml": true}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(dir, "members/b/x.yaml"), "half a render")

	if _, err := writeFolder(t, dir, map[string]string{"members/b/y.yaml": "2"}, everything); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"members/b/y.yaml": "2"}, readFolder(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestFolderRefuses(t *testing.T) {
	t.Parallel()
	rendered := map[string]string{"members/a/x.yaml": "1"}
	for _, tt := range []struct {
		reason  string
		prepare func(t *testing.T, dir string)
		want    string
	}{
		{"a folder with somebody else's files", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, "main.go"), "mine")
		}, `holds "main.go", which isthmus did not write`},
		{"a foreign file in the place of a bundle's", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, markerFile), `{"apiVersion":"isthmus.dev/v1alpha1","kind":"RenderedFiles"}`)
			mustWrite(t, filepath.Join(dir, "members/a/x.yaml"), "mine")
		}, `file "members/a/x.yaml" is in the way`},
		{"a marker that lists files elsewhere", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, markerFile), `{"apiVersion":"isthmus.dev/v1alpha1","kind":"RenderedFiles","files":["members/../../x"]}`)
		}, `lists "members/../../x", which no render writes`},
		{"a marker of another version", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, markerFile), `{"apiVersion":"isthmus.dev/v9","kind":"RenderedFiles"}`)
		}, "written by another version"},
		{"a marker that is not one", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, markerFile), "hello")
		}, "read what the output folder holds"},
		{"a link that leads out of the folder", func(t *testing.T, dir string) {
			mustWrite(t, filepath.Join(dir, markerFile), `{"apiVersion":"isthmus.dev/v1alpha1","kind":"RenderedFiles"}`)
			if err := os.Symlink(t.TempDir(), filepath.Join(dir, "members")); err != nil {
				t.Fatal(err)
			}
		}, "escapes"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tt.prepare(t, dir)
			before := readFolder(t, dir)
			_, err := writeFolder(t, dir, rendered, everything)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if diff := cmp.Diff(before, readFolder(t, dir)); diff != "" {
				t.Errorf("a refused render changed files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFolderOfAGitCheckoutIsEmpty(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, ".git/HEAD"), "ref: refs/heads/rendered")
	if _, err := writeFolder(t, dir, map[string]string{"members/a/x.yaml": "1"}, everything); err != nil {
		t.Error(err)
	}
}

func TestEditState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := map[string]string{"members/a/x.yaml": "1", "members/b/x.yaml": "1", "releases/1.30.4/crds/a.yaml": "1", "releases/1.31.0/crds/a.yaml": "1"}
	if _, err := writeFolder(t, dir, first, everything); err != nil {
		t.Fatal(err)
	}
	edit, err := writeFolder(t, dir, map[string]string{
		"members/a/x.yaml": "1", "members/b/x.yaml": "2", "members/c/x.yaml": "1",
		"releases/1.30.4/crds/a.yaml": "2", "releases/1.31.0/crds/a.yaml": "1",
	}, everything)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ reason, member, release, want string }{
		{"nothing of it changed", "a", "1.31.0", "unchanged"},
		{"what it shares with others changed", "a", "1.30.4", "changed"},
		{"its own files changed", "b", "1.31.0", "changed"},
		{"it was not there", "c", "1.31.0", "new"},
	} {
		if got := edit.state(bundle.Bundle{Member: tt.member, Release: tt.release}); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.reason, got, tt.want)
		}
	}
}
