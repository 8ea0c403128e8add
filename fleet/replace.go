package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing/fstest"

	yaml "go.yaml.in/yaml/v3"
)

// Replacement is another text for one field of an object.
type Replacement struct {
	// Kind and Name of the object.
	Kind, Name string
	// Path of the field, such as "spec.upgrade.version", without lists.
	Path string
	// Old is what the field says, New what it is to say: text that needs no escapes.
	Old, New string
}

// Replace returns what files below the fleet's root are to hold for fields to say
// something else, by name. All else of them stays as it is, byte for byte: comments,
// quotes, line ends. fsys is what the fleet was loaded from. A field that is written
// in a way in which that cannot be done, such as by an alias, is an error that says
// where.
func (f *Fleet) Replace(fsys fs.FS, replacements ...Replacement) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, r := range replacements {
		place := f.positions[objectKey{r.Kind, r.Name}]
		if place == nil {
			return nil, fmt.Errorf("the fleet has no %s %q", r.Kind, r.Name)
		}
		where := fmt.Sprintf("%s:%d: %s", place.file, place.line(r.Path), r.Path)
		data, done := out[place.file]
		if !done {
			var err error
			if data, err = fs.ReadFile(fsys, place.file); err != nil {
				return nil, fmt.Errorf("%s: read the file again: %w", where, err)
			}
		}
		data, err := r.apply(data)
		if strings.ContainsAny(r.New, "\"'\\#:\n") {
			err = fmt.Errorf("%s needs escapes", quote(r.New))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w: change it by hand", where, err)
		}
		out[place.file] = data
	}
	return out, nil
}

// apply returns a file with the replacement.
func (r Replacement) apply(data []byte) ([]byte, error) {
	offset := 0
	for _, chunk := range split(data) {
		start := offset + len(chunk.head)
		offset = start + len(chunk.text)
		if !mentionsIsthmus(chunk.text) {
			continue
		}
		node, err := r.find(chunk.text)
		if err != nil {
			return nil, err
		}
		if node == nil {
			continue
		}
		from, to, err := r.literal(chunk.text, node)
		if err != nil {
			return nil, err
		}
		out := bytes.Clone(data[:start+from])
		out = append(out, r.written(node)...)
		return append(out, data[start+to:]...), nil
	}
	return nil, errors.New("the file does not say it any more")
}

// find returns the field's value in a chunk of a file, or nil if the object is in
// another one.
func (r Replacement) find(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the file again: %w", err)
		}
		if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
			continue
		}
		root := document.Content[0]
		if kind, problem := readHeader(root).identify(); problem != nil || kind != r.Kind || nameOf(root) != r.Name {
			continue
		}
		node := root
		for _, key := range strings.Split(r.Path, ".") {
			if node.Kind == yaml.AliasNode {
				return nil, errors.New("it is written by an alias")
			}
			if node = lookup(node, key); node == nil {
				return nil, errors.New("the file does not say it any more")
			}
		}
		return node, nil
	}
}

// nameOf is what a document calls its object, also by an alias.
func nameOf(root *yaml.Node) string {
	node := root
	for _, key := range []string{"metadata", "name"} {
		if node = lookup(node, key); node == nil {
			return ""
		}
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
	}
	return node.Value
}

// literal finds a value in its text, quotes included.
func (r Replacement) literal(text []byte, node *yaml.Node) (from, to int, err error) {
	switch {
	case node.Kind == yaml.AliasNode:
		return 0, 0, errors.New("it is written by an alias")
	case node.Kind != yaml.ScalarNode || node.Value != r.Old:
		return 0, 0, fmt.Errorf("it says %s, not %s", quote(node.Value), quote(r.Old))
	case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 0, 0, errors.New("it is written as a block")
	}
	from = offsetOf(text, node.Line, node.Column)
	from += properties(text[from:])
	literal := r.Old
	switch {
	case node.Style&yaml.DoubleQuotedStyle != 0:
		literal = `"` + r.Old + `"`
	case node.Style&yaml.SingleQuotedStyle != 0:
		literal = "'" + r.Old + "'"
	}
	if !bytes.HasPrefix(text[from:], []byte(literal)) {
		return 0, 0, errors.New("it is written with escapes")
	}
	return from, from + len(literal), nil
}

// written is the new value in the quotes of the old one; without any it gets some
// where it would not be a string.
func (r Replacement) written(node *yaml.Node) string {
	switch {
	case node.Style&yaml.DoubleQuotedStyle != 0:
		return `"` + r.New + `"`
	case node.Style&yaml.SingleQuotedStyle != 0:
		return "'" + r.New + "'"
	}
	if plain := (&yaml.Node{Kind: yaml.ScalarNode, Value: r.New}); plain.ShortTag() != "!!str" {
		return `"` + r.New + `"`
	}
	return r.New
}

// byteOrderMark may be before the first character of a file; the parser does not
// count it.
var byteOrderMark = []byte("\ufeff")

// offsetOf returns where a line and column, both from 1, are in a text. Columns
// count characters.
func offsetOf(text []byte, line, column int) int {
	offset := 0
	for range line - 1 {
		next := bytes.IndexByte(text[offset:], '\n')
		if next < 0 {
			return len(text)
		}
		offset += next + 1
	}
	if line == 1 && bytes.HasPrefix(text, byteOrderMark) {
		offset += len(byteOrderMark)
	}
	rest := string(text[offset:])
	for i := range rest {
		if column--; column == 0 {
			return offset + i
		}
	}
	return len(text)
}

// properties is the length of the anchor and the tag before a value.
func properties(text []byte) int {
	length := 0
	for length < len(text) && (text[length] == '&' || text[length] == '!') {
		end := bytes.IndexAny(text[length:], " \t\r\n")
		if end < 0 {
			return len(text)
		}
		length += end
		length += len(text[length:]) - len(bytes.TrimLeft(text[length:], " \t\r\n"))
	}
	return length
}

// Edited is a file system with other content for some of its files.
type Edited struct {
	Under fs.FS
	// Files by name; each is in Under.
	Files map[string][]byte
}

// Open opens a file.
func (e Edited) Open(name string) (fs.File, error) {
	if data, ok := e.Files[name]; ok {
		return fstest.MapFS{name: {Data: data, Mode: 0o444}}.Open(name)
	}
	return e.Under.Open(name)
}

// ReadDir lists a folder; sizes in it are those of before.
func (e Edited) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(e.Under, name) }
