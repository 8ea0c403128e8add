package diff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// fieldChanges returns the fields in which two values differ, sorted by path. An
// element of a list is called by its name, where all have one; text that is YAML,
// as in a ConfigMap, is looked into.
func fieldChanges(before, after map[string]any) []FieldChange {
	return texts{}.changes(before, after)
}

// texts are texts of YAML that were compared already, with how they differ: most
// members have the same large ones. The paths begin at the text.
type texts map[[2]string][]FieldChange

func (known texts) changes(before, after map[string]any) []FieldChange {
	var out []FieldChange
	known.compareMaps("", before, after, &out)
	slices.SortFunc(out, func(a, b FieldChange) int { return strings.Compare(a.Path, b.Path) })
	return out
}

func (known texts) compareMaps(path string, before, after map[string]any, out *[]FieldChange) {
	names := maps.Clone(before)
	if names == nil {
		names = map[string]any{}
	}
	maps.Copy(names, after)
	for name := range names {
		was, existed := before[name]
		is, exists := after[name]
		at := field(path, name)
		switch {
		case !existed:
			*out = append(*out, FieldChange{Path: at, After: encode(is)})
		case !exists:
			*out = append(*out, FieldChange{Path: at, Before: encode(was)})
		default:
			known.compareValues(at, was, is, out)
		}
	}
}

func (known texts) compareValues(path string, before, after any, out *[]FieldChange) {
	if reflect.DeepEqual(before, after) {
		return
	}
	switch was := before.(type) {
	case map[string]any:
		if is, ok := after.(map[string]any); ok {
			known.compareMaps(path, was, is, out)
			return
		}
	case []any:
		if is, ok := after.([]any); ok && known.compareLists(path, was, is, out) {
			return
		}
	case string:
		if is, ok := after.(string); ok && known.compareTexts(path, was, is, out) {
			return
		}
	}
	*out = append(*out, FieldChange{Path: path, Before: encode(before), After: encode(after)})
}

// compareLists compares by name, where all elements have one, else one by one
// where there are as many; it tells whether it could.
func (known texts) compareLists(path string, before, after []any, out *[]FieldChange) bool {
	was, named := byName(before)
	is, alsoNamed := byName(after)
	if named && alsoNamed {
		for _, name := range slices.Sorted(maps.Keys(is)) {
			if _, existed := was[name]; !existed {
				*out = append(*out, FieldChange{Path: path + "[" + name + "]", After: encode(is[name])})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(was)) {
			if _, exists := is[name]; !exists {
				*out = append(*out, FieldChange{Path: path + "[" + name + "]", Before: encode(was[name])})
				continue
			}
			known.compareValues(path+"["+name+"]", was[name], is[name], out)
		}
		return true
	}
	if len(before) != len(after) || scalars(before) {
		return false
	}
	for i := range before {
		known.compareValues(fmt.Sprintf("%s[%d]", path, i), before[i], after[i], out)
	}
	return true
}

func scalars(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool {
		switch v.(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// byName is possible where every element has a name of its own.
func byName(list []any) (map[string]any, bool) {
	out := map[string]any{}
	for _, element := range list {
		fields, _ := element.(map[string]any)
		name, ok := fields["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = element
	}
	return out, true
}

// compareTexts compares what two texts of YAML say; it tells whether both are
// maps. Text that differs in how it is written only is left to be told as text.
func (known texts) compareTexts(path, before, after string, out *[]FieldChange) bool {
	if !strings.Contains(before, "\n") && !strings.Contains(after, "\n") {
		return false
	}
	key := [2]string{before, after}
	changes, seen := known[key]
	if !seen {
		var was, is map[string]any
		if yaml.Unmarshal([]byte(before), &was) == nil && yaml.Unmarshal([]byte(after), &is) == nil && was != nil && is != nil {
			known.compareMaps("", was, is, &changes)
		}
		known[key] = changes
	}
	for _, c := range changes {
		c.Path = joined(path, c.Path)
		*out = append(*out, c)
	}
	return len(changes) > 0
}

// joined is the path of a field in a text.
func joined(path, inside string) string {
	if strings.HasPrefix(inside, "[") {
		return path + inside
	}
	return path + "." + inside
}

// field is the path of a field; a name that is no word stands in brackets.
func field(path, name string) string {
	plain := !strings.ContainsAny(name, "./[]")
	switch {
	case !plain:
		return path + "[" + name + "]"
	case path == "":
		return name
	}
	return path + "." + name
}

// encode is the value as JSON on one line. What Kubernetes and YAML decode to can
// be encoded.
func encode(value any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(value))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
