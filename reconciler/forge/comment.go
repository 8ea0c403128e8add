package forge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// account is who wrote something. Either field may be unknown, and at one time
// both are of one account.
type account struct {
	ID, Login string
}

func (a account) is(b account) bool {
	return a.ID != "" && a.ID == b.ID || a.Login != "" && a.Login == b.Login
}

// comment is one on a pull request.
type comment struct {
	id     string // as the dialect takes it
	order  int64  // of its writing
	author account
	body   string
}

// discussion is how a kind of forge keeps comments on a pull request.
type discussion interface {
	self(ctx context.Context) (account, error)
	comments(ctx context.Context, pullRequest int, visit func(comment)) error
	create(ctx context.Context, pullRequest int, body string) error
	edit(ctx context.Context, pullRequest int, id, body string) error
	remove(ctx context.Context, pullRequest int, id string) error
}

// Marker is the first line of a comment, which readers do not see and by which it
// is found again. what tells apart comments of one account on one pull request:
// the path and the name of the fleet.
func Marker(what string) string {
	var escaped strings.Builder
	for i, r := range []byte(what) {
		plain := r == '/' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		// "--" could end the comment, and "->" begin its end.
		if plain || r == '-' && i > 0 && what[i-1] != '-' {
			escaped.WriteByte(r)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", r)
		}
	}
	name := escaped.String()
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(what))
		name = name[:160] + "..." + hex.EncodeToString(sum[:16])
	}
	return "<!-- isthmus: " + name + " -->"
}

// Limit is how long the body of a comment may be, in the characters of [Fit].
func (c *Client) Limit() int { return c.dialect.limits().comment - markerRoom }

// markerRoom is kept for the marker and the line's end.
const markerRoom = 256

// Comment sees to it that a pull request has one comment of ours with a marker,
// see [Marker], and that body is what it says. Nothing is written if it does.
func (c *Client) Comment(ctx context.Context, pullRequest int, marker, body string) (Outcome, error) {
	return c.comment(ctx, pullRequest, marker, body, true)
}

// Revise does the same where there is such a comment, and makes none: the outcome
// is [None] then.
func (c *Client) Revise(ctx context.Context, pullRequest int, marker, body string) (Outcome, error) {
	return c.comment(ctx, pullRequest, marker, body, false)
}

func (c *Client) comment(ctx context.Context, pullRequest int, marker, body string, create bool) (Outcome, error) {
	if pullRequest <= 0 {
		return "", errors.New("no pull request to comment on")
	}
	if n := length(body); n > c.Limit() {
		return "", fmt.Errorf("the comment has %d characters, and %s takes %d: cut it before", n, c.target.Forge, c.Limit())
	}
	if strings.Contains(marker, "\n") || length(marker) >= markerRoom {
		return "", errors.New("the marker is longer than a line of 255 characters")
	}
	self, err := c.dialect.self(ctx)
	if err != nil {
		return "", err
	}
	if self == (account{}) {
		return "", fmt.Errorf("%s: read whose token it is: it does not say; without it our comment can't be told from another's", c.target.Forge)
	}
	text := marker + "\n" + body
	var outcome Outcome
	var lost error // of a write that may have happened
	const rounds = 4
	for range rounds {
		ours, err := c.ours(ctx, pullRequest, marker, self)
		switch {
		case err != nil:
			return "", err
		case len(ours) == 0 && outcome == Created:
			return Created, nil // the list is behind
		case len(ours) == 0 && !create:
			return None, nil
		case len(ours) == 0:
			// Then look again: a job beside us may have written one as well.
			if lost = c.dialect.create(ctx, pullRequest, text); refused(lost) {
				return "", lost
			} else if lost == nil {
				outcome = Created
			}
			continue
		case Same(ours[0].body, text):
			return cmp.Or(outcome, Unchanged), c.tidy(ctx, pullRequest, ours[1:])
		}
		if err := c.dialect.edit(ctx, pullRequest, ours[0].id, text); err == nil {
			return cmp.Or(outcome, Updated), c.tidy(ctx, pullRequest, ours[1:])
		} else if gone, lookErr := c.gone(ctx, pullRequest, marker, self, ours[0].id); lookErr != nil || !gone {
			return "", errors.Join(err, lookErr)
		}
	}
	if lost != nil {
		return "", lost
	}
	return "", fmt.Errorf("%s: the comment on pull request %d was gone whenever it was to be edited: does somebody or something delete it?", c.target.Forge, pullRequest)
}

// ours lists the comments that we wrote with a marker, the oldest first.
func (c *Client) ours(ctx context.Context, pullRequest int, marker string, self account) ([]comment, error) {
	found := map[string]comment{}
	err := c.dialect.comments(ctx, pullRequest, func(each comment) {
		first, _, _ := strings.Cut(each.body, "\n")
		if strings.TrimSpace(first) == marker && each.author.is(self) {
			found[each.id] = each
		}
	})
	var ours []comment
	for _, each := range found {
		ours = append(ours, each)
	}
	slices.SortFunc(ours, func(a, b comment) int { return cmp.Compare(a.order, b.order) })
	return ours, err
}

// gone says whether a comment was deleted since it was listed.
func (c *Client) gone(ctx context.Context, pullRequest int, marker string, self account, id string) (bool, error) {
	ours, err := c.ours(ctx, pullRequest, marker, self)
	return err == nil && !slices.ContainsFunc(ours, func(each comment) bool { return each.id == id }), err
}

// tidy removes comments that should not be; one that is gone is.
func (c *Client) tidy(ctx context.Context, pullRequest int, extra []comment) error {
	for _, each := range extra {
		err := c.dialect.remove(ctx, pullRequest, each.id)
		var answer *Error
		if errors.As(err, &answer) && (answer.Status == http.StatusNotFound || answer.Status == http.StatusGone) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refused says that a write surely did not happen: the forge said no. After
// other errors it may have.
func refused(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && answer.Status < 500 && answer.Status != http.StatusRequestTimeout
}

// Same compares texts as forges keep them: line ends and outer space may differ.
func Same(a, b string) bool {
	normal := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return normal(a) == normal(b)
}
