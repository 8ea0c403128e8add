package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Reason says why a repository could not be read. Values are stable.
type Reason string

// The reasons.
const (
	// ReasonUnreachable: the server did not answer in time, or at all.
	ReasonUnreachable Reason = "SourceUnreachable"
	// ReasonCredentialsRejected: the server wants other credentials.
	ReasonCredentialsRejected Reason = "SourceCredentialsRejected"
	// ReasonNotFound: there is no repository at the URL.
	ReasonNotFound Reason = "RepositoryNotFound"
	// ReasonTimedOut: the look took longer than spec.timeout.
	ReasonTimedOut Reason = "SourceTimedOut"
	// ReasonMalformed: the server's answer does not follow Git's protocol.
	ReasonMalformed Reason = "SourceMalformed"
	// ReasonHostKeyMismatch: an ssh server has another key than it should.
	ReasonHostKeyMismatch Reason = "HostKeyMismatch"
	// ReasonHostKeyUnknown: no key of an ssh server is known.
	ReasonHostKeyUnknown Reason = "HostKeyUnknown"
	// ReasonInvalidSecret: a Secret lacks what it must have.
	ReasonInvalidSecret Reason = "InvalidSecret"
	// ReasonInvalidReference: spec.semver is not a range.
	ReasonInvalidReference Reason = "InvalidReference"
	// ReasonEmpty: the repository has no commit yet.
	ReasonEmpty Reason = "RepositoryEmpty"
	// ReasonBranchNotFound: the repository has no such branch.
	ReasonBranchNotFound Reason = "BranchNotFound"
	// ReasonTagNotFound: the repository has no such tag, or none in the range.
	ReasonTagNotFound Reason = "TagNotFound"
	// ReasonCommitNotInBranch: the commit to stay at is not in the branch.
	ReasonCommitNotInBranch Reason = "CommitNotInBranch"
	// ReasonPathNotFound: the commit has no such folder.
	ReasonPathNotFound Reason = "PathNotFound"
	// ReasonCommitNotFound: the copy has no such commit any more.
	ReasonCommitNotFound Reason = "CommitNotFound"
	// ReasonTooLarge: the fleet's folder exceeds MaxFiles or MaxBytes.
	ReasonTooLarge Reason = "RepositoryTooLarge"
	// ReasonTooManyReferences: the list of branches and tags exceeds MaxReferences.
	ReasonTooManyReferences Reason = "TooManyReferences"
	// ReasonTransferTooLarge: the answer exceeds MaxTransfer or MaxUnpacked.
	ReasonTransferTooLarge Reason = "TransferTooLarge"
	// ReasonTooManyObjects: the answer exceeds MaxObjects.
	ReasonTooManyObjects Reason = "TooManyObjects"
	// ReasonObjectTooLarge: one file exceeds MaxObjectSize.
	ReasonObjectTooLarge Reason = "ObjectTooLarge"
	// ReasonInvalidTree: the commit has entries that no folder can have.
	ReasonInvalidTree Reason = "InvalidTree"
	// ReasonInvalidURL: the URL has a scheme that is not allowed, or more than a URL
	// may have.
	ReasonInvalidURL Reason = "InvalidURL"
)

// Error is why a repository could not be read.
type Error struct {
	Reason  Reason
	Message string
	// Hint says what to do; may be empty.
	Hint string
	// Err is the cause; may be nil.
	Err error
}

// Error returns the message and its cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Explain returns the message of an error and what to do about it.
func Explain(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Hint != "" {
		return err.Error() + ": " + e.Hint
	}
	return err.Error()
}

// ReasonOf returns the reason of an error of this package, else
// ReasonUnreachable.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonUnreachable
}

// Transient reports whether waiting may help; else a person must act.
func (r Reason) Transient() bool {
	return r == ReasonUnreachable || r == ReasonTimedOut || r == ReasonMalformed
}

// classify turns an error of a fetch into one that says what to do.
func classify(ctx context.Context, err error, options Options) error {
	var known *Error
	if full := ofDisk(err, options); full != nil {
		return full
	}
	switch {
	case errors.As(err, &known), errors.Is(err, errBrokenCopy):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return &Error{Reason: ReasonTimedOut, Message: fmt.Sprintf("repository %q did not answer in time", options.URL),
			Hint: "try later, or set a longer spec.timeout"}
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed),
		errors.Is(err, transport.ErrInvalidAuthMethod):
		return &Error{Reason: ReasonCredentialsRejected,
			Message: fmt.Sprintf("repository %q rejected the credentials", options.URL),
			Hint:    "check the Secret that spec.secretRef names"}
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return &Error{Reason: ReasonNotFound, Message: fmt.Sprintf("no repository at %q", options.URL),
			Hint: "check spec.url; some servers say this when credentials are missing"}
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return &Error{Reason: ReasonEmpty, Message: fmt.Sprintf("repository %q has no commit yet", options.URL),
			Hint: "push a branch"}
	}
	return &Error{Reason: ReasonUnreachable, Message: fmt.Sprintf("fetch %q", options.URL), Err: plain(err, options.Credentials)}
}

// plain drops what a network error repeats of the request, the URL above all,
// and what a server could have put into its answer: our own credentials, control
// characters, or a novel.
func plain(err error, c Credentials) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	text := err.Error()
	for _, secret := range []string{c.Password, c.BearerToken, base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "…")
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxErrorText {
		text = string(runes[:maxErrorText]) + "…"
	}
	return errors.New(text)
}

// maxErrorText of an error, in characters.
const maxErrorText = 300
