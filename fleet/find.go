package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// find returns the YAML files below the root, sorted. What is named like one
// and is none, or may hold some and is not entered, is reported.
func (l *loader) find(fsys fs.FS) []string {
	var files, nested []string
	entries := 0
	walk := func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			l.unreadable(Problem{File: name, Reason: ReasonUnreadable, Message: "cannot be read: " + cause(err)})
			return nil
		}
		if entries++; entries > maxEntries {
			l.unreadable(Problem{Reason: ReasonLimitExceeded,
				Message: fmt.Sprintf("more than %d files and folders below the fleet's path", maxEntries),
				Hint:    "give the fleet a folder of its own and set its path"})
			return fs.SkipAll
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			l.links[name] = true
		}
		switch kind := kindOf(name, entry); kind {
		case entryYAML:
			files = append(files, name)
		case entryGit:
			if dir := path.Dir(name); dir != "." {
				nested = append(nested, dir+"/")
			}
			if entry.IsDir() {
				return fs.SkipDir
			}
		default:
			l.passedOver(name, kind)
		}
		return nil
	}
	// The walk itself never fails: walk returns no error but to skip.
	_ = fs.WalkDir(fsys, ".", walk)
	for _, dir := range nested {
		l.passedOver(strings.TrimSuffix(dir, "/"), entryRepository)
	}
	files = slices.DeleteFunc(files, func(file string) bool {
		return slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(file, dir) })
	})
	slices.Sort(files)
	return files
}

// entryKind is what an entry of a folder is to a fleet.
type entryKind int

const (
	entryOther entryKind = iota
	entryYAML
	entryGit
	entryRepository
	entrySymlink
	entrySpecial
)

func kindOf(name string, entry fs.DirEntry) entryKind {
	extension, mode := path.Ext(name), entry.Type()
	isYAML := extension == ".yaml" || extension == ".yml"
	switch {
	case entry.Name() == ".git":
		return entryGit
	case mode&fs.ModeIrregular != 0:
		return entryRepository
	// A link without an extension may lead to a folder of YAML files.
	case mode&fs.ModeSymlink != 0 && (isYAML || extension == ""):
		return entrySymlink
	case isYAML && mode.IsRegular():
		return entryYAML
	case isYAML && mode&fs.ModeType&^(fs.ModeDir|fs.ModeSymlink) != 0:
		return entrySpecial
	}
	return entryOther
}

// passedOver tells of an entry in which a reader may expect objects and from
// which none are read: it need not be the same, or there at all, elsewhere. A
// submodule is refused: members that were moved into one would be taken for
// removed.
func (l *loader) passedOver(name string, kind entryKind) {
	p := Problem{File: name, Severity: SeverityWarning}
	switch kind {
	case entrySymlink:
		p.Reason, p.Message, p.Hint = ReasonSymlinkIgnored, "a symbolic link, not followed", "put the file or folder itself here"
	case entryRepository:
		l.unreadable(Problem{File: name, Reason: ReasonRepositoryIgnored, Message: "another repository, not read",
			Hint: "put the files themselves here; on the hub, spec.path can name the fleet's own folder"})
		return
	case entrySpecial:
		p.Reason, p.Message, p.Hint = ReasonSpecialFile, "not a regular file, not read", "put a file here"
	default:
		return
	}
	l.report(p)
}

// cause is the text of an error without the file's name, which a problem has.
func cause(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}
