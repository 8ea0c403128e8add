package fleet

import (
	"fmt"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// wrongType reports a value of another type than the schema's. Text is never
// repeated in the message: what was pasted in the wrong place may be secret.
func (c *checker) wrongType(node *yaml.Node, s *schema, path string) {
	c.problem(path, ReasonWrongType, fmt.Sprintf("want %s, found %s", wanted(s), found(node)), typeHint(node, s))
}

func wanted(s *schema) string {
	switch s.Type {
	case "object":
		return "fields"
	case "array":
		return "a list"
	case "boolean":
		return "true or false"
	case "integer":
		return "a whole number"
	default:
		return "a string"
	}
}

// tagged reports whether the value has a tag that is not its own: of another
// program, or one that it cannot have.
func tagged(node *yaml.Node) bool {
	switch tag := node.ShortTag(); tag {
	case "!!map":
		return node.Kind != yaml.MappingNode
	case "!!seq":
		return node.Kind != yaml.SequenceNode
	case "!!bool":
		var value bool
		return node.Kind != yaml.ScalarNode || node.Decode(&value) != nil
	case "!!null", "!!str", "!!int", "!!float", "!!timestamp":
		return node.Kind != yaml.ScalarNode
	default:
		return true
	}
}

func found(node *yaml.Node) string {
	tag := node.ShortTag()
	if tagged(node) {
		return "a value with the tag " + shorten(tag)
	}
	switch tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "the number " + shorten(node.Value)
	case "!!bool":
		return node.Value
	case "!!timestamp":
		return "the date " + shorten(node.Value)
	case "!!map":
		return "fields"
	default:
		return "a list"
	}
}

func typeHint(node *yaml.Node, s *schema) string {
	scalar := node.Kind == yaml.ScalarNode
	switch {
	case tagged(node):
		return "remove the tag: no file is read and nothing is converted"
	case node.ShortTag() == "!!null":
		return "give it a value, or remove the line"
	case s.Type == "string" && scalar:
		return fmt.Sprintf("write it in quotes: %s", quote(node.Value))
	case s.Type == "boolean" && scalar:
		return yesNo(node.Value)
	case s.Type == "array" && node.ShortTag() == "!!map":
		return "begin each item with a dash"
	case s.Type == "array" && scalar && s.Items.Type == "string":
		return "write it in brackets, or on a line of its own after a dash"
	case s.Type == "object" && len(s.Properties) > 0:
		return "its fields are " + strings.Join(s.fields(), ", ")
	case s.Type == "integer" && node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		return "write it without quotes"
	}
	return ""
}

// yesNo returns a hint for the words that older YAML took for truth.
func yesNo(value string) string {
	switch strings.ToLower(value) {
	case "yes", "on", "true", "y":
		return "write true"
	case "no", "off", "false", "n":
		return "write false"
	}
	return ""
}
