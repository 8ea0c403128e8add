package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// typesFolder holds the Go types, below the top of the repository.
const typesFolder = "fleet/v1alpha1"

// choice is what the docs say of the values of one type, by value.
type choice map[string]string

// readChoices returns what the docs of constants say of the values that enums
// have, which the schemas do not carry.
func readChoices(folder string) ([]choice, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_types.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("read types: none in %q: %w", folder, err)
	}
	byType := map[string]choice{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok {
				addChoice(byType, spec)
			}
			return true
		})
	}
	var out []choice
	for _, values := range byType {
		out = append(out, values)
	}
	return out, nil
}

// addChoice adds a constant such as
//
//	// MTLSStrict refuses plain text.
//	MTLSStrict MTLSMode = "Strict"
//
// with the value in place of the constant's name.
func addChoice(byType map[string]choice, spec *ast.ValueSpec) {
	name, isNamed := spec.Type.(*ast.Ident)
	if !isNamed || len(spec.Values) != 1 || spec.Doc == nil {
		return
	}
	literal, isLiteral := spec.Values[0].(*ast.BasicLit)
	if !isLiteral || literal.Kind != token.STRING {
		return
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		return
	}
	if byType[name.Name] == nil {
		byType[name.Name] = choice{}
	}
	doc := strings.Join(strings.Fields(spec.Doc.Text()), " ")
	doc = strings.TrimPrefix(doc, spec.Names[0].Name)
	byType[name.Name][value] = "`" + value + "`" + strings.TrimSuffix(doc, ".")
}

// choiceOf returns the docs of the values of an enum, in its order; nil when
// its values speak for themselves.
func choiceOf(choices []choice, enum []string) []string {
	for _, values := range choices {
		if len(values) != len(enum) || slices.ContainsFunc(enum, func(value string) bool { return values[value] == "" }) {
			continue
		}
		var out []string
		for _, value := range enum {
			out = append(out, values[value])
		}
		return out
	}
	return nil
}
