package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Repository is a local copy of what one reference of a remote repository leads
// to: the newest commit and the accepted one, each whole, and as much of the
// history between as was needed to tell how they relate.
type Repository struct {
	directory string
	options   Options
	url       *url.URL
	limits    limits
}

// Open returns the local copy below the folder cache. It reads nothing yet.
// Options that cannot be used are an [Error].
func Open(cache string, options Options) (*Repository, error) {
	u, err := options.parse()
	if err != nil {
		return nil, err
	}
	return &Repository{directory: filepath.Join(cache, folderOf(options.Key)), options: options, url: u, limits: defaultLimits()}, nil
}

func folderOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// Fetch brings what the reference leads to here, and of its history what it
// takes to tell whether it descends from accepted, a commit or empty. It costs
// one round trip and no objects when nothing is new. A server that does not
// answer leaves the local copy as it was.
func (r *Repository) Fetch(ctx context.Context, accepted string) (Head, error) {
	found, err := r.fetch(ctx, accepted)
	if full := ofDisk(err, r.options); full != nil {
		return Head{}, full
	}
	if !errors.Is(err, errBrokenCopy) {
		return found, err
	}
	// The copy is only a cache: after a crash, make it anew, once.
	if err := os.RemoveAll(r.directory); err != nil {
		return Head{}, fmt.Errorf("remove broken copy of %q: %w", r.options.URL, err)
	}
	return r.fetch(ctx, accepted)
}

// errBrokenCopy says that the local copy, not the server, is at fault.
var errBrokenCopy = errors.New("local copy cannot be read")

func (r *Repository) fetch(ctx context.Context, accepted string) (Head, error) {
	repository, err := r.open()
	if err != nil {
		return Head{}, fmt.Errorf("open copy of %q: %w: %w", r.options.URL, errBrokenCopy, err)
	}
	f := &fetcher{Repository: r, copy: repository}
	defer f.close()
	tip, err := f.advertised(ctx)
	if err != nil {
		return Head{}, classify(ctx, err, r.options)
	}
	if err := f.bring(ctx, tip, accepted); err != nil {
		return Head{}, classify(ctx, err, r.options)
	}
	return f.head, nil
}

// commitBehind returns the commit behind the object of a tag, which can be a tag of
// a tag, or the commit itself.
func commitBehind(repository *git.Repository, hash plumbing.Hash) (plumbing.Hash, error) {
	for range 5 {
		tag, err := repository.TagObject(hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			return hash, nil
		}
		if err != nil {
			return hash, err
		}
		if tag.TargetType != plumbing.CommitObject && tag.TargetType != plumbing.TagObject {
			break
		}
		hash = tag.Target
	}
	return hash, &Error{Reason: ReasonInvalidTree, Message: "the tag leads to no commit", Err: object.ErrUnsupportedObject}
}
