// Command jsonschema turns the CustomResourceDefinitions of isthmus into the
// JSON Schemas of the files that people write, for editors and for fleet.Load:
//
//	jsonschema CRD-DIR SCHEMA-DIR
//
// A file differs from an object in a cluster: it has no status, its metadata
// is a few fields, and an unknown field is an error instead of pruned.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

const (
	// home is where the schemas can be fetched from, so that $id is also an
	// address that editors resolve.
	home = "https://raw.githubusercontent.com/isthmus-mesh/isthmus/main/docs/schema/"
	// namePattern is that of networks and members in Azure Kubernetes
	// Application Network: 3 to 24 characters.
	namePattern = `^[a-z0-9]([a-z0-9-]{1,22}[a-z0-9])$`
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: jsonschema CRD-DIR SCHEMA-DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "jsonschema:", err)
		os.Exit(2)
	}
}

func run(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			return fmt.Errorf("parse %q: %w", file, err)
		}
		for _, version := range crd.Spec.Versions {
			name := fmt.Sprintf("%s.%s.json", strings.ToLower(crd.Spec.Names.Kind), version.Name)
			if err := write(filepath.Join(to, name), fileSchema(&crd, version)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileSchema returns the schema of the file that holds an object of the CRD.
func fileSchema(crd *apiextensionsv1.CustomResourceDefinition, version apiextensionsv1.CustomResourceDefinitionVersion) *apiextensionsv1.JSONSchemaProps {
	kind := crd.Spec.Names.Kind
	schema := version.Schema.OpenAPIV3Schema
	schema.Schema = "http://json-schema.org/draft-07/schema#"
	schema.Title = kind
	delete(schema.Properties, "status")
	schema.Properties["apiVersion"] = only(crd.Spec.Group+"/"+version.Name, "The API group and version of the kind.")
	schema.Properties["kind"] = only(kind, "The kind of the object.")
	schema.Properties["metadata"] = metadata(kind)
	schema.Required = []string{"apiVersion", "kind", "metadata", "spec"}
	strict(schema)
	return schema
}

func only(value, description string) apiextensionsv1.JSONSchemaProps {
	raw, _ := json.Marshal(value) // a string always marshals
	return apiextensionsv1.JSONSchemaProps{
		Description: description,
		Type:        "string",
		Enum:        []apiextensionsv1.JSON{{Raw: raw}},
	}
}

// metadata returns the fields of metadata that make sense in a file.
func metadata(kind string) apiextensionsv1.JSONSchemaProps {
	text := apiextensionsv1.JSONSchemaProps{Type: "string"}
	texts := func(description string) apiextensionsv1.JSONSchemaProps {
		return apiextensionsv1.JSONSchemaProps{
			Description:          description,
			Type:                 "object",
			AdditionalProperties: &apiextensionsv1.JSONSchemaPropsOrBool{Schema: &text},
		}
	}
	name := apiextensionsv1.JSONSchemaProps{Type: "string", Description: "Name of the object, 3 to 24 characters.", Pattern: namePattern}
	out := apiextensionsv1.JSONSchemaProps{
		Description: "Name, labels and annotations of the object.",
		Type:        "object",
		Required:    []string{"name"},
		Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"labels":      texts("Labels of the object; rings select members by them."),
			"annotations": texts("Annotations of the object."),
		},
	}
	// A Fleet is applied to the hub by hand, so it says its namespace, and its
	// name is any that Kubernetes takes.
	if kind == "Fleet" {
		name.Description, name.Pattern = "Name of the object.", ""
		out.Properties["namespace"] = apiextensionsv1.JSONSchemaProps{
			Type: "string", Description: "Namespace on the hub; members and networks are written to it."}
	}
	out.Properties["name"] = name
	return out
}

// strict refuses unknown fields everywhere below the schema and drops what only
// an API server reads. The keys of list maps stay: they are how fleet.Load
// knows that an item is there twice.
func strict(schema *apiextensionsv1.JSONSchemaProps) {
	schema.XValidations = nil
	schema.XMapType = nil
	schema.XListType = nil
	if schema.Properties != nil {
		schema.AdditionalProperties = &apiextensionsv1.JSONSchemaPropsOrBool{Allows: false}
	}
	for name, property := range schema.Properties {
		strict(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		strict(schema.Items.Schema)
	}
}

func write(file string, schema *apiextensionsv1.JSONSchemaProps) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(schema)
	if err != nil {
		return fmt.Errorf("encode %q: %w", file, err)
	}
	fields["$id"] = home + filepath.Base(file)
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(fields); err != nil {
		return fmt.Errorf("encode %q: %w", file, err)
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
