package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Limits on what one commit may hold below the fleet's path. A fleet of a
// thousand members is about 2 MiB in as many files.
const (
	MaxFiles = 20_000
	MaxBytes = 64 << 20
)

// Snapshot is one commit of a fleet.
type Snapshot struct {
	// Commit is the full hash, 40 hex digits.
	Commit string
	// Branch on which the commit was found.
	Branch string
	// FS holds the files below the fleet's path, in memory. Symbolic links are
	// in it as links and are not followed.
	FS fs.FS
}

// Revision returns the commit in Flux's form, "main@sha1:…".
func (s Snapshot) Revision() string { return Revision(s.Branch, s.Commit) }

// Revision returns a commit of a branch in Flux's form, "main@sha1:…".
func Revision(branch, commit string) string { return branch + "@sha1:" + commit }

// CommitOf returns the commit of a revision in Flux's form, or "".
func CommitOf(revision string) string {
	_, commit, _ := strings.Cut(revision, "@sha1:")
	return commit
}

// Snapshot reads one commit, which must have been fetched before.
func (r *Repository) Snapshot(commit string) (Snapshot, error) {
	tree, err := r.tree(commit)
	if err != nil {
		return Snapshot{}, err
	}
	// A map of files is all that is needed: the commit never changes, and links
	// keep their mode so that the loader can refuse them by name.
	files := fstest.MapFS{}
	total := int64(0)
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Snapshot{}, fmt.Errorf("walk commit %q: %w", commit, err)
		}
		if entry.Mode == filemode.Dir {
			continue
		}
		file, err := readEntry(tree, name, entry)
		if err != nil {
			return Snapshot{}, fmt.Errorf("read %q at commit %q: %w", name, commit, err)
		}
		total += int64(len(file.Data))
		if len(files) >= MaxFiles || total > MaxBytes {
			return Snapshot{}, &Error{Reason: ReasonTooLarge,
				Message: fmt.Sprintf("commit %q holds more than %d files or %d MiB below path %q", commit, MaxFiles, MaxBytes>>20, r.options.Path),
				Hint:    "point spec.path at the fleet's own folder"}
		}
		files[name] = file
	}
	return Snapshot{Commit: commit, Branch: r.options.Branch, FS: files}, nil
}

// readEntry reads one file; its size is checked before its content is read.
func readEntry(tree *object.Tree, name string, entry object.TreeEntry) (*fstest.MapFile, error) {
	switch entry.Mode {
	case filemode.Submodule:
		return &fstest.MapFile{Mode: fs.ModeIrregular | 0o444}, nil
	case filemode.Symlink:
		return &fstest.MapFile{Mode: fs.ModeSymlink | 0o777}, nil
	}
	blob, err := tree.TreeEntryFile(&entry)
	if err != nil {
		return nil, err
	}
	if blob.Size > MaxBytes {
		return &fstest.MapFile{}, &Error{Reason: ReasonTooLarge, Message: fmt.Sprintf("%q is larger than %d MiB", name, MaxBytes>>20)}
	}
	reader, err := blob.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	data, err := io.ReadAll(reader)
	return &fstest.MapFile{Data: data, Mode: 0o444}, err
}

func (r *Repository) tree(commit string) (*object.Tree, error) {
	repository, err := r.open()
	if err != nil {
		return nil, fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	c, err := repository.CommitObject(plumbing.NewHash(commit))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, &Error{Reason: ReasonCommitNotFound, Message: fmt.Sprintf("repository %q has no commit %q", r.options.URL, commit)}
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %q: %w", commit, err)
	}
	tree, err := c.Tree()
	if err != nil {
		return nil, fmt.Errorf("read tree of commit %q: %w", commit, err)
	}
	folder := path.Clean("/" + r.options.Path)[1:]
	if folder == "" {
		return tree, nil
	}
	sub, err := tree.Tree(folder)
	if errors.Is(err, object.ErrDirectoryNotFound) || errors.Is(err, object.ErrEntryNotFound) {
		return nil, &Error{Reason: ReasonPathNotFound, Message: fmt.Sprintf("commit %q has no folder %q", commit, folder), Hint: "check spec.path"}
	}
	if err != nil {
		return nil, fmt.Errorf("read folder %q of commit %q: %w", folder, commit, err)
	}
	return sub, nil
}
