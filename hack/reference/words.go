package main

import (
	"fmt"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// typeOf says in words what a field holds.
func typeOf(f *field) (string, error) {
	words, err := valueOf(f.schema)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.Path, err)
	}
	return words, nil
}

func valueOf(s *schema) (string, error) {
	switch {
	case s.Free:
		return "any fields", nil
	case s.Type == "object" && s.AdditionalProperties.schema != nil:
		return "text by name", nil
	case s.Type == "object":
		return "object", nil
	case s.Type == "array":
		return listOf(s)
	case s.Type == "boolean":
		return "`true` or `false`", nil
	case s.Type == "integer":
		return "whole number" + between(s), nil
	case len(s.Enum) > 0:
		return "`" + strings.Join(s.Enum, "`, `") + "`", nil
	case s.Format == "date-time":
		return "time", nil
	case s.Type == "string":
		return text(s)
	}
	return "", fmt.Errorf("no words for the type %q: add them in hack/reference", s.Type)
}

func listOf(s *schema) (string, error) {
	words := "list"
	switch {
	case s.MinItems > 0 && s.MaxItems > 0:
		words += fmt.Sprintf(" of %d to %d", s.MinItems, s.MaxItems)
	case s.MinItems > 0:
		words += fmt.Sprintf(" of %d or more", s.MinItems)
	case s.MaxItems > 0:
		words += fmt.Sprintf(" of up to %d", s.MaxItems)
	}
	if len(s.Items.Properties) == 0 {
		items, err := valueOf(s.Items)
		return words + ": " + items, err
	}
	words += ": objects"
	if len(s.ListMapKeys) > 0 {
		words += ", each `" + strings.Join(s.ListMapKeys, "`, `") + "` once"
	}
	return words, nil
}

func between(s *schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf(" from %d to %d", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf(" from %d", *s.Minimum)
	case s.Maximum != nil:
		return fmt.Sprintf(" up to %d", *s.Maximum)
	}
	return ""
}

func text(s *schema) (string, error) {
	words := "text"
	if s.Pattern != "" {
		if words = fleet.PatternWords(s.Pattern); words == "" {
			return "", fmt.Errorf("the pattern %s has no words: add them to patternWords in fleet", s.Pattern)
		}
	}
	switch {
	case s.MaxLength > 0:
		words += fmt.Sprintf("; up to %d characters", s.MaxLength)
	case s.MinLength > 0 && s.Pattern == "":
		words += ", not empty"
	}
	return words, nil
}
