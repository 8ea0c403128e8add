package fleet

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// What one fleet may cost. A fleet of ten thousand members is far below.
const (
	maxEntries   = 200_000 // files and folders below the root
	maxDocuments = 50_000  // YAML documents that speak of isthmus
	maxFileBytes = 1 << 20
)

// Load reads the fleet below the root of fsys: every document of every *.yaml
// and *.yml file whose apiVersion is isthmus.dev/v1alpha1. Documents of other
// groups are not looked at. Defaults are filled in.
//
// The fleet is nil when a problem is an error; warnings alone leave it whole.
// Problems are sorted by file and line.
func Load(fsys fs.FS) (*Fleet, Problems) {
	l := loader{whole: true}
	files := l.find(fsys)
	for _, file := range files {
		l.read(fsys, file)
	}
	if len(l.documents) == 0 && len(l.problems.Errors()) == 0 {
		l.report(Problem{Reason: ReasonEmptyFleet,
			Message: fmt.Sprintf("no ApplicationNetwork or Member in %d YAML files below the fleet's path", len(files)),
			Hint:    "check the path of the fleet; `isthmus init` writes one to start from"})
	}
	set := newDocuments(l.documents, l.whole)
	set.fillDefaults()
	l.problems = append(l.problems, set.check()...)
	l.problems.Sort()
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
	full  bool
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

// find returns the YAML files below the root, sorted.
func (l *loader) find(fsys fs.FS) []string {
	var files []string
	entries := 0
	walk := func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			l.unreadable(Problem{File: name, Reason: ReasonUnreadable, Message: fmt.Sprintf("cannot be read: %v", err)})
			return nil
		}
		if entries++; entries > maxEntries {
			l.unreadable(Problem{Reason: ReasonLimitExceeded,
				Message: fmt.Sprintf("more than %d files and folders below the fleet's path", maxEntries),
				Hint:    "give the fleet a folder of its own and set its path"})
			return fs.SkipAll
		}
		isYAML := path.Ext(name) == ".yaml" || path.Ext(name) == ".yml"
		switch {
		case entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case isYAML && entry.Type().IsRegular():
			files = append(files, name)
		case isYAML && entry.Type()&fs.ModeSymlink != 0:
			l.report(Problem{File: name, Severity: SeverityWarning, Reason: ReasonSymlinkIgnored,
				Message: "a symbolic link, not followed", Hint: "put the file itself here"})
		}
		return nil
	}
	// The walk itself never fails: walk returns no error but to skip.
	_ = fs.WalkDir(fsys, ".", walk)
	slices.Sort(files)
	return files
}

// read adds the documents of one file.
func (l *loader) read(fsys fs.FS, file string) {
	data, err := readLimited(fsys, file)
	if err != nil {
		l.unreadable(Problem{File: file, Reason: ReasonUnreadable, Message: fmt.Sprintf("cannot be read: %v", err)})
		return
	}
	if len(data) > maxFileBytes {
		l.tooLarge(file, mentionsIsthmus(data))
		return
	}
	for _, chunk := range split(data) {
		if !mentionsIsthmus(chunk.text) {
			continue
		}
		if len(l.documents) >= maxDocuments {
			l.overfull(file, chunk)
			return
		}
		l.readChunk(file, chunk)
	}
}

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

// overfull reports, once, that the fleet has too many documents.
func (l *loader) overfull(file string, chunk chunk) {
	if l.full {
		return
	}
	l.full = true
	l.unreadable(Problem{File: file, Line: chunk.before + 1, Reason: ReasonLimitExceeded,
		Message: fmt.Sprintf("more than %d documents in one fleet", maxDocuments)})
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
	f := &Fleet{positions: positions{}}
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
