package fleet

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	// maxManifestBytes is what all manifests of one fleet may have.
	maxManifestBytes = 64 << 20
	// maxDelivered is how often manifests may be delivered, by all networks.
	maxDelivered = 100_000
)

// Manifest is one object of people's own that a network delivers to members.
type Manifest struct {
	// Network that delivers it.
	Network string
	// Object as written: maps, lists, strings, int64, float64, booleans and nil.
	// Another network may deliver it too, so it must not be changed.
	Object *unstructured.Unstructured

	at       *document
	selector labels.Selector
	// index of the entry of the network's spec.resources.
	index int
}

// For reports whether the member receives the manifest.
func (m *Manifest) For(member *v1alpha1.Member) bool {
	return member.Spec.ApplicationNetwork == m.Network && m.selector.Matches(labels.Set(member.Labels))
}

// ProblemAt returns p with File, Line and Path of a field of the manifest, such
// as "spec.rules[0].to". The line is that of the nearest parent when the field
// itself was not written.
func (m *Manifest) ProblemAt(path string, p Problem) Problem {
	p.File, p.Line, p.Path = m.at.file, m.at.line(path), path
	return p.printable()
}

// Manifests returns the manifests that the network with the given name delivers,
// in the order of its spec.resources, then of files and lines.
func (f *Fleet) Manifests(network string) []*Manifest { return f.manifests[network] }

// manifestReader reads the files that networks deliver.
type manifestReader struct {
	*loader
	fsys fs.FS
	// files are the YAML files of the fleet, sorted.
	files []string
	// read has the manifests of each file, read once for all networks.
	read map[string][]*document
}

// readManifests adds to the documents what their networks deliver.
func (l *loader) readManifests(fsys fs.FS, files []string, set *documents) {
	r := manifestReader{loader: l, fsys: fsys, files: files, read: map[string][]*document{}}
	for _, at := range set.networks {
		taken := map[string]int{}
		for i, entry := range at.network.Spec.Resources {
			field := fmt.Sprintf("spec.resources[%d].path", i)
			if at.refused(field) {
				continue
			}
			for _, file := range r.named(at, field, entry.Path) {
				if first, twice := taken[file]; twice {
					r.refuse(at, field, ReasonDuplicateResources, fmt.Sprintf("%s is already in spec.resources[%d]", quote(file), first),
						"name a file once, with a selector of all its members")
					break
				}
				taken[file] = i
				manifests := r.documents(at, field, file)
				if len(set.manifests)+len(manifests) > maxDelivered {
					r.refuse(at, field, ReasonLimitExceeded, fmt.Sprintf("the networks deliver more than %d manifests", maxDelivered), "")
					return
				}
				set.deliver(at, i, manifests)
			}
		}
	}
}

// deliver adds manifests of an entry of a network.
func (d *documents) deliver(network *document, index int, manifests []*document) {
	selector := selectorOf(network.network.Spec.Resources[index].Members)
	for _, at := range manifests {
		d.manifests = append(d.manifests, &Manifest{
			Network: network.name, Object: at.object, at: at, selector: selector, index: index,
		})
	}
}

// selectorOf returns the members of an entry; a selector that is none selects
// nothing, and a rule says so.
func selectorOf(written *metav1.LabelSelector) labels.Selector {
	if written == nil {
		return labels.Everything()
	}
	selector, err := metav1.LabelSelectorAsSelector(written)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// refuse reports an error about a field of a network.
func (r *manifestReader) refuse(at *document, field, reason, message, hint string) {
	r.report(Problem{File: at.file, Line: at.line(field), Path: field, Reason: reason, Message: message, Hint: hint})
}

// named returns the YAML files that a path names, sorted, and reports one that
// names none.
func (r *manifestReader) named(at *document, field, written string) []string {
	name := path.Join(path.Dir(at.file), written)
	switch {
	case strings.Contains(written, `\`):
		r.refuse(at, field, ReasonInvalidPath, "has a backslash", "write a slash between folders")
		return nil
	case path.IsAbs(written):
		r.refuse(at, field, ReasonInvalidPath, "is absolute", "write it from the folder of this file")
		return nil
	case name == ".." || strings.HasPrefix(name, "../"):
		r.refuse(at, field, ReasonInvalidPath, "leads out of the fleet", "only what is below the fleet's path is read")
		return nil
	}
	var files []string
	for _, file := range r.files {
		if name == "." || file == name || strings.HasPrefix(file, name+"/") {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		message, hint := r.nothing(name)
		r.refuse(at, field, ReasonInvalidPath, message, hint)
	}
	return files
}

// nothing says why there is no YAML file at or below a path.
func (r *manifestReader) nothing(name string) (message, hint string) {
	for parent := name; parent != "."; parent = path.Dir(parent) {
		if r.links[parent] {
			return fmt.Sprintf("%s is a symbolic link, not followed", quote(parent)), "put the file itself there"
		}
	}
	info, err := fs.Stat(r.fsys, name)
	switch {
	case err != nil:
		return fmt.Sprintf("the fleet has no file or folder %s", quote(name)), "a path begins at the folder of the file that it is in"
	case info.IsDir():
		return fmt.Sprintf("no YAML file is in the folder %s", quote(name)), "files named *.yaml and *.yml are read"
	}
	return fmt.Sprintf("%s is not a YAML file", quote(name)), "files named *.yaml and *.yml are read"
}

// documents returns the manifests of a file.
func (r *manifestReader) documents(at *document, field, file string) []*document {
	if found, ok := r.read[file]; ok {
		return found
	}
	r.read[file] = nil
	data, err := readLimited(r.fsys, file)
	r.manifestBytes += len(data)
	switch {
	case err != nil:
		r.report(Problem{File: file, Reason: ReasonUnreadable, Message: "cannot be read: " + cause(err)})
		return nil
	case len(data) > maxFileBytes:
		r.refuse(at, field, ReasonLimitExceeded, fmt.Sprintf("%s is larger than %d KiB", quote(file), maxFileBytes>>10), "split the file")
		return nil
	case r.manifestBytes > maxManifestBytes:
		r.refuse(at, field, ReasonLimitExceeded, fmt.Sprintf("the fleet has more than %d MiB of manifests", maxManifestBytes>>20), "")
		return nil
	}
	if reason, hint := builder(file); reason != "" {
		r.report(Problem{File: file, Line: 1, Reason: ReasonNotAManifest, Message: reason, Hint: hint})
		return nil
	}
	for _, chunk := range split(data) {
		r.readChunk(file, chunk, func(root *yaml.Node) {
			if d := r.readManifest(file, chunk, root); d != nil {
				r.manifests++
				r.read[file] = append(r.read[file], d)
			}
		})
	}
	return r.read[file]
}

// templateHint is for text that cannot be read.
func templateHint(text []byte) string {
	if !bytes.Contains(text, []byte("{{")) {
		return ""
	}
	return "templates are not rendered: write the manifest itself"
}

// builder returns what is wrong with a file whose name says that some tool makes
// manifests from it.
func builder(file string) (message, hint string) {
	switch path.Base(file) {
	case "kustomization.yaml", "kustomization.yml":
		return "Kustomize is not run on manifests", "name the folder of what it builds, or the manifests themselves and spec.patches"
	case "Chart.yaml":
		return "Helm is not run on manifests", "commit what the chart renders, and name that"
	}
	return "", ""
}

// readManifest returns a document as a manifest, or nil for one of isthmus and
// after reporting what is none.
func (r *manifestReader) readManifest(file string, chunk chunk, root *yaml.Node) *document {
	header := readHeader(root)
	if root.ShortTag() == "!!null" {
		return nil
	}
	group := ""
	if header.apiVersion != nil {
		group, _, _ = strings.Cut(header.apiVersion.Value, "/")
	}
	if group == v1alpha1.GroupVersion.Group {
		return nil
	}
	d := &document{place: place{file: file, lines: map[string]int{"": chunk.before + root.Line}}}
	c := checker{document: d, before: chunk.before, budget: maxValues}
	if root.Kind != yaml.MappingNode {
		c.problem("", ReasonNotAManifest, "not a manifest: want fields, found "+found(root), "")
		r.problems = append(r.problems, c.problems...)
		return nil
	}
	value, whole := c.freeFields(root, "", maxDepth)
	for i := range c.problems {
		c.problems[i].Hint = cmp.Or(templateHint(chunk.text), c.problems[i].Hint)
	}
	if fields, ok := value.(map[string]any); ok && whole && c.identified(header, group, fields) {
		d.object = &unstructured.Unstructured{Object: fields}
		d.kind, d.name = d.object.GetKind(), d.object.GetName()
	}
	r.values += maxValues - c.budget
	r.problems = append(r.problems, c.problems...)
	if d.object == nil {
		return nil
	}
	return d
}

// identified reports whether a manifest says which object it is, and reports
// what it does not say.
func (c *checker) identified(header header, group string, fields map[string]any) bool {
	for _, field := range []string{"apiVersion", "kind"} {
		if text, ok := fields[field].(string); !ok || text == "" {
			c.problem(field, ReasonNotAManifest, "not a manifest: not set", "keep other YAML files elsewhere")
			return false
		}
	}
	if strings.HasPrefix(group, "kustomize.config.k8s.io") {
		message, hint := builder("kustomization.yaml")
		c.problem("kind", ReasonNotAManifest, message, hint)
		return false
	}
	if _, list := fields["items"].([]any); list && strings.HasSuffix(header.kind.Value, "List") {
		c.problem("kind", ReasonNotAManifest, "a list of manifests", "write each item as a document of its own, with --- between them")
		return false
	}
	metadata, _ := fields["metadata"].(map[string]any)
	if name, ok := metadata["name"].(string); ok && name != "" {
		return true
	}
	hint := ""
	if _, generated := metadata["generateName"]; generated {
		hint = "a generated name would be another one each time: write it out"
	}
	c.problem("metadata.name", ReasonNotAManifest, "not set", hint)
	return false
}
