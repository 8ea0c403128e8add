package source

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/isthmus-mesh/isthmus/reconciler/source/signature"
)

// Signed says what of a head has to be signed.
type Signed struct {
	// Commit and Tag: each that is set must have a signature of its own.
	Commit, Tag bool
}

// Verify checks the signatures of a head that was fetched before and returns
// who made them. A signature that does not count is a [signature.Error].
func (r *Repository) Verify(h Head, signed Signed, keys signature.Keys, now time.Time) (string, error) {
	repository, err := r.open()
	if err != nil {
		return "", fmt.Errorf("open local copy of %q: %w", r.options.URL, err)
	}
	signer := ""
	if signed.Tag {
		if signer, err = verifyTag(repository, h, keys, now); err != nil {
			return "", err
		}
	}
	if !signed.Commit {
		return signer, nil
	}
	raw, err := content(repository, plumbing.CommitObject, plumbing.NewHash(h.Commit))
	if err != nil {
		return "", fmt.Errorf("read commit %q: %w", h.Commit, err)
	}
	payload, text, err := signature.Commit(raw)
	if err != nil {
		return "", &signature.Error{Reason: signature.ReasonInvalidSignature, Message: err.Error()}
	}
	by, err := keys.Verify(payload, text, now)
	if err != nil {
		return "", of("commit "+h.Commit, err)
	}
	if signer != "" && signer != by {
		by = signer + " and " + by
	}
	return by, nil
}

// verifyTag also checks that the tag is the one that was asked for: a signed tag
// of another name would lead back to an older commit.
func verifyTag(repository *git.Repository, h Head, keys signature.Keys, now time.Time) (string, error) {
	if !h.Tag {
		return "", &signature.Error{Reason: signature.ReasonUnsigned, Message: "spec.verify wants a signed tag, and no tag is followed: set spec.tag or spec.semver"}
	}
	if h.tag.IsZero() {
		return "", &signature.Error{Reason: signature.ReasonUnsigned, Message: fmt.Sprintf("tag %q is not annotated, so not signed", h.Name)}
	}
	tag, err := repository.TagObject(h.tag)
	if err != nil {
		return "", fmt.Errorf("read tag %q: %w", h.Name, err)
	}
	if tag.Name != h.Name || tag.TargetType != plumbing.CommitObject || tag.Target.String() != h.Commit {
		return "", &signature.Error{Reason: signature.ReasonInvalidSignature,
			Message: fmt.Sprintf("tag %q leads to a tag of another name or to no commit", h.Name)}
	}
	raw, err := content(repository, plumbing.TagObject, h.tag)
	if err != nil {
		return "", fmt.Errorf("read tag %q: %w", h.Name, err)
	}
	payload, text := signature.Tag(raw)
	signer, err := keys.Verify(payload, text, now)
	return signer, of("tag "+h.Name, err)
}

// of says what it is that a signature does not count for.
func of(what string, err error) error {
	var refused *signature.Error
	if errors.As(err, &refused) {
		return &signature.Error{Reason: refused.Reason, Message: what + ": " + refused.Message}
	}
	return err
}

// content returns an object as Git stores it: the bytes that were signed.
func content(repository *git.Repository, kind plumbing.ObjectType, hash plumbing.Hash) ([]byte, error) {
	found, err := repository.Storer.EncodedObject(kind, hash)
	if err != nil {
		return nil, err
	}
	reader, err := found.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { _ = reader.Close() }()
	return io.ReadAll(reader)
}
