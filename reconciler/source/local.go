package source

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Local reads commits of a repository on this disk, such as the checkout that a
// person or a CI job works in. Nothing is fetched, run or written, and what is not
// committed is not seen.
type Local struct {
	repository *git.Repository
	// folder is where the caller stands, below the root of the work tree.
	folder string
}

// OpenLocal opens the repository that a folder is in.
func OpenLocal(dir string) (*Local, error) {
	repository, err := git.PlainOpenWithOptions(dir, &git.PlainOpenOptions{DetectDotGit: true, EnableDotGitCommonDir: true})
	if errors.Is(err, git.ErrRepositoryNotExists) {
		return nil, &Error{Reason: ReasonNotFound, Message: fmt.Sprintf("%q is in no Git repository", dir)}
	}
	if err != nil {
		return nil, fmt.Errorf("open the Git repository of %q: %w", dir, err)
	}
	local := &Local{repository: repository}
	tree, err := repository.Worktree()
	switch {
	case errors.Is(err, git.ErrIsBareRepository):
		return local, nil
	case err != nil:
		return nil, fmt.Errorf("open the work tree of %q: %w", dir, err)
	}
	if local.folder, err = below(tree.Filesystem.Root(), dir); err != nil {
		return nil, fmt.Errorf("find %q in its work tree: %w", dir, err)
	}
	return local, nil
}

// Folder is where the repository was opened, below the root of its work tree; empty
// for the root.
func (l *Local) Folder() string { return l.folder }

// below is the path of a folder in a tree that it is in, "" for its root.
func below(root, dir string) (string, error) {
	var real [2]string
	for i, name := range []string{root, dir} {
		full, err := filepath.Abs(name)
		if err != nil {
			return "", err
		}
		if real[i], err = filepath.EvalSymlinks(full); err != nil {
			return "", err
		}
	}
	relative, err := filepath.Rel(real[0], real[1])
	if err != nil || relative == "." {
		return "", err
	}
	return filepath.ToSlash(relative), nil
}

// Snapshot reads the folder of a fleet in a commit, which any name stands for that
// git knows: a branch, a tag, "HEAD~1", the first digits of a hash. The folder
// begins at the root of the repository with a slash, else where it was opened.
func (l *Local) Snapshot(revision, folder string) (Snapshot, error) {
	if strings.Contains(revision, ":") {
		return Snapshot{}, &Error{Reason: ReasonCommitNotFound, Message: fmt.Sprintf("%q is no revision of a whole commit", revision),
			Hint: "name the folder by itself"}
	}
	hash, missing := l.resolve(revision)
	if missing != nil {
		missing.Hint = "`git fetch` brings it; a checkout in CI needs the history of both commits (fetch-depth: 0)"
		return Snapshot{}, missing
	}
	return l.read(hash, folder)
}

// resolve finds the commit that a name stands for.
func (l *Local) resolve(revision string) (plumbing.Hash, *Error) {
	hash, err := l.repository.ResolveRevision(plumbing.Revision(revision))
	if err != nil {
		return plumbing.ZeroHash, &Error{Reason: ReasonCommitNotFound, Message: fmt.Sprintf("the repository has no revision %q", revision), Err: resolved(err)}
	}
	return *hash, nil
}

// resolved leaves out what only says that there is no such revision.
func resolved(err error) error {
	if errors.Is(err, plumbing.ErrReferenceNotFound) || errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil
	}
	return err
}

// MergeBase is the newest commit that two revisions have in common: what a branch
// began from.
func (l *Local) MergeBase(base, head string) (string, error) {
	var commits [2]*object.Commit
	for i, revision := range []string{base, head} {
		hash, missing := l.resolve(revision)
		if missing != nil {
			return "", missing
		}
		var err error
		if commits[i], err = l.repository.CommitObject(hash); err != nil {
			return "", fmt.Errorf("read commit %q: %w", revision, err)
		}
	}
	common, err := commits[0].MergeBase(commits[1])
	if err != nil || len(common) == 0 {
		return "", &Error{Reason: ReasonCommitNotFound, Message: fmt.Sprintf("the repository has no commit that %q and %q have in common", base, head),
			Hint: "a shallow clone lacks the history between them (fetch-depth: 0)", Err: err}
	}
	return common[0].Hash.String(), nil
}

// Same says whether a folder is the same in two revisions, with all that is in it.
// One that either lacks is not.
func (l *Local) Same(before, after, folder string) (bool, error) {
	var hashes [2]plumbing.Hash
	for i, revision := range []string{before, after} {
		hash, missing := l.resolve(revision)
		if missing != nil {
			return false, missing
		}
		_, tree, err := l.tree(hash, folder)
		if ReasonOf(err) == ReasonPathNotFound {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		hashes[i] = tree.Hash
	}
	return hashes[0] == hashes[1], nil
}

// tree is a folder in a commit, and the repository as it reads that folder.
func (l *Local) tree(hash plumbing.Hash, folder string) (Repository, *object.Tree, error) {
	if !strings.HasPrefix(folder, "/") {
		folder = path.Join("/", l.folder, folder)
	}
	r := Repository{options: Options{URL: "this repository", Path: folder}}
	tree, err := r.tree(l.repository, hash.String())
	var e *Error
	if errors.As(err, &e) && e.Reason == ReasonPathNotFound {
		e.Hint = "name the fleet's folder"
	}
	return r, tree, err
}

func (l *Local) read(hash plumbing.Hash, folder string) (Snapshot, error) {
	r, tree, err := l.tree(hash, folder)
	if err != nil {
		return Snapshot{}, err
	}
	w := walker{objects: l.repository.Storer, files: newFiles()}
	if err := w.folder(tree, "", 0); err != nil {
		if errors.Is(err, errTooLarge) {
			return Snapshot{}, r.tooLarge(hash.String())
		}
		return Snapshot{}, fmt.Errorf("commit %q: %w", hash, err)
	}
	return Snapshot{Commit: hash.String(), FS: fs.FS(w.files)}, nil
}
