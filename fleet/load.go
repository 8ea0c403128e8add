package fleet

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// What one fleet may cost. A fleet of ten thousand members is far below.
const (
	maxEntries     = 200_000 // files and folders below the root
	maxDocuments   = 20_000  // objects of isthmus
	maxFleetValues = 1_000_000
	maxProblems    = 10_000
	maxFileBytes   = 1 << 20
)

// Load reads the fleet below the root of fsys: every document of every *.yaml
// and *.yml file whose apiVersion is isthmus.dev/v1alpha1. Documents of other
// groups are not looked at, but for the manifests that a network's spec.resources
// names. Defaults are filled in.
//
// The fleet is nil when a problem is an error; warnings alone leave it whole.
// Problems are sorted by file and line, and hold nothing that could drive a
// terminal or start a line of its own, whatever the files hold.
func Load(fsys fs.FS) (*Fleet, Problems) {
	l := loader{whole: true, links: map[string]bool{}}
	files := l.find(fsys)
	for _, file := range files {
		if !l.full {
			l.read(fsys, file)
		}
	}
	if len(l.documents) == 0 && len(l.problems.Errors()) == 0 {
		l.report(Problem{Reason: ReasonEmptyFleet,
			Message: fmt.Sprintf("no ApplicationNetwork or Member in %d YAML files below the fleet's path", len(files)),
			Hint:    "check the path of the fleet; `isthmus init` writes one to start from"})
	}
	set := newDocuments(l.documents, l.whole)
	l.readManifests(fsys, files, set)
	set.fillDefaults()
	l.problems = append(l.problems, set.check()...)
	for i := range l.problems {
		l.problems[i] = l.problems[i].printable()
	}
	l.problems.Sort()
	// A manifest is checked for each network that delivers it.
	l.problems = slices.Compact(l.problems)
	if len(l.problems.Errors()) > 0 {
		return nil, l.problems
	}
	return set.fleet(), l.problems
}

// loader collects documents and problems while files are read.
type loader struct {
	documents []*document
	problems  Problems
	// whole is false when something could not be read that may have held an
	// object: then it cannot be said that an object is missing.
	whole bool
	// values of all documents, aliases expanded.
	values int
	// full says that the rest is not read: there is too much already.
	full bool
	// links are the symbolic links below the root.
	links map[string]bool
	// manifests counts the documents of people's own, and their bytes.
	manifests, manifestBytes int
}

// report adds a problem; without a severity it is an error.
func (l *loader) report(p Problem) {
	p.Severity = cmp.Or(p.Severity, SeverityError)
	l.problems = append(l.problems, p)
}

// unreadable adds a problem that hides what a file says.
func (l *loader) unreadable(p Problem) {
	l.whole = false
	l.report(p)
}

// read adds the documents of one file.
func (l *loader) read(fsys fs.FS, name string) {
	file := printable(name)
	data, err := readLimited(fsys, name)
	if err != nil {
		l.unreadable(Problem{File: file, Reason: ReasonUnreadable, Message: "cannot be read: " + cause(err)})
		return
	}
	if len(data) > maxFileBytes {
		l.tooLarge(file, mentionsIsthmus(data) || isWide(data))
		return
	}
	if isWide(data) {
		l.unreadable(Problem{File: file, Line: 1, Reason: ReasonEncoding,
			Message: "UTF-16 or UTF-32, and not UTF-8", Hint: "save the file as UTF-8"})
		return
	}
	if bytes.HasPrefix(data, lfsPointer) {
		l.unreadable(Problem{File: file, Line: 1, Reason: ReasonSpecialFile,
			Message: "a pointer of Git LFS and not the file itself, not read", Hint: "keep the fleet's files out of Git LFS"})
		return
	}
	for _, chunk := range split(data) {
		if mentionsIsthmus(chunk.text) {
			l.readChunk(file, chunk, func(root *yaml.Node) { l.readRoot(file, chunk.before, root) })
		}
	}
}

// lfsPointer begins what a commit has in place of a file that is elsewhere.
var lfsPointer = []byte("version https://git-lfs.github.com/spec/")

// tooLarge reports a file that is not read: an error when it speaks of isthmus
// as far as it was looked at, else a warning, since a fleet's repository may
// hold large manifests of others.
func (l *loader) tooLarge(file string, ours bool) {
	p := Problem{File: file, Severity: SeverityWarning, Reason: ReasonLimitExceeded,
		Message: fmt.Sprintf("larger than %d KiB, not read", maxFileBytes>>10), Hint: "split the file"}
	if ours {
		p.Severity = SeverityError
		l.whole = false
	}
	l.report(p)
}

// overfull reports, once, that the rest of the fleet is not read.
func (l *loader) overfull(file string, line int) bool {
	message := ""
	switch {
	case l.full:
		return true
	case len(l.documents)+l.manifests >= maxDocuments:
		message = fmt.Sprintf("more than %d objects in one fleet", maxDocuments)
	case l.values >= maxFleetValues:
		message = fmt.Sprintf("more than %d values in one fleet", maxFleetValues)
	case len(l.problems) >= maxProblems:
		message = fmt.Sprintf("more than %d problems", maxProblems)
	default:
		return false
	}
	l.full = true
	l.unreadable(Problem{File: file, Line: line, Reason: ReasonLimitExceeded, Message: message + "; nothing is read from here on"})
	return true
}

// readLimited returns the file's content, or one byte more than a file may have.
func readLimited(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var data bytes.Buffer
	_, err = io.Copy(&data, io.LimitReader(file, maxFileBytes+1))
	return data.Bytes(), err
}

// fleet returns the fleet of documents that have no errors.
func (d *documents) fleet() *Fleet {
	f := &Fleet{positions: positions{}, manifests: map[string][]*Manifest{}}
	for _, manifest := range d.manifests {
		f.manifests[manifest.Network] = append(f.manifests[manifest.Network], manifest)
	}
	for _, document := range d.networks {
		f.Networks = append(f.Networks, document.network)
		f.positions[objectKey{v1alpha1.ApplicationNetworkKind, document.name}] = &document.place
	}
	for _, document := range d.members {
		f.Members = append(f.Members, document.member)
		f.positions[objectKey{v1alpha1.MemberKind, document.name}] = &document.place
	}
	slices.SortFunc(f.Networks, func(a, b *v1alpha1.ApplicationNetwork) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Members, func(a, b *v1alpha1.Member) int { return strings.Compare(a.Name, b.Name) })
	return f
}
