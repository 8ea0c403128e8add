package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// The names in a copy. None comes from a server.
const (
	// refHead is the commit that the last look led to, whole.
	refHead = plumbing.ReferenceName("refs/isthmus/head")
	// refTip is what the branch or tag pointed to, which can be more than a commit
	// and another than the one to stay at.
	refTip = plumbing.ReferenceName("refs/isthmus/tip")
	// refAccepted is the commit that the follower said it holds, whole.
	refAccepted = plumbing.ReferenceName("refs/isthmus/accepted")
	// refTooFar is a tip whose history is here up to the limit.
	refTooFar = plumbing.ReferenceName("refs/isthmus/toofar")
)

// When a copy is made smaller: it has gathered many packs, or more than twice
// its largest.
const (
	maxPacks = 40
	slack    = 64 << 20
)

// open returns the copy, made when there is none. What a crash left half done
// is put right.
func (r *Repository) open() (*git.Repository, error) {
	_, err := os.Stat(r.directory)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(r.directory+".old", r.directory)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(r.directory+".old"), os.RemoveAll(r.directory+".new")); err != nil {
		return nil, err
	}
	return openAt(r.directory)
}

func openAt(directory string) (*git.Repository, error) {
	repository, err := git.PlainOpen(directory)
	if !errors.Is(err, git.ErrRepositoryNotExists) {
		return repository, err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	return git.PlainInit(directory, true)
}

// complete reports whether the copy has a commit with its files. Where the
// folder is, so is what is below: they come together.
func complete(repository *git.Repository, hash plumbing.Hash) bool {
	commit, err := repository.CommitObject(hash)
	return err == nil && repository.Storer.HasEncodedObject(commit.TreeHash) == nil
}

// marked returns what a name of the copy points to, zero for nothing.
func marked(repository *git.Repository, name plumbing.ReferenceName) plumbing.Hash {
	ref, err := repository.Reference(name, false)
	if err != nil {
		return plumbing.ZeroHash
	}
	return ref.Hash()
}

// whole returns the commits of which the copy has everything but the history:
// that is what a server is told.
func whole(repository *git.Repository) []plumbing.Hash {
	var out []plumbing.Hash
	for _, name := range []plumbing.ReferenceName{refHead, refTip, refAccepted} {
		if hash := marked(repository, name); !hash.IsZero() && complete(repository, hash) && !slices.Contains(out, hash) {
			out = append(out, hash)
		}
	}
	return out
}

func mark(repository *git.Repository, name plumbing.ReferenceName, hash plumbing.Hash) error {
	return repository.Storer.SetReference(plumbing.NewHashReference(name, hash))
}

// tidy makes the copy smaller when it has grown: it keeps the commits that are
// whole, without their history.
func (r *Repository) tidy(ctx context.Context, repository *git.Repository) error {
	packs, bytes, largest, err := measureCopy(r.directory)
	if err != nil || (packs <= maxPacks && bytes <= 2*largest+slack) {
		return err
	}
	fresh := r.directory + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := repack(ctx, repository, fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(r.directory, r.directory+".old"); err != nil {
		return err
	}
	if err := os.Rename(fresh, r.directory); err != nil {
		return err
	}
	return os.RemoveAll(r.directory + ".old")
}

// repack writes a copy with the marked objects of another alone.
func repack(ctx context.Context, from *git.Repository, directory string) error {
	to, err := openAt(directory)
	if err != nil {
		return err
	}
	all := map[plumbing.Hash]bool{}
	for _, name := range []plumbing.ReferenceName{refHead, refTip, refAccepted} {
		hash := marked(from, name)
		if hash.IsZero() {
			continue
		}
		if err := errors.Join(collect(from.Storer, hash, all), mark(to, name, hash)); err != nil {
			return fmt.Errorf("repack %q: %w", name, err)
		}
	}
	hashes := make([]plumbing.Hash, 0, len(all))
	for hash := range all {
		hashes = append(hashes, hash)
	}
	reader, writer := io.Pipe()
	go func() {
		_, err := packfile.NewEncoder(writer, from.Storer, false).Encode(hashes, 0)
		writer.CloseWithError(err)
	}()
	own := limits{objects: 4 * MaxObjects, objectSize: 2 * MaxObjectSize, unpacked: 8 * MaxUnpacked}
	err = storePack(ctx, directory, reader, own)
	return errors.Join(err, reader.Close())
}

// collect adds an object and everything below it: a tag's commit, a commit's
// tree, but no history.
func collect(objects storer.EncodedObjectStorer, hash plumbing.Hash, all map[plumbing.Hash]bool) error {
	if all[hash] {
		return nil
	}
	all[hash] = true
	found, err := object.GetObject(objects, hash)
	if err != nil {
		return err
	}
	switch found := found.(type) {
	case *object.Tag:
		return collect(objects, found.Target, all)
	case *object.Commit:
		return collect(objects, found.TreeHash, all)
	case *object.Tree:
		for _, entry := range found.Entries {
			switch entry.Mode {
			case filemode.Dir:
				err = collect(objects, entry.Hash, all)
			case filemode.Submodule:
				err = nil
			default:
				all[entry.Hash] = true
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// measureCopy returns the packs of a copy, their bytes, and those of the largest.
func measureCopy(directory string) (packs int, bytes, largest int64, err error) {
	folder := filepath.Join(directory, "objects", "pack")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, 0, 0, ignoreNotExist(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".pack") {
			continue
		}
		if info, statErr := entry.Info(); statErr == nil {
			packs++
			bytes += info.Size()
			largest = max(largest, info.Size())
		}
	}
	return packs, bytes, largest, err
}

// Sweep removes the copies below the folder cache that are not of these keys.
func Sweep(cache string, keys []string) error {
	keep := map[string]bool{}
	for _, key := range keys {
		keep[folderOf(key)] = true
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		return ignoreNotExist(err)
	}
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		if !keep[name] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(cache, entry.Name())))
		}
	}
	return err
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
