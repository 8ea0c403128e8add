package ambient

import (
	"maps"
	"slices"
	"strings"
)

// replace returns the value with each of its strings replaced, and whether any
// changed. Keys of maps stay. Values without a change are returned as they are,
// not copied.
func replace(value any, with func(string) string) (any, bool) {
	switch value := value.(type) {
	case string:
		replaced := with(value)
		return replaced, replaced != value
	case map[string]any:
		return replaceMap(value, with)
	case []any:
		return replaceSlice(value, with)
	default:
		return value, false
	}
}

func replaceMap(value map[string]any, with func(string) string) (any, bool) {
	var out map[string]any
	for key, element := range value {
		replaced, changed := replace(element, with)
		if !changed {
			continue
		}
		if out == nil {
			out = maps.Clone(value)
		}
		out[key] = replaced
	}
	if out == nil {
		return value, false
	}
	return out, true
}

func replaceSlice(value []any, with func(string) string) (any, bool) {
	var out []any
	for i, element := range value {
		replaced, changed := replace(element, with)
		if !changed {
			continue
		}
		if out == nil {
			out = slices.Clone(value)
		}
		out[i] = replaced
	}
	if out == nil {
		return value, false
	}
	return out, true
}

// contains reports whether one of the value's strings has the text in it.
func contains(value any, text string) bool {
	found := false
	replace(value, func(s string) string {
		found = found || strings.Contains(s, text)
		return s
	})
	return found
}
