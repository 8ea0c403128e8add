package fleet_test

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/fleet"
)

var update = flag.Bool("update", false, "rewrite the expected problems in testdata")

// expected is the file of a case that holds the problems of its other files.
const expected = "problems"

// TestLoad runs every case of testdata: the text above its files is the reason
// for the case, and the last file is what Load says of the others.
func TestLoad(t *testing.T) {
	for _, file := range cases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			reason := strings.TrimSpace(string(archive.Comment))
			if reason == "" {
				t.Fatal("the case has no reason")
			}
			files, want := split(archive)
			f, problems := fleet.Load(files)
			if (f == nil) != (len(problems.Errors()) > 0) {
				t.Errorf("fleet is nil: %t, with %d errors", f == nil, len(problems.Errors()))
			}
			got := text(problems)
			if *update {
				rewrite(t, file, archive, got)
				return
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s: problems (-want +got):\n%s", reason, diff)
			}
			if _, again := fleet.Load(shuffled{files}); text(again) != got {
				t.Errorf("other problems when the files come in another order:\n%s", text(again))
			}
		})
	}
}

func cases(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return files
}

// split returns the files of a case and the problems expected of them.
func split(archive *txtar.Archive) (fstest.MapFS, string) {
	files, want := fstest.MapFS{}, ""
	for _, file := range archive.Files {
		switch {
		case file.Name == expected:
			want = string(file.Data)
		case strings.HasSuffix(file.Name, " -> link"):
			files[strings.TrimSuffix(file.Name, " -> link")] = &fstest.MapFile{Data: file.Data, Mode: fs.ModeSymlink}
		default:
			files[file.Name] = &fstest.MapFile{Data: file.Data}
		}
	}
	return files, want
}

func rewrite(t *testing.T, file string, archive *txtar.Archive, problems string) {
	t.Helper()
	kept := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != expected {
			kept = append(kept, f)
		}
	}
	archive.Files = append(kept, txtar.File{Name: expected, Data: []byte(problems)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// text returns the problems as `isthmus validate` would, with their reasons.
func text(problems fleet.Problems) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s %s\n  %s\n", p.Severity, p.Reason, p)
		if p.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", p.Hint)
		}
	}
	return cmp.Or(b.String(), "none\n")
}

// shuffled gives the entries of each folder in any order.
type shuffled struct{ fstest.MapFS }

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := s.MapFS.ReadDir(name)
	rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries, err
}
