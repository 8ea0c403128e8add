package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// schema is the part of JSON Schema that the generated files use.
type schema struct {
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Description          string             `json:"description"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties extra              `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Required             []string           `json:"required"`
	Enum                 []string           `json:"enum"`
	Default              any                `json:"default"`
	Pattern              string             `json:"pattern"`
	MinLength            int                `json:"minLength"`
	MaxLength            int                `json:"maxLength"`
	MinItems             int                `json:"minItems"`
	MaxItems             int                `json:"maxItems"`
	Minimum              *int64             `json:"minimum"`
	Maximum              *int64             `json:"maximum"`
	ListMapKeys          []string           `json:"x-kubernetes-list-map-keys"`
	Free                 bool               `json:"x-kubernetes-preserve-unknown-fields"`
	// Rules between fields, which only CRDs have.
	Rules []struct {
		Message string `json:"message"`
	} `json:"x-kubernetes-validations"`
}

// extra is what properties without a name of their own are; nil for none.
type extra struct{ *schema }

// UnmarshalJSON reads "false" or a schema.
func (e *extra) UnmarshalJSON(data []byte) error {
	if string(data) == "false" {
		return nil
	}
	return json.Unmarshal(data, &e.schema)
}

// field is one field of a kind, with the fields in it.
type field struct {
	*schema
	// Path from the object's root, such as "spec.namespaces[].name".
	Path     string
	Name     string
	Required bool
	// Fields in it or, for a list, in its items; sorted by name.
	Fields []*field
}

// kinds in the order of the page.
var kinds = []string{"ApplicationNetwork", "Member", "Fleet"}

// readKind returns the root of a kind's fields: metadata and spec as people
// write them, the rules between fields, and the status that the hub writes.
func readKind(dir, kind string) (*field, error) {
	name := strings.ToLower(kind)
	var file schema
	if err := readYAML(filepath.Join(dir, "docs/schema", name+".v1alpha1.json"), &file); err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema schema }
			}
		}
	}
	if err := readYAML(filepath.Join(dir, "deploy/crds", "isthmus.dev_"+name+"s.yaml"), &crd); err != nil {
		return nil, err
	}
	if len(crd.Spec.Versions) != 1 {
		return nil, fmt.Errorf("the CRD of %s has %d versions, want 1", kind, len(crd.Spec.Versions))
	}
	hub := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	file.Properties["spec"] = hub.Properties["spec"]
	file.Properties["status"] = hub.Properties["status"]
	delete(file.Properties, "apiVersion")
	delete(file.Properties, "kind")
	return newField("", "", &file), nil
}

func readYAML(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("parse %q: %w", file, err)
	}
	return nil
}

func newField(path, name string, s *schema) *field {
	f := &field{schema: s, Path: path, Name: name}
	if name == "conditions" {
		return f // as every Kubernetes object has them
	}
	inside := s
	if s.Type == "array" {
		inside = s.Items
		path += "[]"
	}
	for _, name := range slices.Sorted(maps.Keys(inside.Properties)) {
		below := newField(strings.TrimPrefix(path+"."+name, "."), name, inside.Properties[name])
		below.Required = slices.Contains(inside.Required, name)
		f.Fields = append(f.Fields, below)
	}
	return f
}

// walk visits the fields below f, each before those in it.
func (f *field) walk(visit func(*field)) {
	for _, below := range f.Fields {
		visit(below)
		below.walk(visit)
	}
}

// rules are the messages of the rules between the fields in f.
func (f *field) rules() []string {
	inside := f.schema
	if f.Type == "array" {
		inside = f.Items
	}
	var out []string
	for _, rule := range inside.Rules {
		out = append(out, rule.Message)
	}
	return out
}
