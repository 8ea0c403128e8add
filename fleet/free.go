package fleet

import (
	"fmt"
	"math"

	yaml "go.yaml.in/yaml/v3"
)

// maxDepth is how deep fields that no schema bounds may be nested.
const maxDepth = 50

// freeObject reads a mapping whose fields are not ours to know, as JSON values.
// Where each of them is, is noted, for those who know them.
func (c *checker) freeObject(node *yaml.Node, s *schema, path string) (map[string]any, bool) {
	if node.ShortTag() != "!!map" {
		c.wrongType(node, s, path)
		return nil, false
	}
	value, ok := c.free(node, path, maxDepth)
	fields, _ := value.(map[string]any)
	return fields, ok
}

// free reads any value that JSON has. It returns false when the value cannot be
// used.
func (c *checker) free(node *yaml.Node, path string, depth int) (any, bool) {
	if !c.spend(path) {
		return nil, false
	}
	if depth == 0 {
		c.problem(path, ReasonLimitExceeded, fmt.Sprintf("nested more than %d deep", maxDepth), "")
		return nil, false
	}
	switch node.Kind {
	case yaml.AliasNode:
		return c.free(node.Alias, path, depth-1)
	case yaml.MappingNode:
		return c.freeFields(node, path, depth)
	case yaml.SequenceNode:
		out := make([]any, 0, len(node.Content))
		for i, item := range node.Content {
			field := fmt.Sprintf("%s[%d]", path, i)
			c.document.lines[field] = c.before + item.Line
			value, ok := c.free(item, field, depth-1)
			if !ok {
				return nil, false
			}
			out = append(out, value)
		}
		return out, true
	default:
		return c.freeScalar(node, path)
	}
}

func (c *checker) freeFields(node *yaml.Node, path string, depth int) (any, bool) {
	out := map[string]any{}
	whole := true
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		field := join(path, key.Value, anyFields)
		c.document.lines[field] = c.before + key.Line
		_, twice := out[key.Value]
		switch {
		case key.ShortTag() == "!!merge":
			c.problem(field, ReasonMergeKey, "merge keys are not read", "write the fields out")
			whole = false
			continue
		case key.ShortTag() != "!!str":
			c.problem(field, ReasonWrongType, "the key is not a string", "write it in quotes")
			whole = false
			continue
		case twice:
			c.problem(field, ReasonDuplicateKey, "set twice", "")
			whole = false
			continue
		}
		value, ok := c.free(node.Content[i+1], field, depth-1)
		out[key.Value] = value
		whole = whole && ok
	}
	return out, whole
}

// anyFields is a schema whose fields have names, as a path writes them.
var anyFields = &schema{Properties: map[string]*schema{}}

func (c *checker) freeScalar(node *yaml.Node, path string) (any, bool) {
	switch node.ShortTag() {
	case "!!str":
		return node.Value, true
	case "!!null":
		return nil, true
	case "!!bool":
		var truth bool
		if err := node.Decode(&truth); err == nil {
			return truth, true
		}
	case "!!int":
		var number int64
		if err := node.Decode(&number); err == nil {
			return number, true
		}
	case "!!float":
		var number float64
		if err := node.Decode(&number); err == nil && !math.IsNaN(number) && !math.IsInf(number, 0) {
			return number, true
		}
	}
	c.problem(path, ReasonWrongType, fmt.Sprintf("%s is not a value that JSON has", quote(node.Value)), "")
	return nil, false
}
