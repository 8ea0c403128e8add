package source

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
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
	// ReasonEmpty: the repository has no commit yet.
	ReasonEmpty Reason = "RepositoryEmpty"
	// ReasonBranchNotFound: the repository has no such branch.
	ReasonBranchNotFound Reason = "BranchNotFound"
	// ReasonPathNotFound: the commit has no such folder.
	ReasonPathNotFound Reason = "PathNotFound"
	// ReasonCommitNotFound: the repository has no such commit any more.
	ReasonCommitNotFound Reason = "CommitNotFound"
	// ReasonTooLarge: the fleet's folder exceeds a limit of this package.
	ReasonTooLarge Reason = "RepositoryTooLarge"
	// ReasonInvalidTree: the commit has entries that no folder can have.
	ReasonInvalidTree Reason = "InvalidTree"
	// ReasonInvalidURL: the URL has a scheme that is not allowed.
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

// ReasonOf returns the reason of an error of this package, else
// ReasonUnreachable.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonUnreachable
}

// classify turns an error of a fetch into one that says what to do.
func classify(err error, options Options) error {
	var noMatch git.NoMatchingRefSpecError
	var netErr net.Error
	switch {
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
	case errors.As(err, &noMatch), errors.Is(err, plumbing.ErrReferenceNotFound):
		return &Error{Reason: ReasonBranchNotFound,
			Message: fmt.Sprintf("repository %q has no branch %q", options.URL, options.Branch), Hint: "check spec.branch"}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr):
		return &Error{Reason: ReasonUnreachable, Message: fmt.Sprintf("reach repository %q", options.URL), Err: plain(err)}
	}
	return &Error{Reason: ReasonUnreachable, Message: fmt.Sprintf("fetch %q", options.URL), Err: err}
}

// plain drops what a network error repeats of the request, the URL above all:
// it may hold credentials that someone put there.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}
