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
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
)

// Options say which repository to read, and how.
type Options struct {
	// URL of the repository: https, http or file, without credentials.
	URL string
	// Branch to follow.
	Branch string
	// Path of the fleet inside the repository, slash-separated; empty is the root.
	Path string
	// Credentials for https and http.
	Credentials Credentials
}

// Credentials of one repository. The zero value means none.
type Credentials struct {
	// Username and Password for basic authentication.
	Username, Password string
	// BearerToken, used instead of them when set.
	BearerToken string
	// CA certificates that the server's must chain to, PEM; empty means the
	// system's.
	CA []byte
}

// Repository is a local copy of one branch of a remote repository.
type Repository struct {
	directory string
	options   Options
}

// Open returns the local copy below the folder cache. It reads nothing yet.
// A URL with credentials in it or another scheme is an [Error] with
// ReasonInvalidURL.
func Open(cache string, options Options) (*Repository, error) {
	u, err := url.Parse(options.URL)
	if err != nil {
		return nil, &Error{Reason: ReasonInvalidURL, Message: "spec.url does not parse"}
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file":
		return nil, &Error{Reason: ReasonInvalidURL, Message: fmt.Sprintf("spec.url has the scheme %q", u.Scheme),
			Hint: "use https, http or file"}
	case u.User != nil:
		return nil, &Error{Reason: ReasonInvalidURL, Message: "spec.url carries credentials",
			Hint: "put them into a Secret and name it in spec.secretRef"}
	}
	sum := sha256.Sum256([]byte(options.URL + "\x00" + options.Branch))
	return &Repository{directory: filepath.Join(cache, hex.EncodeToString(sum[:16])), options: options}, nil
}

// Fetch brings the branch's head here and returns its commit, 40 hex digits.
// It costs one round trip when nothing is new. A server that does not answer
// leaves the local copy as it was.
func (r *Repository) Fetch(ctx context.Context) (string, error) {
	commit, err := r.fetch(ctx)
	if !errors.Is(err, errBrokenCopy) {
		return commit, err
	}
	// The copy is only a cache: after a crash or a full disk, make it anew, once.
	if err := os.RemoveAll(r.directory); err != nil {
		return "", fmt.Errorf("remove broken copy of %q: %w", r.options.URL, err)
	}
	return r.fetch(ctx)
}

// errBrokenCopy says that the local copy, not the server, is at fault.
var errBrokenCopy = errors.New("local copy cannot be read")

func (r *Repository) fetch(ctx context.Context) (string, error) {
	repository, err := r.open()
	if err != nil {
		return "", fmt.Errorf("open copy of %q: %w: %w", r.options.URL, errBrokenCopy, err)
	}
	remote := git.NewRemote(repository.Storer, &config.RemoteConfig{Name: "origin", URLs: []string{r.options.URL}})
	err = remote.FetchContext(ctx, &git.FetchOptions{
		RefSpecs: []config.RefSpec{config.RefSpec(fmt.Sprintf("+refs/heads/%s:%s", r.options.Branch, r.head()))},
		Tags:     git.NoTags,
		Auth:     r.options.Credentials.method(),
		CABundle: r.options.Credentials.CA,
		Force:    true,
	})
	if err != nil && !errors.Is(err, git.NoErrAlreadyUpToDate) {
		return "", classify(err, r.options)
	}
	ref, err := repository.Reference(r.head(), true)
	if err != nil {
		return "", fmt.Errorf("read head of %q: %w: %w", r.options.URL, errBrokenCopy, err)
	}
	if _, err := repository.CommitObject(ref.Hash()); err != nil {
		return "", fmt.Errorf("read head of %q: %w: %w", r.options.URL, errBrokenCopy, err)
	}
	return ref.Hash().String(), nil
}

func (r *Repository) head() plumbing.ReferenceName {
	return plumbing.NewRemoteReferenceName("origin", r.options.Branch)
}

func (r *Repository) open() (*git.Repository, error) {
	repository, err := git.PlainOpen(r.directory)
	if !errors.Is(err, git.ErrRepositoryNotExists) {
		return repository, err
	}
	if err := os.MkdirAll(r.directory, 0o700); err != nil {
		return nil, err
	}
	return git.PlainInit(r.directory, true)
}

// Descends reports whether commit is ancestor or has it in its history. An
// ancestor that the repository does not know any more is not an error: history
// was rewritten, and the answer is false.
func (r *Repository) Descends(commit, ancestor string) (bool, error) {
	if commit == ancestor {
		return true, nil
	}
	repository, err := r.open()
	if err != nil {
		return false, fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	old, err := repository.CommitObject(plumbing.NewHash(ancestor))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read commit %q: %w", ancestor, err)
	}
	head, err := repository.CommitObject(plumbing.NewHash(commit))
	if err != nil {
		return false, fmt.Errorf("read commit %q: %w", commit, err)
	}
	return old.IsAncestor(head)
}

func (c Credentials) method() transport.AuthMethod {
	switch {
	case c.BearerToken != "":
		return &http.TokenAuth{Token: c.BearerToken}
	case c.Username != "" || c.Password != "":
		return &http.BasicAuth{Username: c.Username, Password: c.Password}
	}
	return nil
}
