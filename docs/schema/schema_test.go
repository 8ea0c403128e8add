package schema_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	yaml "go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"github.com/isthmus-mesh/isthmus/docs/schema"
	"github.com/isthmus-mesh/isthmus/fleet"
)

// compile reads a schema with a validator that is not ours, as editors do. It
// checks the schema itself against draft-07.
func compile(t *testing.T, data []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if version := document.(map[string]any)["$schema"]; version != "http://json-schema.org/draft-07/schema#" {
		t.Fatalf("the schema is of %v", version)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func ofAnyKind(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := schema.OfAnyKind()
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, data)
}

func TestSchemasAreDraft07(t *testing.T) {
	for _, kind := range schema.Kinds {
		data, err := schema.Of(kind)
		if err != nil {
			t.Fatal(err)
		}
		compile(t, data)
	}
	files, err := fs.Glob(schema.Files, "*.json")
	if err != nil || len(files) != len(schema.Kinds) {
		t.Errorf("%d kinds and the files %q: %v", len(schema.Kinds), files, err)
	}
	if err := ofAnyKind(t).Validate(map[string]any{"apiVersion": "isthmus.dev/v1alpha1", "kind": "Cluster"}); err == nil {
		t.Error("the schema of any kind takes a kind that there is not")
	}
	if err := ofAnyKind(t).Validate(map[string]any{"apiVersion": "apps/v1", "kind": "Member"}); err != nil {
		t.Errorf("the schema of any kind refuses what is not isthmus': %v", err)
	}
}

// An editor reads whole fleets without a word against them.
func TestSchemasTakeTheExamples(t *testing.T) {
	everyKind := ofAnyKind(t)
	for _, folder := range []string{"../../fleet-example", "../../cmd/isthmus/starter"} {
		seen := 0
		err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(file) != ".yaml" || strings.Contains(file, "/.github/") {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, text := range documents(data) {
				seen++
				if err := validate(everyKind, text); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			return nil
		})
		if err != nil || seen == 0 {
			t.Errorf("%s: %d documents: %v", folder, seen, err)
		}
	}
}

// byEditors are the reasons of problems that a JSON Schema can express.
var byEditors = []string{
	fleet.ReasonUnknownField, fleet.ReasonMissingField, fleet.ReasonWrongType, fleet.ReasonUnknownValue,
	fleet.ReasonInvalidValue, fleet.ReasonUnknownKind, fleet.ReasonStatusInFile, fleet.ReasonNamespaceInFile,
}

// byLoadOnly are problems of those reasons that draft-07 has no words for: a
// number too large for its type, or written as programs read it differently, and
// the size of a duration.
var byLoadOnly = regexp.MustCompile(` is out of range$| is not a decimal number$| is too long$`)

// TestEditorsAgreeWithLoad: a document of the cases of fleet is refused by a
// validator that is not ours where, and only where, Load refuses its form.
func TestEditorsAgreeWithLoad(t *testing.T) {
	everyKind := ofAnyKind(t)
	cases, err := filepath.Glob("../../fleet/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	taken, refused := 0, 0
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, written := range archive.Files {
			if filepath.Ext(written.Name) != ".yaml" {
				continue
			}
			for _, text := range documents(written.Data) {
				loaded, readable := problemsOfForm(text)
				if !readable {
					continue
				}
				err := validate(everyKind, text)
				switch {
				case len(loaded) == 0 && err != nil:
					t.Errorf("%s: %s: Load takes what an editor refuses: %v\n%s", file, written.Name, err, text)
				case len(loaded) > 0 && err == nil:
					t.Errorf("%s: %s: an editor takes what Load refuses: %v\n%s", file, written.Name, loaded, text)
				case err == nil:
					taken++
				default:
					refused++
				}
			}
		}
	}
	if taken < 20 || refused < 20 {
		t.Errorf("only %d documents taken and %d refused: does the test still see the cases?", taken, refused)
	}
}

// problemsOfForm returns what Load says against a document on its own that a
// JSON Schema could say, too. It returns false for what is not isthmus' or not
// even YAML to read.
func problemsOfForm(text string) (fleet.Problems, bool) {
	if !strings.Contains(text, "isthmus.dev/v1alpha1") {
		return nil, false
	}
	var out fleet.Problems
	_, problems := fleet.Load(fstest.MapFS{"file.yaml": {Data: []byte(text)}})
	for _, problem := range problems.Errors() {
		switch problem.Reason {
		case fleet.ReasonSyntax, fleet.ReasonUnreadable, fleet.ReasonLimitExceeded, fleet.ReasonMergeKey,
			fleet.ReasonDuplicateKey, fleet.ReasonObjectInList, fleet.ReasonFleetInGit:
			return nil, false
		}
		if slices.Contains(byEditors, problem.Reason) && !byLoadOnly.MatchString(problem.Message) {
			out = append(out, problem)
		}
	}
	return out, true
}

var separator = regexp.MustCompile(`(?m)^---\n`)

func documents(data []byte) []string {
	return slices.DeleteFunc(separator.Split(string(data), -1), func(text string) bool { return strings.TrimSpace(text) == "" })
}

func validate(s *jsonschema.Schema, text string) error {
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(text), &node); err != nil {
		return err
	}
	timesAreText(&node)
	var document any
	if err := node.Decode(&document); err != nil {
		return err
	}
	return s.Validate(document)
}

// timesAreText reads a time without quotes as editors and the API server do: the
// package follows YAML 1.1, where that is a type of its own; in 1.2 it is text.
func timesAreText(node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!timestamp" {
		node.Tag = "!!str"
	}
	for _, child := range node.Content {
		timesAreText(child)
	}
}
