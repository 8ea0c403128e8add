package fleet

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	schemafiles "github.com/isthmus-mesh/isthmus/docs/schema"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestSchemasAreUnderstood: a keyword that the checker does not know would be a
// rule that the editor has and Load has not.
func TestSchemasAreUnderstood(t *testing.T) {
	known := []string{
		"type", "format", "properties", "additionalProperties", "items", "required", "enum", "pattern",
		"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum",
		"x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields",
		// Of no meaning for what is valid; defaults are filled in by code.
		"$id", "$schema", "title", "description", "default",
	}
	for kind := range schemas() {
		data, err := schemafiles.Files.ReadFile(strings.ToLower(kind) + ".v1alpha1.json")
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := json.Unmarshal(data, &root); err != nil {
			t.Fatal(err)
		}
		walk(root, func(keyword string, value any) {
			if !slices.Contains(known, keyword) {
				t.Errorf("%s: keyword %q is not known", kind, keyword)
			}
			if keyword == "pattern" && patternWords[value.(string)] == "" {
				t.Errorf("%s: the pattern %s has no words", kind, value)
			}
			if keyword == "format" && value != "int32" && value != dateTime {
				t.Errorf("%s: the format %v is not known", kind, value)
			}
		})
	}
}

// walk visits every keyword of a schema.
func walk(s map[string]any, visit func(keyword string, value any)) {
	for keyword, value := range s {
		visit(keyword, value)
		below, ok := value.(map[string]any)
		switch {
		case !ok:
		case keyword == "properties":
			for _, property := range below {
				walk(property.(map[string]any), visit)
			}
		case keyword != "default":
			walk(below, visit)
		}
	}
}

// TestDefaultsAgree: the hub and editors read defaults from the schema, Load
// fills them in by code.
func TestDefaultsAgree(t *testing.T) {
	network := v1alpha1.ApplicationNetworkSpec{Namespaces: []v1alpha1.MeshNamespace{{Waypoint: &v1alpha1.Waypoint{}}}}
	defaultNetwork(&network)
	member := v1alpha1.Member{}
	defaultMember(&member, nil)
	for kind, spec := range map[string]any{
		v1alpha1.ApplicationNetworkKind: network,
		v1alpha1.MemberKind:             member.Spec,
	} {
		encoded, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		var filled any
		if err := json.Unmarshal(encoded, &filled); err != nil {
			t.Fatal(err)
		}
		data, err := schemafiles.Files.ReadFile(strings.ToLower(kind) + ".v1alpha1.json")
		if err != nil {
			t.Fatal(err)
		}
		var root defaulted
		if err := json.Unmarshal(data, &root); err != nil {
			t.Fatal(err)
		}
		root.Properties["spec"].compare(t, kind+".spec", filled)
	}
}

type defaulted struct {
	Default    any                   `json:"default"`
	Properties map[string]*defaulted `json:"properties"`
	Items      *defaulted            `json:"items"`
}

// compare compares the defaults of a schema with a value that has them.
func (d *defaulted) compare(t *testing.T, path string, value any) {
	if d.Default != nil && d.Default != value {
		t.Errorf("%s: the schema's default is %v, Load's %v", path, d.Default, value)
	}
	if list, ok := value.([]any); ok && d.Items != nil {
		d.Items.compare(t, path+"[0]", list[0])
	}
	if fields, ok := value.(map[string]any); ok {
		for name, property := range d.Properties {
			property.compare(t, path+"."+name, fields[name])
		}
	}
}

// TestEveryRuleHasACase: a rule that no case of testdata has seen at work may
// not work.
func TestEveryRuleHasACase(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen.Write(archive.Files[len(archive.Files)-1].Data)
	}
	for i, r := range rules {
		reason := r.reason
		if !strings.Contains(seen.String(), string(r.severity)+" "+reason+"\n") {
			t.Errorf("no case has the reason %s", reason)
		}
		if slices.ContainsFunc(rules[:i], func(other rule) bool { return other.reason == reason }) {
			t.Errorf("two rules have the reason %s", reason)
		}
	}
	for _, reason := range []string{
		ReasonSyntax, ReasonSymlinkIgnored, ReasonEmptyFleet, ReasonUnknownVersion, ReasonUnknownKind, ReasonFleetInGit,
		ReasonStatusInFile, ReasonNamespaceInFile, ReasonUnknownField, ReasonMissingField, ReasonDuplicateKey,
		ReasonDuplicateItem, ReasonMergeKey, ReasonWrongType, ReasonUnknownValue, ReasonInvalidValue,
	} {
		if !strings.Contains(seen.String(), " "+reason+"\n") {
			t.Errorf("no case has the reason %s", reason)
		}
	}
}
