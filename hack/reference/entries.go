package main

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed fields.yaml
var fieldsFile []byte

// entry is what no type says of a field.
type entry struct {
	// Since is the version of isthmus that brought the field.
	Since string `json:"since"`
	// AppNet is the field's name in Azure Kubernetes Application Network, empty
	// when it has none.
	AppNet string `json:"appnet"`
}

// entries by kind and path; "path.*" speaks of all that is below the path and
// has no entry of its own.
type entries map[string]map[string]entry

func readEntries() (entries, error) {
	var out entries
	if err := unmarshal(fieldsFile, &out); err != nil {
		return nil, fmt.Errorf("parse hack/reference/fields.yaml: %w", err)
	}
	return out, nil
}

// unmarshal reads strict YAML.
func unmarshal(data []byte, into any) error { return yaml.UnmarshalStrict(data, into) }

// of returns the entry of a field, and the key under which it is.
func (e entries) of(kind, path string) (entry, string) {
	if found, ok := e[kind][path]; ok {
		return found, path
	}
	for at := path; strings.Contains(at, "."); {
		at = at[:strings.LastIndex(at, ".")]
		key := strings.TrimSuffix(at, "[]") + ".*"
		if found, ok := e[kind][key]; ok {
			return entry{Since: found.Since, AppNet: found.AppNet}, key
		}
	}
	return entry{}, ""
}

// check reports every field without an entry and every entry without a field.
func (e entries) check(roots map[string]*field) error {
	var missing, stale []string
	for _, kind := range kinds {
		used := map[string]bool{}
		var lines []string
		roots[kind].walk(func(f *field) {
			found, key := e.of(kind, f.Path)
			used[key] = true
			if found.Since == "" {
				lines = append(lines, fmt.Sprintf("  %s: {since: %q}", f.Path, newest))
			}
		})
		if len(lines) > 0 {
			missing = append(append(missing, kind+":"), lines...)
		}
		for _, key := range slices.Sorted(maps.Keys(e[kind])) {
			if !used[key] {
				stale = append(stale, kind+"."+key)
			}
		}
	}
	var errs []error
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("fields without an entry: add to hack/reference/fields.yaml, with "+
			"\"appnet: NAME\" where Azure Kubernetes Application Network has the field:\n%s", strings.Join(missing, "\n")))
	}
	if len(stale) > 0 {
		errs = append(errs, fmt.Errorf("entries without a field: remove from hack/reference/fields.yaml: %s", strings.Join(stale, ", ")))
	}
	return errors.Join(errs...)
}

// newest is the version of isthmus that is being made.
const newest = "0.1"
