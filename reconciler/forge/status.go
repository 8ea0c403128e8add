package forge

import (
	"context"
	"fmt"
	"strings"
)

// State of a commit in one context.
type State string

// The states. Failure is a verdict, and Error that there is none.
const (
	Pending State = "Pending"
	Success State = "Success"
	Failure State = "Failure"
	Broken  State = "Error"
)

// Status is what a forge shows beside a commit, one for each context.
type Status struct {
	// Context tells statuses apart, see [Context]. Branch protection requires them by it.
	Context string
	State   State
	// Description is one line; what a forge does not take is cut off.
	Description string
	// URL leads to more; empty for none.
	URL string
}

// Context is the stable context of a fleet's statuses: the rolled up one, and one
// for each ring. It is case-sensitive but on GitHub.
func Context(fleet, ring string) string {
	if ring == "" {
		return "isthmus/" + fleet
	}
	return "isthmus/" + fleet + "/" + ring
}

// limits of a kind of forge, in characters.
type limits struct {
	comment, description, url int
	// title and pull are those of a pull request and its description.
	title, pull int
	// pendingStays says that what a pending status says can't be changed.
	pendingStays bool
	// errorIsFailure says that there is no state for what has no verdict.
	errorIsFailure bool
}

// checks is how a kind of forge keeps statuses.
type checks interface {
	// status returns what a commit has in a context; a zero Status for nothing.
	status(ctx context.Context, commit, name string) (Status, error)
	setStatus(ctx context.Context, commit string, s Status) error
}

// Status gives a commit a status. Nothing is written if it has it.
func (c *Client) Status(ctx context.Context, commit string, s Status) (Outcome, error) {
	if !isCommit(commit) {
		return "", fmt.Errorf("%q is no commit: give its whole hash", commit)
	}
	if s.Context == "" || length(s.Context) > 255 {
		return "", fmt.Errorf("the context of a status must have 1 to 255 characters, not %d", length(s.Context))
	}
	switch s.State {
	case Pending, Success, Failure, Broken:
	default:
		return "", fmt.Errorf("%q is no state of a commit: there are Pending, Success, Failure and Error", s.State)
	}
	limits := c.dialect.limits()
	s.Description = cut(strings.Join(strings.Fields(s.Description), " "), limits.description)
	if length(s.URL) > limits.url {
		s.URL = "" // a part of it leads nowhere
	}
	if s.State == Broken && limits.errorIsFailure {
		s.State = Failure
	}
	have, err := c.dialect.status(ctx, commit, s.Context)
	if err != nil {
		return "", err
	}
	switch {
	case have == s, have.State == Pending && s.State == Pending && limits.pendingStays:
		return Unchanged, nil
	case have.State == "":
		return Created, c.dialect.setStatus(ctx, commit, s)
	}
	return Updated, c.dialect.setStatus(ctx, commit, s)
}
