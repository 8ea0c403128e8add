package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// maxDepth of folders in folders.
const maxDepth = 100

// walker reads a tree into memory. go-git's own ends without an error at a tree
// that it cannot read, as if there were nothing more; here everything is read
// or nothing.
type walker struct {
	objects storer.EncodedObjectStorer
	files   files
	entries int
	bytes   int64
}

// errTooLarge says that a limit is exceeded.
var errTooLarge = errors.New("too large")

// folder reads a tree and everything below it.
func (w *walker) folder(tree *object.Tree, dir string, depth int) error {
	names := map[string]bool{}
	for _, entry := range tree.Entries {
		name := path.Join(dir, entry.Name)
		why := unsafe(entry.Name)
		if names[entry.Name] {
			why = "that is there twice"
		}
		if why != "" {
			return &Error{Reason: ReasonInvalidTree, Message: fmt.Sprintf("folder %q has an entry %q %s", "/"+dir, entry.Name, why),
				Hint: "`git fsck` says more"}
		}
		names[entry.Name] = true
		w.bytes += int64(len(name))
		if w.entries++; w.entries > MaxFiles || w.bytes > MaxBytes || depth > maxDepth {
			return errTooLarge
		}
		if err := w.entry(entry, name, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one file, or a folder and everything below it.
func (w *walker) entry(entry object.TreeEntry, name string, depth int) error {
	switch entry.Mode {
	case filemode.Dir:
		tree, err := object.GetTree(w.objects, entry.Hash)
		if err != nil {
			return fmt.Errorf("read folder %q: %w", name, err)
		}
		w.files.add(name, &fstest.MapFile{Mode: fs.ModeDir | 0o555})
		return w.folder(tree, name, depth+1)
	case filemode.Submodule:
		w.files.add(name, &fstest.MapFile{Mode: fs.ModeIrregular | 0o444})
	case filemode.Symlink:
		w.files.add(name, &fstest.MapFile{Mode: fs.ModeSymlink | 0o777})
	default:
		data, err := w.content(entry.Hash)
		if err != nil {
			return fmt.Errorf("read file %q: %w", name, err)
		}
		w.files.add(name, &fstest.MapFile{Data: data, Mode: 0o444})
	}
	return nil
}

// content reads one file; its size is checked before its content is unpacked,
// since a megabyte in a pack can be a gigabyte of zeros.
func (w *walker) content(hash plumbing.Hash) ([]byte, error) {
	size, err := w.objects.EncodedObjectSize(hash)
	if err != nil {
		return nil, err
	}
	if w.bytes += size; w.bytes > MaxBytes {
		return nil, errTooLarge
	}
	blob, err := object.GetBlob(w.objects, hash)
	if err != nil {
		return nil, err
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	return io.ReadAll(io.LimitReader(reader, size))
}

// unsafe says why no folder can have an entry of the name, or nothing. Git
// makes no such entries, but other programs can.
func unsafe(name string) string {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\`):
		return "that leads elsewhere"
	case strings.EqualFold(name, ".git"):
		return "that is Git's own"
	}
	return ""
}

// files are the files of a commit. Folders are listed from an index: a plain
// map of files would look through all of them for each folder.
type files struct {
	fstest.MapFS
	folders map[string][]fs.DirEntry
}

func newFiles() files {
	return files{MapFS: fstest.MapFS{}, folders: map[string][]fs.DirEntry{".": nil}}
}

func (f files) add(name string, file *fstest.MapFile) {
	f.MapFS[name] = file
	dir := path.Dir(name)
	f.folders[dir] = append(f.folders[dir], dirEntry{name, file.Mode, f.MapFS})
	if file.Mode.IsDir() {
		f.folders[name] = nil
	}
}

// ReadDir returns the entries of a folder by name, which is not quite Git's
// order.
func (f files) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, ok := f.folders[name]
	if !ok {
		return f.MapFS.ReadDir(name)
	}
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// dirEntry is a file or folder in a folder.
type dirEntry struct {
	name  string
	mode  fs.FileMode
	files fstest.MapFS
}

func (e dirEntry) Name() string               { return path.Base(e.name) }
func (e dirEntry) IsDir() bool                { return e.mode.IsDir() }
func (e dirEntry) Type() fs.FileMode          { return e.mode.Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return fs.Lstat(e.files, e.name) }
