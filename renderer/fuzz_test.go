package renderer_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// fuzzed is the renderer of a fuzzing process. It is made anew now and then,
// since it keeps what it has made and every mutation is something new.
var fuzzed struct {
	*renderer.Renderer
	uses int
}

// FuzzRender: a fleet that loads renders without an error, and gives the same
// bundles again when its files come in another order and from another renderer.
// One value of the fleet is replaced, since few changes of single bytes leave a
// fleet that loads.
func FuzzRender(f *testing.F) {
	f.Add([]byte(networkFile+networkPatches+"---\n"+memberFile("one", "1.30.4")+memberPatches), uint(0), "")
	f.Add([]byte(networkFile+"---\n"+memberFile("one", "1.29.1")+"---\n"+memberFile("two", "1.31.0")), uint(0), "")
	for _, patch := range []string{
		"{target: {kind: Service}, patch: '{metadata: {annotations: {config.kubernetes.io/local-config: \"true\"}}}'}",
		"{target: {kind: Service}, patch: '{metadata: {resourceVersion: \"1\", managedFields: [{}]}}'}",
		"{target: {kind: Service}, patch: '[{op: add, path: /spec/ports/100000000, value: 1}]'}",
		"{target: {kind: Deployment}, patch: '{spec: {template: {spec: {containers: null}}}}'}",
		"{target: {kind: Gateway}, patch: '{spec: []}'}",
	} {
		f.Add([]byte(networkFile+"  patches: ["+patch+"]\n---\n"+memberFile("one", "1.30.4")), uint(0), "")
	}
	// Documents are the files a.yaml, b.yaml and c.yaml.
	f.Add([]byte(strings.Replace(networkFile, "spec:\n", "spec:\n  resources: [{path: c.yaml}]\n", 1)+"\n---\n"+memberFile("one", "1.30.4")+
		"\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: shop}\nspec: {action: ALLOW, rules: [{}]}\n"), uint(0), "")
	for _, seed := range fleets(f) {
		f.Add(seed, uint(len(seed)), "1")
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint, value string) {
		data = withScalar(data, at, value)
		files := fstest.MapFS{}
		for i, document := range strings.SplitAfter(string(data), "\n---\n") {
			if i == 8 {
				return // large fleets cost time and show nothing new
			}
			files[string(rune('a'+i))+".yaml"] = &fstest.MapFile{Data: []byte(document)}
		}
		loaded, _ := fleet.Load(files)
		if loaded == nil || len(loaded.Members) > 4 {
			return
		}
		if fuzzed.uses++; fuzzed.Renderer == nil || fuzzed.uses%200 == 0 {
			fuzzed.Renderer = renderer.New(catalog.Builtin())
		}
		first, err := fuzzed.Render(loaded, plan.Observed{})
		if err != nil {
			t.Fatalf("a fleet that loads does not render: %v", err)
		}
		if (len(first.Problems.Errors()) > 0) != (len(first.Bundles) < len(loaded.Members)) {
			t.Errorf("%d bundles of %d members, with problems %v", len(first.Bundles), len(loaded.Members), first.Problems)
		}
		for _, p := range first.Problems {
			sayable(t, p)
		}
		for _, b := range first.Bundles {
			distinct(t, b)
		}
		// A fleet that names its files means others by other names.
		if !bytes.Contains(data, []byte("path")) {
			files = reversed(files)
		}
		compareWith(t, first, files)
	})
}

// fleets returns the cases of the package fleet, a file each.
func fleets(t testing.TB) [][]byte {
	t.Helper()
	names, err := filepath.Glob("../fleet/testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var out [][]byte
	for _, name := range names {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var documents []string
		for _, file := range archive.Files {
			if path.Ext(file.Name) == ".yaml" {
				documents = append(documents, string(file.Data))
			}
		}
		out = append(out, []byte(strings.Join(documents, "\n---\n")))
	}
	return out
}

// withScalar returns the text with one of its scalars replaced, unless the value
// is empty or the text does not parse.
func withScalar(data []byte, at uint, value string) []byte {
	decoder, out := yaml.NewDecoder(bytes.NewReader(data)), &bytes.Buffer{}
	encoder := yaml.NewEncoder(out)
	var scalars, documents []*yaml.Node
	for value != "" {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(document.Content) == 0 {
			return data
		}
		documents = append(documents, &document)
		scalars = append(scalars, scalarsOf(&document)...)
	}
	if len(scalars) == 0 {
		return data
	}
	scalar := scalars[at%uint(len(scalars))]
	scalar.Value, scalar.Tag, scalar.Style = value, "", 0
	for _, document := range documents {
		if encoder.Encode(document) != nil {
			return data
		}
	}
	return out.Bytes()
}

// scalarsOf returns the scalars that are not keys.
func scalarsOf(node *yaml.Node) []*yaml.Node {
	if node.Kind == yaml.ScalarNode {
		return []*yaml.Node{node}
	}
	var out []*yaml.Node
	for i, element := range node.Content {
		if node.Kind != yaml.MappingNode || i%2 == 1 {
			out = append(out, scalarsOf(element)...)
		}
	}
	return out
}

// reversed returns the files under names that sort the other way.
func reversed(files fstest.MapFS) fstest.MapFS {
	out := fstest.MapFS{}
	names := slices.Sorted(maps.Keys(files))
	for i, name := range names {
		out[names[len(names)-1-i]] = files[name]
	}
	return out
}

// compareWith renders the files and compares.
func compareWith(t *testing.T, first *renderer.Result, files fstest.MapFS) {
	t.Helper()
	loaded, problems := fleet.Load(files)
	if loaded == nil {
		t.Fatalf("does not load in another order: %v", problems)
	}
	r := fuzzed.Renderer
	if fuzzed.uses%100 == 0 {
		r = renderer.New(catalog.Builtin())
	}
	again, err := r.Render(loaded, plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Bundles) != len(first.Bundles) || len(again.Problems) != len(first.Problems) {
		t.Fatalf("%d bundles and then %d; problems %v and then %v", len(first.Bundles), len(again.Bundles), first.Problems, again.Problems)
	}
	for i, b := range first.Bundles {
		if again.Bundles[i].Digest != b.Digest {
			t.Errorf("member %s: another bundle the second time", b.Member)
		}
	}
}

// sayable checks that a problem has a place and is safe to show.
func sayable(t *testing.T, p fleet.Problem) {
	t.Helper()
	if p.File == "" || p.Line < 1 || p.Reason == "" || p.Message == "" {
		t.Errorf("no place, or nothing said: %+v", p)
	}
	for _, text := range []string{p.File, p.Path, p.Message, p.Hint} {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("not safe to show: %q", text)
		}
	}
}

// distinct checks that the objects of a bundle are found again by their labels,
// and that none is there twice.
func distinct(t *testing.T, b bundle.Bundle) {
	t.Helper()
	seen := map[string]bool{}
	for _, object := range b.Objects {
		name := id(object.Object)
		if seen[name] {
			t.Errorf("%s is in the bundle of %s twice", name, b.Member)
		}
		seen[name] = true
		if object.Object.GetLabels()[bundle.NetworkLabel] != b.Network {
			t.Errorf("%s has not the label of its network", name)
		}
	}
}
