package golden

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

var update = flag.Bool("update", false, "write the goldens anew")

// longest text that is shown in a golden; what is longer is Istio's.
const longest = 4000

func TestFleetExample(t *testing.T) {
	got := condense(t, files(t, "../../fleet-example"))
	dir := "fleet-example"
	if *update {
		write(t, dir, got)
	}
	want := read(t, dir)
	for _, name := range slices.Sorted(maps.Keys(merge(want, got))) {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s (-golden +rendered):\n%s", name, diff)
		}
	}
	if t.Failed() {
		t.Log("if that is meant: go test ./test/golden -update")
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	f, problems := fleet.Load(os.DirFS(dir))
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Problems.Errors()) > 0 {
		t.Fatalf("render: %v", result.Problems.Errors())
	}
	rendered, err := bundle.Files(result.Bundles)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// condense makes rendered files fit for people and for this repository.
func condense(t *testing.T, rendered map[string][]byte) map[string]string {
	t.Helper()
	members := map[string]map[string]string{}
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		parts := strings.SplitN(name, "/", 3)
		switch {
		case parts[0] == "members":
			if members[parts[1]] == nil {
				members[parts[1]] = map[string]string{}
			}
			members[parts[1]][parts[2]] = shorten(t, name, rendered[name])
		default:
			list := path.Join(path.Dir(path.Dir(name)), "crds.sha256")
			out[list] += fmt.Sprintf("%x  %s\n", sha256.Sum256(rendered[name]), path.Base(name))
		}
	}
	for member, own := range members {
		for name, content := range own {
			if inAll(members, name, content) {
				out[path.Join("common", name)] = content
				continue
			}
			out[path.Join("members", member, name)] = content
		}
	}
	return out
}

func inAll(members map[string]map[string]string, name, content string) bool {
	for _, own := range members {
		if own[name] != content {
			return false
		}
	}
	return len(members) > 1
}

// shorten replaces long texts in YAML files by their length and digest.
func shorten(t *testing.T, name string, content []byte) string {
	t.Helper()
	if path.Ext(name) != ".yaml" {
		return string(content)
	}
	var documents []string
	for _, document := range bytes.Split(content, []byte("\n---\n")) {
		var object any
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		short, err := yaml.Marshal(shortenValue(object))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		documents = append(documents, string(short))
	}
	return strings.Join(documents, "---\n")
}

func shortenValue(value any) any {
	switch value := value.(type) {
	case string:
		if len(value) > longest {
			return fmt.Sprintf("(%d bytes, sha256:%x)", len(value), sha256.Sum256([]byte(value)))
		}
	case map[string]any:
		for key, element := range value {
			value[key] = shortenValue(element)
		}
	case []any:
		for i, element := range value {
			value[i] = shortenValue(element)
		}
	}
	return value
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		out[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write replaces the goldens, so that a file that is no longer rendered goes.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func merge(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// Istio's charts and CRDs are not ours to keep: no golden may grow into a copy.
func TestGoldensCarryNoLongTexts(t *testing.T) {
	for name, content := range read(t, "fleet-example") {
		if strings.Contains(content, "kind: CustomResourceDefinition") {
			t.Errorf("%s has a CRD", name)
		}
		for _, forbidden := range []string{"PRIVATE KEY", "BEGIN CERTIFICATE", "kind: Secret"} {
			if strings.Contains(content, forbidden) {
				t.Errorf("%s contains %q", name, forbidden)
			}
		}
	}
}
