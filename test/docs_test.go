package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/fleet"
)

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	anchorID = regexp.MustCompile(`<a id="([^"]+)">`)
	code     = regexp.MustCompile("(?ms)^```.*?^```|^    [^\n]*$")
	yamlCode = regexp.MustCompile("(?ms)^```yaml\n(apiVersion: isthmus\\.dev/.*?)^```")
	noSlug   = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestLinks: a page that moved, or a section with a new heading, leaves links
// behind that lead nowhere.
func TestLinks(t *testing.T) {
	t.Parallel()
	anchors := map[string]map[string]bool{}
	checked := 0
	for _, file := range markdown(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(string(data), ""), -1) {
			target, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link %s leads to no file", file, match[1])
				continue
			}
			if anchors[to] == nil {
				anchors[to] = anchorsOf(t, to)
			}
			if anchor != "" && !anchors[to][anchor] {
				t.Errorf("%s: the link %s leads to no heading", file, match[1])
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links checked; are they still found?", checked)
	}
}

// markdown returns the pages of the repository.
func markdown(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "out" || entry.Name() == ".demo"):
			return fs.SkipDir
		case filepath.Ext(file) == ".md":
			files = append(files, file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// anchorsOf returns what links to a page may name, as GitHub makes it from
// headings.
func anchorsOf(t *testing.T, file string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	if filepath.Ext(file) != ".md" {
		return out
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range heading.FindAllStringSubmatch(code.ReplaceAllString(string(data), ""), -1) {
		slug := noSlug.ReplaceAllString(strings.ToLower(match[1]), "")
		out[strings.ReplaceAll(slug, " ", "-")] = true
	}
	for _, match := range anchorID.FindAllStringSubmatch(string(data), -1) {
		out[match[1]] = true
	}
	return out
}

// TestDocsLoad: what a page shows of a fleet is one.
func TestDocsLoad(t *testing.T) {
	t.Parallel()
	shown := 0
	for _, file := range markdown(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files := fstest.MapFS{}
		for i, match := range yamlCode.FindAllSubmatch(data, -1) {
			if strings.Contains(string(match[1]), "kind: Fleet\n") {
				continue // it is applied to the hub
			}
			files[fmt.Sprintf("block-%d.yaml", i+1)] = &fstest.MapFile{Data: match[1]}
		}
		if len(files) == 0 {
			continue
		}
		shown += len(files)
		if _, problems := fleet.Load(files); len(problems) > 0 {
			t.Errorf("%s: the fleet that it shows has problems: %v", file, problems)
		}
	}
	if shown < 2 {
		t.Errorf("%d blocks of YAML with objects; are they still found?", shown)
	}
}
