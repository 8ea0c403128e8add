package forge

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// gitea is the API of Gitea and Forgejo, version 1.
// Source: https://docs.gitea.com/api/1.26/ and swagger.v1.json of a server.
type gitea struct {
	*wire
	repository string // path
}

func newGitea(w *wire, owner, name string) gitea {
	return gitea{w, "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name)}
}

// Neither comments nor descriptions have a limit that is published. Ours are
// GitHub's for what people read, and half a line of the page for what they glance at.
func (gitea) limits() limits {
	return limits{comment: 65536, description: 255, url: 2000, title: 255, pull: 65536}
}

// Scopes of a token, and what its account may do; a job's token has them all.
const (
	giteaUser     = "the scope read:user"
	giteaComments = "the scope write:issue, and its account access to pull requests of the repository"
	giteaPulls    = "the scopes write:issue and write:repository, and its account write access to code and pull requests of the repository"
	giteaStatuses = "the scope write:repository, and its account write access to the repository"
)

func (g gitea) self(ctx context.Context) (account, error) {
	var user githubUser
	_, err := g.do(ctx, call{action: "read whose token it is", needs: giteaUser, method: http.MethodGet, path: "/user", again: true}, one(&user))
	return user.account(), err
}

// comments come all at once: the list has no pages, and takes no number of one.
func (g gitea) comments(ctx context.Context, pullRequest int, visit func(comment)) error {
	_, err := g.do(ctx, listComments(g.issue(pullRequest), giteaComments, pullRequest), issueComments(visit))
	return err
}

func (g gitea) create(ctx context.Context, pullRequest int, body string) error {
	return createIssueComment(ctx, g.wire, g.issue(pullRequest), giteaComments, pullRequest, body)
}

func (g gitea) edit(ctx context.Context, pullRequest int, id, body string) error {
	return editIssueComment(ctx, g.wire, g.repository, giteaComments, pullRequest, id, body)
}

func (g gitea) remove(ctx context.Context, pullRequest int, id string) error {
	return removeIssueComment(ctx, g.wire, g.repository, giteaComments, pullRequest, id)
}

func (g gitea) issue(pullRequest int) string {
	return g.repository + "/issues/" + strconv.Itoa(pullRequest)
}

func (g gitea) status(ctx context.Context, commit, name string) (Status, error) {
	return combinedStatus(ctx, g.wire, g.repository, giteaStatuses, commit, name, "limit", 50)
}

func (g gitea) setStatus(ctx context.Context, commit string, s Status) error {
	return createStatus(ctx, g.wire, g.repository, giteaStatuses, commit, s)
}

// listPulls reads the whole list: Gitea can't be asked for those of a branch.
func (g gitea) listPulls(ctx context.Context, _ string, _ []string, visit func(Pull)) error {
	return g.pages(ctx, listOfPulls(g.repository, giteaPulls), "limit", 50, each("", visitPulls(visit)))
}

func (g gitea) createPull(ctx context.Context, p Pull) (Pull, error) {
	return createPull(ctx, g.wire, g.repository, giteaPulls, p)
}

func (g gitea) editPull(ctx context.Context, p Pull) error {
	return changePull(ctx, g.wire, g.repository, giteaPulls, p.Number, "edit", map[string]string{"title": p.Title, "body": p.Body})
}

func (g gitea) closePull(ctx context.Context, number int) error {
	return changePull(ctx, g.wire, g.repository, giteaPulls, number, "close", map[string]string{"state": "closed"})
}
