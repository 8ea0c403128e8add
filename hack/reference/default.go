package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/isthmus-mesh/isthmus/fleet"
)

//go:embed sample
var sampleFiles embed.FS

// sample is a fleet that says as little as it can, as it is written and as
// fleet.Load returns it. What is only in the second is a default.
type sample struct {
	name            string // of the object, which some fields take as default
	written, loaded map[string]any
	// alternatives are other objects of the kind, for what excludes what this one
	// says.
	alternatives []sample
}

// loadSamples returns the samples by kind.
func loadSamples() (map[string]sample, error) {
	files, err := fs.Sub(sampleFiles, "sample")
	if err != nil {
		return nil, err
	}
	f, problems := fleet.Load(files)
	if errs := problems.Errors(); len(errs) > 0 {
		return nil, fmt.Errorf("hack/reference/sample does not load: %s", errs[0])
	}
	network, err := loadSample(files, "network.yaml", f.Networks[0])
	if err != nil {
		return nil, err
	}
	for i, file := range []string{"network-csi.yaml", "network-eso.yaml"} {
		other, err := loadSample(files, file, f.Networks[i+1])
		if err != nil {
			return nil, err
		}
		network.alternatives = append(network.alternatives, other)
	}
	member, err := loadSample(files, "member.yaml", f.Members[0])
	if err != nil {
		return nil, err
	}
	aks, err := loadSample(files, "member-aks.yaml", f.Members[1])
	if err != nil {
		return nil, err
	}
	member.alternatives = []sample{aks}
	return map[string]sample{"ApplicationNetwork": network, "Member": member}, nil
}

// loadSample returns what a file and the object that was loaded from it say.
func loadSample(files fs.FS, file string, object any) (sample, error) {
	var s sample
	encoded, err := json.Marshal(object)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(encoded, &s.loaded); err != nil {
		return s, err
	}
	s.name = s.loaded["metadata"].(map[string]any)["name"].(string)
	data, err := fs.ReadFile(files, file)
	if err != nil {
		return s, err
	}
	if err := unmarshal(data, &s.written); err != nil {
		return s, fmt.Errorf("parse sample %q: %w", file, err)
	}
	return s, nil
}

// at returns what is at the path of an object, once for each item of the lists
// on the way; nil where there is nothing.
func at(value any, path string) []any {
	if path == "" {
		return []any{value}
	}
	name, rest, _ := strings.Cut(path, ".")
	name, inItems := strings.CutSuffix(name, "[]")
	fields, _ := value.(map[string]any)
	items, isList := fields[name].([]any)
	if !inItems || !isList {
		return at(fields[name], rest)
	}
	var out []any
	for _, item := range items {
		out = append(out, at(item, rest)...)
	}
	return out
}

// filled returns what Load gives the field where the sample leaves it out, nil
// when that is nothing. It returns false when the sample always writes it.
func (s sample) filled(path string) (any, bool) {
	loaded, open := at(s.loaded, path), false
	for i, written := range at(s.written, path) {
		if written != nil {
			continue
		}
		if open = true; i < len(loaded) && loaded[i] != nil {
			return loaded[i], true
		}
	}
	return nil, open
}

// defaultOf returns the default of a field in words, empty when there is none
// to speak of. What Load fills in goes first; the schema's is the API server's,
// for the kind that is never in a file; the last is what the type's doc says.
// Where two speak of one field they have to agree.
func (s sample) defaultOf(f *field) (string, error) {
	_, said := splitDefault(f.Description)
	declared := inWords(f.Default)
	if s.loaded == nil || !strings.HasPrefix(f.Path, "spec.") {
		return agreed(f, cmp.Or(declared, zero(f, said)), said)
	}
	if len(f.Fields) > 0 {
		if at(s.loaded, f.Path)[0] == nil {
			for _, other := range s.alternatives {
				if at(other.loaded, f.Path)[0] != nil {
					return other.defaultOf(f)
				}
			}
			return "", fmt.Errorf("%s: an object that hack/reference/sample does not write, so defaults in it stay unknown: add it there", f.Path)
		}
		return said, s.agreedBelow(f, said)
	}
	value, open := s.filled(f.Path)
	for _, other := range s.alternatives {
		if value == nil {
			value, _ = other.filled(f.Path)
		}
	}
	if !open && !f.Required {
		return "", fmt.Errorf("%s: always written in hack/reference/sample, though not required: its default stays unknown", f.Path)
	}
	loaded := inWords(value)
	if declared != "" && loaded != declared {
		return "", fmt.Errorf("%s: the schema's default is %q, Load's %q", f.Path, declared, loaded)
	}
	if loaded == s.name {
		return said, nil // the doc has to say what it is the name of
	}
	return agreed(f, cmp.Or(loaded, zero(f, said)), said)
}

// agreed returns the default in words: what code fills in, else what the type's
// doc says. Where both speak they have to agree, and the doc may say more.
func agreed(f *field, filled, said string) (string, error) {
	rest, same := strings.CutPrefix(said, filled)
	switch {
	case said == "" && filled == "":
		return "", nil
	case filled == "":
		return marked(f, said), nil
	case said == "" || said == filled:
		return "`" + filled + "`", nil
	case !same || unicode.IsLetter(rune(rest[0])) || unicode.IsDigit(rune(rest[0])):
		return "", fmt.Errorf("%s: its doc says that the default is %q, but it is %q", f.Path, said, filled)
	}
	return said, nil
}

// marked marks what the doc says if it is a value, and not words.
func marked(f *field, said string) string {
	isValue := slices.Contains(f.Enum, said) || f.Type == "boolean" || unicode.IsDigit(rune(said[0]))
	if isValue && !strings.Contains(said, " ") {
		return "`" + said + "`"
	}
	return said
}

// agreedBelow checks what the doc of an object says of the defaults in it, such
// as "Defaults: 8760h, rotated at 50%".
func (s sample) agreedBelow(f *field, said string) error {
	if !strings.Contains(f.Description, "Defaults: ") {
		return nil
	}
	for _, below := range f.Fields {
		if value := inWords(at(s.loaded, below.Path)[0]); !strings.Contains(said, value) {
			return fmt.Errorf("%s: its doc says that the defaults are %q, but that of %s is %q", f.Path, said, below.Name, value)
		}
	}
	return nil
}

// zero says what leaving out a switch means, where the doc does not.
func zero(f *field, said string) string {
	if f.Type == "boolean" && !f.Required && said == "" {
		return "false"
	}
	return ""
}

var wholeHours = regexp.MustCompile(`^(\d+h)0m0s$|^(\d+m)0s$`)

// inWords writes a value as people write it in a file.
func inWords(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return wholeHours.ReplaceAllString(value, "$1$2")
	default:
		encoded, _ := json.Marshal(value) // it came out of JSON
		return string(encoded)
	}
}

var defaultSentence = regexp.MustCompile(`(?s)(^| )Defaults?:? (.+?)\.( |$)`)

// splitDefault splits a doc text into what it means and what its sentence
// "Default: …." says.
func splitDefault(doc string) (meaning, value string) {
	doc = strings.Join(strings.Fields(doc), " ")
	found := defaultSentence.FindStringSubmatchIndex(doc)
	if found == nil {
		return doc, ""
	}
	meaning = strings.TrimSpace(doc[:found[0]] + " " + doc[found[1]:])
	return meaning, doc[found[4]:found[5]]
}
