package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Limits on what one commit may hold below the fleet's path. A fleet of a
// thousand members is about 2 MiB in as many files.
const (
	MaxFiles = 20_000 // and folders
	MaxBytes = 64 << 20
)

// Snapshot is one commit of a fleet.
type Snapshot struct {
	// Commit is the full hash, 40 hex digits.
	Commit string
	// FS holds the files below the fleet's path, in memory. Symbolic links are
	// in it as links and are not followed.
	FS fs.FS
}

// Revision returns a commit of a branch or tag in Flux's form, "main@sha1:…".
func Revision(name, commit string) string { return name + "@sha1:" + commit }

// NameOf returns the branch or tag of a revision in Flux's form, or "".
func NameOf(revision string) string {
	name, _, found := strings.Cut(revision, "@sha1:")
	if !found {
		return ""
	}
	return name
}

// CommitOf returns the commit of a revision in Flux's form, or "".
func CommitOf(revision string) string {
	_, commit, _ := strings.Cut(revision, "@sha1:")
	return commit
}

// Snapshot reads one commit, which must have been fetched before. It returns
// everything below the fleet's path or an error. When the local copy lacks a
// part of the commit, it is removed, so that the next fetch makes it anew.
func (r *Repository) Snapshot(commit string) (Snapshot, error) {
	repository, err := r.open()
	if err != nil {
		return Snapshot{}, fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	tree, err := r.tree(repository, commit)
	if err != nil {
		return Snapshot{}, err
	}
	w := walker{objects: repository.Storer, files: newFiles()}
	err = w.folder(tree, "", 0)
	switch {
	case errors.Is(err, errTooLarge):
		return Snapshot{}, r.tooLarge(commit)
	case errors.Is(err, object.ErrMalformedTree):
		return Snapshot{}, &Error{Reason: ReasonInvalidTree, Message: fmt.Sprintf("commit %q", commit), Hint: "`git fsck` says more", Err: err}
	case errors.Is(err, plumbing.ErrObjectNotFound):
		err = errors.Join(err, os.RemoveAll(r.directory))
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("commit %q: %w", commit, err)
	}
	return Snapshot{Commit: commit, FS: w.files}, nil
}

func (r *Repository) tooLarge(commit string) error {
	return &Error{Reason: ReasonTooLarge,
		Message: fmt.Sprintf("commit %q holds more than %d files and folders or %d MiB below path %q", commit, MaxFiles, MaxBytes>>20, r.options.Path),
		Hint:    "point spec.path at the fleet's own folder"}
}

// tree returns the folder of the fleet in a commit.
func (r *Repository) tree(repository *git.Repository, commit string) (*object.Tree, error) {
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
