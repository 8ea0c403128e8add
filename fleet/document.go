package fleet

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// document is one object as written, with what was found wrong in it.
type document struct {
	place
	kind, name string
	// failed are the paths that the schema has refused.
	failed []string
	// One of the three is set, by kind.
	network *v1alpha1.ApplicationNetwork
	member  *v1alpha1.Member
	object  *unstructured.Unstructured
}

// refused reports whether the schema has refused the field, what holds it or
// something in it, so that a rule about it would only say the same again.
func (d *document) refused(path string) bool {
	for _, failed := range d.failed {
		if within(path, failed) || within(failed, path) {
			return true
		}
	}
	return false
}

// within reports whether the path is the other or below it.
func within(path, other string) bool {
	rest, ok := strings.CutPrefix(path, other)
	return ok && (rest == "" || other == "" || rest[0] == '.' || rest[0] == '[')
}

// chunk is the text of one document and the number of lines before it, which
// include those of its head: separator and comments.
type chunk struct {
	head, text []byte
	before     int
}

var (
	separator = regexp.MustCompile(`(?m)^---(?:[ \t\r]|$)`)
	// leading matches the lines before the first value of a document. Without
	// them the parser says where it stopped, and not where the mapping began.
	leading = regexp.MustCompile(`^\x{FEFF}?(?:(?:---(?:[ \t]+#[^\n]*)?|[ \t]*#[^\n]*|[ \t]*)\r?\n)+`)
)

// split cuts a file at its document separators. YAML allows "---" at the start
// of a line for nothing else, so each document can be read even when one
// before it does not parse.
func split(data []byte) []chunk {
	var out []chunk
	start, line := 0, 0
	cut := func(end int) {
		text := data[start:end]
		head := leading.Find(text)
		out = append(out, chunk{head, text[len(head):], line + bytes.Count(head, []byte("\n"))})
		line += bytes.Count(text, []byte("\n"))
		start = end
	}
	for _, match := range separator.FindAllIndex(data, -1) {
		if match[0] > start {
			cut(match[0])
		}
	}
	cut(len(data))
	return out
}

// ours matches a document that may be of isthmus: everything else is skipped
// unparsed, since a repository may hold templates that are not YAML at all.
var ours = regexp.MustCompile(`isthmus\.dev|kind['"]?\s*:\s*['"]?(?:ApplicationNetwork|Member)\b`)

func mentionsIsthmus(text []byte) bool { return ours.Match(text) }

// readChunk hands over the root of each document of a chunk, and reports a chunk
// that cannot be read.
func (l *loader) readChunk(file string, chunk chunk, add func(root *yaml.Node)) {
	first := chunk.before - bytes.Count(chunk.head, []byte("\n")) + 1
	if line, message, hint := illegible(slices.Concat(chunk.head, chunk.text)); message != "" {
		l.unreadable(Problem{File: file, Line: first + line, Reason: ReasonEncoding, Message: message, Hint: hint})
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(chunk.text))
	for !l.overfull(file, chunk.before+1) {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			line, message := syntaxError(err)
			line, message, hint := explain(line, message, chunk.text)
			// What ends too early is missed on the line after the last.
			line = min(line, 1+bytes.Count(bytes.TrimRight(chunk.text, "\r\n"), []byte("\n")))
			l.unreadable(Problem{File: file, Line: chunk.before + line, Reason: ReasonSyntax, Message: message, Hint: cmp.Or(hint, templateHint(chunk.text))})
			return
		}
		if len(node.Content) == 1 {
			add(node.Content[0])
		}
	}
}

// readRoot adds what is at the root of a document.
func (l *loader) readRoot(file string, before int, root *yaml.Node) {
	if item := listed(root); item != nil {
		l.unreadable(Problem{File: file, Line: before + item.Line, Reason: ReasonObjectInList,
			Message: "an object in a list is not read", Hint: "write it as a document of its own, after a line ---"})
		return
	}
	if root.Kind == yaml.MappingNode {
		l.readObject(file, before, root)
	}
}

// listed returns the first object of isthmus in a list of objects, such as
// kubectl prints, or nil.
func listed(root *yaml.Node) *yaml.Node {
	items := root
	if root.Kind == yaml.MappingNode {
		if kind := lookup(root, "kind"); kind == nil || !strings.HasSuffix(kind.Value, "List") {
			return nil
		}
		items = lookup(root, "items")
	}
	if items == nil || items.Kind != yaml.SequenceNode {
		return nil
	}
	for _, item := range items.Content {
		if header := readHeader(item); header.apiVersion != nil && strings.HasPrefix(header.apiVersion.Value, v1alpha1.GroupVersion.Group+"/") {
			return item
		}
	}
	return nil
}

var (
	yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)
	// parserError matches what the YAML parser says, which, unlike the scanner
	// below it, counts lines from 0.
	parserError = regexp.MustCompile(`^did not find expected (?:node content|key|'-'|',' or|<)`)
)

// syntaxError returns the line, from 1, and the text of a parser's error.
func syntaxError(err error) (line int, message string) {
	match := yamlError.FindStringSubmatch(err.Error())
	if match == nil {
		return 1, fmt.Sprintf("not valid YAML: %v", err)
	}
	line, _ = strconv.Atoi(match[1])
	if line > 0 && parserError.MatchString(match[2]) {
		line++
	}
	return max(line, 1), "not valid YAML: " + match[2]
}

// readObject adds one object if it is of a kind that is written in Git.
func (l *loader) readObject(file string, before int, root *yaml.Node) {
	header := readHeader(root)
	kind, problem := header.identify()
	if problem != nil {
		problem.File, problem.Line = file, before+problem.Line
		l.unreadable(*problem)
		return
	}
	if kind == "" {
		return
	}
	d := &document{kind: kind, place: place{file: file, lines: map[string]int{}}}
	c := checker{document: d, before: before, budget: maxValues}
	fields := c.root(root, schemaOf(kind))
	l.values += maxValues - c.budget
	if err := d.decode(fields); err != nil {
		c.problem("", ReasonWrongType, err.Error(), "")
	}
	l.problems = append(l.problems, c.problems...)
	l.documents = append(l.documents, d)
}

// decode fills the object of the document from checked fields.
func (d *document) decode(fields map[string]any) error {
	converter := runtime.DefaultUnstructuredConverter
	if d.kind == v1alpha1.ApplicationNetworkKind {
		d.network = &v1alpha1.ApplicationNetwork{}
		err := converter.FromUnstructured(fields, d.network)
		d.name = d.network.Name
		return err
	}
	d.member = &v1alpha1.Member{}
	err := converter.FromUnstructured(fields, d.member)
	d.name = d.member.Name
	return err
}

// header is what a document says it is; nil where it says nothing.
type header struct {
	root, apiVersion, kind *yaml.Node
}

func readHeader(root *yaml.Node) header {
	h := header{root: root}
	for i := 0; i+1 < len(root.Content); i += 2 {
		value := root.Content[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if value.Kind != yaml.ScalarNode {
			continue
		}
		switch key := root.Content[i].Value; {
		case key == "apiVersion" && h.apiVersion == nil:
			h.apiVersion = value
		case key == "kind" && h.kind == nil:
			h.kind = value
		}
	}
	return h
}

// identify returns the kind of a document to read, or nothing for a document of
// others. It returns a problem, with its line, when the document is ours or
// seems meant for us and cannot be read as it stands.
func (h header) identify() (kind string, _ *Problem) {
	want := v1alpha1.GroupVersion.String()
	gitKinds := []string{v1alpha1.ApplicationNetworkKind, v1alpha1.MemberKind}
	if h.kind != nil {
		kind = h.kind.Value
	}
	isGitKind := kind == gitKinds[0] || kind == gitKinds[1]
	if h.apiVersion == nil {
		if isGitKind {
			return "", &Problem{Line: h.root.Line, Path: "apiVersion", Reason: ReasonMissingField,
				Message: "not set", Hint: "write apiVersion: " + want}
		}
		return "", nil
	}
	if version := h.apiVersion.Value; version != want {
		group, _, _ := strings.Cut(version, "/")
		if group == v1alpha1.GroupVersion.Group || isGitKind && closest(version, []string{want}) != "" {
			return "", &Problem{Line: h.apiVersion.Line, Path: "apiVersion", Reason: ReasonUnknownVersion,
				Message: fmt.Sprintf("%s is not a version of isthmus", quote(version)), Hint: "write apiVersion: " + want}
		}
		return "", nil
	}
	switch {
	case h.kind == nil:
		return "", &Problem{Line: h.root.Line, Path: "kind", Reason: ReasonMissingField,
			Message: "not set", Hint: "one of " + strings.Join(gitKinds, ", ")}
	case isGitKind:
		return kind, nil
	case kind == v1alpha1.FleetKind:
		return "", &Problem{Line: h.kind.Line, Path: "kind", Reason: ReasonFleetInGit,
			Message: "a Fleet is not part of a fleet's repository",
			Hint:    "apply it to the hub, where it tells isthmus which repository to follow"}
	default:
		return "", &Problem{Line: h.kind.Line, Path: "kind", Reason: ReasonUnknownKind,
			Message: fmt.Sprintf("%s is not a kind of isthmus", quote(kind)), Hint: suggest(kind, gitKinds)}
	}
}
