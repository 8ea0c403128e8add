// Package schema holds the published JSON Schemas of the files that people
// write, one per kind, named "<kind>.v1alpha1.json" in lower case. They are
// generated from the Go types; editors read them from this folder, and
// fleet.Load checks files against the same bytes, so that the two never
// disagree. They are JSON Schema draft-07, which every editor reads.
package schema

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

// Files are the schemas.
//
//go:embed *.json
var Files embed.FS

const (
	draft      = "http://json-schema.org/draft-07/schema#"
	apiVersion = "isthmus.dev/v1alpha1"
)

// Kinds that have a schema.
var Kinds = []string{"ApplicationNetwork", "Member", "Fleet"}

// Of returns the schema of a kind. An error means that there is none.
func Of(kind string) ([]byte, error) {
	return Files.ReadFile(strings.ToLower(kind) + ".v1alpha1.json")
}

// OfAnyKind returns one schema for files of every kind, so that an editor needs
// no setting for each. It takes a document of another group, whatever it says.
func OfAnyKind() ([]byte, error) {
	definitions := map[string]any{}
	ours := object{"properties": object{"apiVersion": object{"const": apiVersion}}, "required": []string{"apiVersion"}}
	rules := []any{object{"if": ours, "then": object{"properties": object{"kind": object{"enum": Kinds}}, "required": []string{"kind"}}}}
	for _, kind := range Kinds {
		data, err := Of(kind)
		if err != nil {
			return nil, fmt.Errorf("read the schema of %s: %w", kind, err)
		}
		var definition map[string]json.RawMessage
		if err := json.Unmarshal(data, &definition); err != nil {
			return nil, fmt.Errorf("parse the schema of %s: %w", kind, err)
		}
		// Its address would make references in it relative to another file.
		delete(definition, "$id")
		delete(definition, "$schema")
		definitions[kind] = definition
		rules = append(rules, object{
			"if": object{"properties": object{"apiVersion": object{"const": apiVersion}, "kind": object{"const": kind}},
				"required": []string{"apiVersion", "kind"}},
			"then": object{"$ref": "#/definitions/" + kind},
		})
	}
	return json.Marshal(object{"$schema": draft, "title": apiVersion, "type": "object", "allOf": rules, "definitions": definitions})
}

type object map[string]any
