package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// unclear returns what in a patch is read differently by those who read it, or
// stands for more than it says; or nothing.
func unclear(node *yaml.Node, depth int) (message, hint string) {
	switch {
	case depth > maxPatchDepth:
		return fmt.Sprintf("nested deeper than %d", maxPatchDepth), ""
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		return "anchors and aliases are not read in patches", "write the values out"
	case node.Style&yaml.TaggedStyle != 0:
		return fmt.Sprintf("the tag %s is not read in patches", shorten(node.ShortTag())), "write the value itself"
	case node.Kind == yaml.ScalarNode:
		return unclearScalar(node)
	}
	seen := map[string]bool{}
	for i, element := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			switch {
			case element.ShortTag() == "!!merge":
				return "merge keys are not read in patches", "write the fields out"
			case element.Kind != yaml.ScalarNode:
				return "a key that is not a name", ""
			case seen[element.Value]:
				return fmt.Sprintf("%s is set twice", quote(element.Value)), ""
			}
			seen[element.Value] = true
		}
		if message, hint := unclear(element, depth+1); message != "" {
			return message, hint
		}
	}
	return "", ""
}

// oldTruth are words that YAML 1.1 takes for truth values, and YAML 1.2 not.
var oldTruth = regexp.MustCompile(`^(?i:y|yes|on|n|no|off)$`)

func unclearScalar(node *yaml.Node) (message, hint string) {
	plain := node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	if plain && oldTruth.MatchString(node.Value) {
		return fmt.Sprintf("%s is a string to some programs and a truth value to others", node.Value), "write it in quotes, or true or false"
	}
	if node.ShortTag() == "!!float" {
		text := strings.ToLower(strings.TrimLeft(node.Value, "+-"))
		if text == ".inf" || text == ".nan" {
			return fmt.Sprintf("%s is not a number that JSON has", node.Value), ""
		}
	}
	return "", ""
}

// patchOperations are the operations of JSON 6902 that a patch may have.
var patchOperations = []string{"add", "remove", "replace", "move", "test"}

// brokenPointer matches what no JSON pointer has.
// Source: RFC 6901, section 3.
var brokenPointer = regexp.MustCompile(`~([^01]|$)`)

// invalidOperations finds operations that cannot be carried out on any object.
func invalidOperations(operations *yaml.Node, path string, report field) {
	for i, operation := range operations.Content {
		if message, hint := invalidOperation(operation); message != "" {
			report(path, fmt.Sprintf("operation %d: %s", i+1, message), hint)
		}
	}
}

func invalidOperation(operation *yaml.Node) (message, hint string) {
	op, to := lookup(operation, "op"), lookup(operation, "path")
	switch {
	case operation.Kind != yaml.MappingNode:
		return "not a mapping", "write {op: add, path: /…, value: …}"
	case op == nil || op.Kind != yaml.ScalarNode:
		return "has no op", "one of " + strings.Join(patchOperations, ", ")
	case op.Value == "copy":
		return "", "" // forbiddenOperations says so
	case !slices.Contains(patchOperations, op.Value):
		return fmt.Sprintf("unknown op %s", quote(op.Value)), suggest(op.Value, patchOperations)
	case to == nil || to.Kind != yaml.ScalarNode:
		return "has no path", ""
	}
	if message := invalidPointer("path", to.Value); message != "" {
		return message, `write a path such as "/spec/replicas"`
	}
	needsValue := op.Value == "add" || op.Value == "replace" || op.Value == "test"
	from := lookup(operation, "from")
	switch {
	case needsValue && lookup(operation, "value") == nil:
		return op.Value + " has no value", ""
	case op.Value == "move" && (from == nil || from.Kind != yaml.ScalarNode):
		return "move has no from", ""
	case op.Value == "move":
		return invalidPointer("from", from.Value), ""
	}
	return "", ""
}

// invalidPointer says what is wrong with a JSON pointer into an object.
func invalidPointer(name, pointer string) string {
	switch {
	case pointer == "":
		return name + " is empty: it would be the object itself"
	case pointer[0] != '/':
		return fmt.Sprintf("%s %s does not begin with a slash", name, quote(pointer))
	case brokenPointer.MatchString(pointer):
		return fmt.Sprintf("%s %s has a ~ that is neither ~0 nor ~1", name, quote(pointer))
	}
	for part := range strings.SplitSeq(pointer, "/") {
		if _, err := strconv.ParseInt(part, 10, 32); err != nil && digits.MatchString(part) {
			return fmt.Sprintf("%s %s has an index that no list has", name, quote(pointer))
		}
	}
	return ""
}

var digits = regexp.MustCompile(`^-?[0-9]+$`)

// forbiddenOperations finds operations that are made to cost memory.
func forbiddenOperations(operations *yaml.Node, path string, report field) {
	for _, operation := range operations.Content {
		if op := lookup(operation, "op"); op != nil && op.Value == "copy" {
			report(path, "the operation copy is not allowed", "copies of copies grow without bound; write the value with add")
		}
	}
}
