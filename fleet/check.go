package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"
)

// maxValues is what one document may hold, aliases expanded: a few kilobytes of
// them could otherwise stand for more values than fit in memory. The depth of a
// document is bounded by its schema, since unknown fields are not entered.
const maxValues = 100_000

// maxDocumentProblems is how many problems of one document are told.
const maxDocumentProblems = 1000

// checker compares a parsed document with its schema, notes where each field
// is, and returns the document's value without what has a wrong type.
type checker struct {
	document *document
	before   int // lines of the file before the document
	budget   int
	stopped  bool
	problems Problems
}

// problem adds an error at the field, or at what holds it.
func (c *checker) problem(path, reason, message, hint string) {
	c.document.failed = append(c.document.failed, path)
	c.problems = append(c.problems, Problem{
		File: c.document.file, Line: c.document.line(path), Path: path,
		Severity: SeverityError, Reason: reason, Message: message, Hint: hint,
	})
}

// root checks a whole document.
func (c *checker) root(node *yaml.Node, s *schema) map[string]any {
	c.document.lines[""] = c.before + node.Line
	fields, _ := c.object(node, s, "")
	return fields
}

// value checks one value. It returns false when the value is of a wrong type or
// too much, and so cannot be used at all.
func (c *checker) value(node *yaml.Node, s *schema, path string) (any, bool) {
	if node.Kind == yaml.AliasNode {
		return c.value(node.Alias, s, path)
	}
	switch {
	case s.Free:
		return c.freeObject(node, s, path)
	case s.Type == "object":
		return c.object(node, s, path)
	case s.Type == "array":
		return c.array(node, s, path)
	default:
		return c.scalar(node, s, path)
	}
}

// spend takes one value off the document's budget and reports, once, that
// there is none left.
func (c *checker) spend(path string) bool {
	if c.stopped {
		return false
	}
	c.budget--
	switch {
	case c.budget == 0:
		c.stopped = true
		c.problem(path, ReasonLimitExceeded, fmt.Sprintf("the document has more than %d values", maxValues), "write fewer aliases")
	case len(c.problems) >= maxDocumentProblems:
		c.stopped = true
		c.problem(path, ReasonLimitExceeded, fmt.Sprintf("the document has more than %d problems", maxDocumentProblems), "")
	}
	return !c.stopped
}

// object checks a mapping.
func (c *checker) object(node *yaml.Node, s *schema, path string) (map[string]any, bool) {
	if node.Kind != yaml.MappingNode || node.ShortTag() != "!!map" {
		c.wrongType(node, s, path)
		return nil, false
	}
	out := map[string]any{}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content) && c.spend(path); i += 2 {
		key := node.Content[i]
		field := join(path, key.Value, s)
		if first, twice := seen[key.Value]; twice {
			c.document.failed = append(c.document.failed, field)
			c.problems = append(c.problems, Problem{
				File: c.document.file, Line: c.before + key.Line, Path: field, Severity: SeverityError,
				Reason: ReasonDuplicateKey, Message: fmt.Sprintf("set twice, first on line %d", first)})
			continue
		}
		seen[key.Value] = c.before + key.Line
		property := c.property(key, s, path)
		if property == nil {
			continue
		}
		c.document.lines[field] = c.before + key.Line
		if value, ok := c.value(node.Content[i+1], property, field); ok {
			out[key.Value] = value
		}
	}
	for _, name := range s.Required {
		if _, there := seen[name]; !there {
			c.problem(join(path, name, s), ReasonMissingField, "not set", c.missingHint(s.Properties[name]))
		}
	}
	return out, true
}

// property returns the schema of a key's value, or nil after reporting the key.
func (c *checker) property(key *yaml.Node, s *schema, path string) *schema {
	if property := s.Properties[key.Value]; property != nil && key.Kind == yaml.ScalarNode {
		return property
	}
	if s.AdditionalProperties.schema != nil && key.Kind == yaml.ScalarNode && key.ShortTag() == "!!str" {
		return s.AdditionalProperties.schema
	}
	field := join(path, key.Value, s)
	reason, message, hint := ReasonUnknownField, "unknown field", suggest(key.Value, s.fields())
	switch {
	case key.ShortTag() == "!!merge":
		reason, message, hint = ReasonMergeKey, "merge keys are not read", "write the fields out"
	case s.Properties == nil:
		reason, message, hint = ReasonWrongType, "the key is not a string", "write it in quotes"
	case key.Kind != yaml.ScalarNode:
		field = path
		message = "a key that is not a name"
	case field == "status":
		reason, message, hint = ReasonStatusInFile, "status is written by the hub only", "remove it"
	case field == "metadata.namespace":
		reason, message = ReasonNamespaceInFile, "the namespace on the hub is that of the Fleet, not of the file"
		hint = "remove it"
	}
	c.document.lines[field] = c.before + key.Line
	c.problem(field, reason, message, hint)
	return nil
}

func (c *checker) missingHint(s *schema) string {
	if len(s.Enum) > 0 {
		return "one of " + strings.Join(s.Enum, ", ")
	}
	return ""
}

// array checks a sequence, and that the names in a list of named items differ.
func (c *checker) array(node *yaml.Node, s *schema, path string) (any, bool) {
	if node.Kind != yaml.SequenceNode || node.ShortTag() != "!!seq" {
		c.wrongType(node, s, path)
		return nil, false
	}
	out := []any{}
	seen := map[any]int{}
	for i, item := range node.Content {
		if !c.spend(path) {
			break
		}
		field := fmt.Sprintf("%s[%d]", path, i)
		c.document.lines[field] = c.before + item.Line
		value, ok := c.value(item, s.Items, field)
		if !ok {
			continue
		}
		out = append(out, value)
		for _, key := range s.ListMapKeys {
			name, _ := value.(map[string]any)[key].(string)
			if first, twice := seen[name]; twice && name != "" {
				c.problem(field+"."+key, ReasonDuplicateItem, fmt.Sprintf("%s is in the list twice, first on line %d", quote(name), first), "")
				continue
			}
			seen[name] = c.before + item.Line
		}
	}
	if len(node.Content) < s.MinItems {
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("has %d items, want at least %d", len(node.Content), s.MinItems), "")
	}
	if s.MaxItems != nil && len(node.Content) > *s.MaxItems {
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("has %d items, at most %d are allowed", len(node.Content), *s.MaxItems), "")
	}
	return out, true
}

// scalar checks a single value.
func (c *checker) scalar(node *yaml.Node, s *schema, path string) (any, bool) {
	tag := node.ShortTag()
	switch {
	case node.Kind != yaml.ScalarNode:
	case s.Format == dateTime && (tag == "!!str" || tag == "!!timestamp"):
		return node.Value, c.timeFits(node.Value, path)
	case s.Type == "string" && tag == "!!str":
		c.text(node.Value, s, path)
		return node.Value, c.durationFits(node.Value, s, path)
	case s.Type == "boolean" && tag == "!!bool":
		var value bool
		if node.Decode(&value) == nil {
			return value, true
		}
	case s.Type == "integer" && tag == "!!int":
		return c.integer(node, s, path)
	}
	c.wrongType(node, s, path)
	return nil, false
}

// text checks a string.
func (c *checker) text(value string, s *schema, path string) {
	length := utf8.RuneCountInString(value)
	switch {
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, value):
		c.problem(path, ReasonUnknownValue, fmt.Sprintf("%s is not one of %s", quote(value), strings.Join(s.Enum, ", ")), meant(value, s.Enum))
	case length < s.MinLength:
		c.problem(path, ReasonInvalidValue, "empty", "")
	case s.MaxLength != nil && length > *s.MaxLength:
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("has %d characters, at most %d are allowed", length, *s.MaxLength), "")
	case s.pattern != nil && !s.pattern.MatchString(value):
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("found %s, want %s", quote(value), patternWords[s.Pattern]), "")
	}
}

// durationFits reports whether the value, if it is to be a duration, can be
// one: the pattern lets numbers pass that are too large for it.
func (c *checker) durationFits(value string, s *schema, path string) bool {
	if s.Pattern != durationPattern {
		return true
	}
	_, err := time.ParseDuration(value)
	if err != nil && s.pattern.MatchString(value) {
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("%s is too long", quote(value)), "")
	}
	return err == nil
}

// dateTime is the format of times, which YAML reads as such without quotes.
const dateTime = "date-time"

// timeFits reports whether the value is a time as Kubernetes reads it.
func (c *checker) timeFits(value, path string) bool {
	_, err := time.Parse(time.RFC3339, value)
	if err != nil {
		c.problem(path, ReasonInvalidValue, quote(value)+" is not a time", "such as 2026-03-01T12:00:00Z, in full and with its zone")
	}
	return err == nil
}

// decimal matches whole numbers that every program reads as the same: 010 is
// eight to some and ten to others.
var decimal = regexp.MustCompile(`^[-+]?(?:0|[1-9][0-9]*)$`)

// integer checks a whole number.
func (c *checker) integer(node *yaml.Node, s *schema, path string) (any, bool) {
	if !decimal.MatchString(node.Value) {
		c.problem(path, ReasonInvalidValue, quote(node.Value)+" is not a decimal number",
			"write it in digits, without leading zeros or underscores")
		return nil, false
	}
	value, err := strconv.ParseInt(node.Value, 10, 64)
	if err != nil || s.Format == "int32" && int64(int32(value)) != value {
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("%s is out of range", quote(node.Value)), "")
		return nil, false
	}
	switch {
	case s.Minimum != nil && value < *s.Minimum:
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("%d is less than %d", value, *s.Minimum), "")
	case s.Maximum != nil && value > *s.Maximum:
		c.problem(path, ReasonInvalidValue, fmt.Sprintf("%d is more than %d", value, *s.Maximum), "")
	}
	return value, true
}

// join returns the path of a field: a key of a free map, which may hold dots,
// stands in brackets.
func join(path, name string, s *schema) string {
	if shown := quote(name); len(shown) != len(name)+2 {
		name = shown
	}
	switch {
	case s.Properties == nil:
		return path + "[" + name + "]"
	case path == "":
		return name
	default:
		return path + "." + name
	}
}
