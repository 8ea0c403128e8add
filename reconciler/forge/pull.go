package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PullState is what became of a pull request.
type PullState string

// The states. Closed is without a merge.
const (
	PullOpen   PullState = "Open"
	PullMerged PullState = "Merged"
	PullClosed PullState = "Closed"
)

// Pull is a pull request, in GitLab a merge request, between two branches of the
// repository.
type Pull struct {
	Number int
	State  PullState
	// Branch is what it proposes, Base where it goes to.
	Branch, Base string
	Title        string
	// Body is its description, in Markdown. Of those that are not open it may be cut
	// after its first lines.
	Body string
	// URL of its page; empty where the forge does not say.
	URL string
}

// pulls is how a kind of forge keeps pull requests.
type pulls interface {
	// listPulls visits pull requests of any state to a base from some branches; others
	// may be among them.
	listPulls(ctx context.Context, base string, branches []string, visit func(Pull)) error
	// createPull returns the pull request with its number and page.
	createPull(ctx context.Context, p Pull) (Pull, error)
	editPull(ctx context.Context, p Pull) error
	closePull(ctx context.Context, number int) error
}

// Pulls returns the pull requests from some branches of the repository to a branch of
// it, in any state, the newest first. Those of forks are not among them.
func (c *Client) Pulls(ctx context.Context, base string, branches ...string) ([]Pull, error) {
	found := map[int]Pull{} // a list that is read again visits again
	if len(branches) == 0 {
		return nil, nil
	}
	err := c.dialect.listPulls(ctx, base, branches, func(p Pull) {
		if p.Base == base && slices.Contains(branches, p.Branch) {
			found[p.Number] = p
		}
	})
	var out []Pull
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Pull) int { return cmp.Compare(b.Number, a.Number) })
	return out, err
}

// PullLimit is how long the body of a pull request may be, in the characters of [Fit].
func (c *Client) PullLimit() int { return c.dialect.limits().pull }

// ReportsApart tells whether descriptions of pull requests are too short for a report,
// which has to be a comment then.
func (c *Client) ReportsApart() bool { return c.PullLimit() < c.Limit()/2 }

// Open sees to it that there is an open pull request from a branch to a base with a
// title and a body, and returns it. Nothing is written if there is. Both branches
// have to be there.
func (c *Client) Open(ctx context.Context, want Pull) (Pull, Outcome, error) {
	want.Title = cut(strings.Join(strings.Fields(want.Title), " "), c.dialect.limits().title)
	if n := length(want.Body); n > c.PullLimit() {
		return Pull{}, "", fmt.Errorf("the description has %d characters, and %s takes %d: cut it before", n, c.target.Forge, c.PullLimit())
	}
	var lost error // of a creation that may have happened
	const rounds = 3
	for range rounds {
		all, err := c.Pulls(ctx, want.Base, want.Branch)
		if err != nil {
			return Pull{}, "", err
		}
		if i := slices.IndexFunc(all, func(p Pull) bool { return p.State == PullOpen }); i >= 0 {
			return c.edit(ctx, all[i], want, lost != nil)
		}
		made, err := c.dialect.createPull(ctx, want)
		if err == nil {
			made.State = PullOpen
			return made, Created, nil
		}
		// The answer may be lost, or say that a job beside us was first: look again.
		if lost = err; refused(err) && !exists(err) {
			return Pull{}, "", err
		}
	}
	return Pull{}, "", lost
}

// edit makes an open pull request what it should be.
func (c *Client) edit(ctx context.Context, have, want Pull, created bool) (Pull, Outcome, error) {
	outcome := Unchanged
	if created {
		outcome = Created
	}
	if have.Title == want.Title && Same(have.Body, want.Body) {
		return have, outcome, nil
	}
	have.Title, have.Body = want.Title, want.Body
	if !created {
		outcome = Updated
	}
	return have, outcome, c.dialect.editPull(ctx, have)
}

// exists tells a refusal that says that there is such a pull request.
func exists(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && (answer.Status == 409 || strings.Contains(strings.ToLower(answer.Message), "already exists"))
}

// Close closes a pull request without a merge. Its body becomes the one given before,
// so that what closed it can be told.
func (c *Client) Close(ctx context.Context, p Pull, body string) error {
	if p.Body = body; length(body) > c.PullLimit() {
		p.Body = head(body, c.PullLimit())
	}
	if err := c.dialect.editPull(ctx, p); err != nil {
		return err
	}
	return c.dialect.closePull(ctx, p.Number)
}
