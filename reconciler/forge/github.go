package forge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// github is GitHub's REST API, version 2022-11-28, and Enterprise Server's.
// Source: https://github.com/github/rest-api-description
type github struct {
	*wire
	repository string // path
	owner      string
}

func newGitHub(w *wire, owner, name string) github {
	return github{w, "/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name), owner}
}

// Comments and descriptions of pull requests are refused with "body is too long
// (maximum is 65536 characters)", and descriptions of statuses of more than 140.
func (github) limits() limits {
	return limits{comment: 65536, description: 140, url: 2000, title: 256, pull: 65536}
}

// What GITHUB_TOKEN of a workflow gets under permissions, and tokens by their settings.
const (
	githubComments = "the permission pull-requests: write (read to look); a job of a fork's pull request never gets it"
	githubStatuses = "the permission statuses: write (read to look); a job of a fork's pull request never gets it"
	githubPulls    = "the permission pull-requests: write and, for the token of a job, that the settings of the repository and its organisation, Actions, General, allow GitHub Actions to create pull requests"
)

// githubUser is a user, or a bot, as in all answers.
type githubUser struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

func (u githubUser) account() account {
	if u.ID == 0 {
		return account{Login: u.Login}
	}
	return account{ID: strconv.FormatInt(u.ID, 10), Login: u.Login}
}

// self asks who the token is of. A job's token has no user; GraphQL knows its bot.
func (g github) self(ctx context.Context) (account, error) {
	var user githubUser
	c := call{action: "read whose token it is", needs: "to be a token of this forge", method: http.MethodGet, path: "/user", again: true}
	_, err := g.do(ctx, c, one(&user))
	var refused *Error
	if err == nil || !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		return user.account(), err
	}
	var answer struct {
		Data struct {
			Viewer struct {
				Login string `json:"login"`
				ID    int64  `json:"databaseId"`
			} `json:"viewer"`
		} `json:"data"`
	}
	c.method, c.path, c.url = http.MethodPost, "", strings.TrimSuffix(g.base.String(), "/v3")+"/graphql"
	c.body = map[string]string{"query": "{viewer{login databaseId}}"}
	if _, err := g.do(ctx, c, one(&answer)); err != nil {
		return account{}, err
	}
	return githubUser{answer.Data.Viewer.ID, answer.Data.Viewer.Login}.account(), nil
}

func (g github) comments(ctx context.Context, pullRequest int, visit func(comment)) error {
	return g.pages(ctx, listComments(g.issue(pullRequest), githubComments, pullRequest), "per_page", 100, issueComments(visit))
}

func (g github) create(ctx context.Context, pullRequest int, body string) error {
	return createIssueComment(ctx, g.wire, g.issue(pullRequest), githubComments, pullRequest, body)
}

func (g github) edit(ctx context.Context, pullRequest int, id, body string) error {
	return editIssueComment(ctx, g.wire, g.repository, githubComments, pullRequest, id, body)
}

func (g github) remove(ctx context.Context, pullRequest int, id string) error {
	return removeIssueComment(ctx, g.wire, g.repository, githubComments, pullRequest, id)
}

func (g github) issue(pullRequest int) string {
	return g.repository + "/issues/" + strconv.Itoa(pullRequest)
}

func (g github) status(ctx context.Context, commit, name string) (Status, error) {
	return combinedStatus(ctx, g.wire, g.repository, githubStatuses, commit, name, "per_page", 100)
}

func (g github) setStatus(ctx context.Context, commit string, s Status) error {
	return createStatus(ctx, g.wire, g.repository, githubStatuses, commit, s)
}

// listPulls asks for those of each branch: a head without its owner is not looked at.
func (g github) listPulls(ctx context.Context, base string, branches []string, visit func(Pull)) error {
	for _, branch := range branches {
		c := listOfPulls(g.repository, githubPulls)
		c.query.Set("base", base)
		c.query.Set("head", g.owner+":"+branch)
		if err := g.pages(ctx, c, "per_page", 100, each("", visitPulls(visit))); err != nil {
			return err
		}
	}
	return nil
}

func (g github) createPull(ctx context.Context, p Pull) (Pull, error) {
	return createPull(ctx, g.wire, g.repository, githubPulls, p)
}

func (g github) editPull(ctx context.Context, p Pull) error {
	return changePull(ctx, g.wire, g.repository, githubPulls, p.Number, "edit", map[string]string{"title": p.Title, "body": p.Body})
}

func (g github) closePull(ctx context.Context, number int) error {
	return changePull(ctx, g.wire, g.repository, githubPulls, number, "close", map[string]string{"state": "closed"})
}

// What follows is the same in Gitea, whose API was made after GitHub's.

// issueComment is a comment on an issue, which a pull request is as well.
type issueComment struct {
	ID   int64      `json:"id"`
	User githubUser `json:"user"`
	Body string     `json:"body"`
}

func listComments(issue, needs string, pullRequest int) call {
	return call{
		action: fmt.Sprintf("read the comments on pull request %d", pullRequest), needs: needs,
		method: http.MethodGet, path: issue + "/comments", query: url.Values{}, again: true,
	}
}

func issueComments(visit func(comment)) func(io.Reader) error {
	return each("", func(i issueComment) {
		visit(comment{id: strconv.FormatInt(i.ID, 10), order: i.ID, author: i.User.account(), body: i.Body})
	})
}

func createIssueComment(ctx context.Context, w *wire, issue, needs string, pullRequest int, body string) error {
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("write a comment on pull request %d", pullRequest), needs: needs,
		method: http.MethodPost, path: issue + "/comments", body: map[string]string{"body": body},
	}, nil)
	return err
}

func editIssueComment(ctx context.Context, w *wire, repository, needs string, pullRequest int, id, body string) error {
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("edit our comment on pull request %d", pullRequest), needs: needs,
		method: http.MethodPatch, path: repository + "/issues/comments/" + id, body: map[string]string{"body": body}, again: true,
	}, nil)
	return err
}

func removeIssueComment(ctx context.Context, w *wire, repository, needs string, pullRequest int, id string) error {
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("remove a second comment of ours on pull request %d", pullRequest), needs: needs,
		method: http.MethodDelete, path: repository + "/issues/comments/" + id, again: true,
	}, nil)
	return err
}

// githubStates are the words for states; both read them in any case.
var githubStates = map[State]string{Pending: "pending", Success: "success", Failure: "failure", Broken: "error"}

// commitStatus is one in GitHub's combined status, where its state is "state", and
// in Gitea's, where it is "status".
type commitStatus struct {
	State       string `json:"state"`
	Status      string `json:"status"`
	Context     string `json:"context"`
	Description string `json:"description"`
	URL         string `json:"target_url"`
}

// combinedStatus looks in the combined status of a commit, which has the last one of
// each context.
func combinedStatus(ctx context.Context, w *wire, repository, needs, commit, name, size string, perPage int) (Status, error) {
	c := call{
		action: "read the statuses of commit " + commit, needs: needs,
		method: http.MethodGet, path: repository + "/commits/" + commit + "/status", query: url.Values{}, again: true,
	}
	var found Status
	err := w.pages(ctx, c, size, perPage, each("statuses", func(each commitStatus) {
		if each.Context == name || w.forge == GitHub && strings.EqualFold(each.Context, name) {
			found = Status{
				Context: name, Description: each.Description, URL: each.URL,
				State: stateOf(githubStates, strings.ToLower(each.State+each.Status)),
			}
		}
	}))
	return found, err
}

func createStatus(ctx context.Context, w *wire, repository, needs, commit string, s Status) error {
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("write status %q of commit %s", s.Context, commit), needs: needs,
		method: http.MethodPost, path: repository + "/statuses/" + commit, again: true,
		body: map[string]string{"state": githubStates[s.State], "context": s.Context, "description": s.Description, "target_url": s.URL},
	}, nil)
	return err
}

// stateOf is the state that a forge has a word for; another word is none of ours.
func stateOf(words map[State]string, word string) State {
	for state, is := range words {
		if is == word {
			return state
		}
	}
	return "Other"
}

// pullRequest is one in a list, in GitHub's form and Gitea's.
type pullRequest struct {
	Number int             `json:"number"`
	State  string          `json:"state"`
	Title  string          `json:"title"`
	Body   string          `json:"body"`
	URL    string          `json:"html_url"`
	Merged *string         `json:"merged_at"`
	Head   pullRequestSide `json:"head"`
	Base   pullRequestSide `json:"base"`
}

type pullRequestSide struct {
	Ref string `json:"ref"`
	// Label is, in Gitea, the branch, also when it is gone; in GitHub it has its owner.
	Label string `json:"label"`
	// Repository is null if it is gone.
	Repository *struct {
		ID int64 `json:"id"`
	} `json:"repo"`
}

// visitPulls leaves out those of forks.
func visitPulls(visit func(Pull)) func(pullRequest) {
	return func(p pullRequest) {
		if p.Head.Repository == nil || p.Base.Repository == nil || p.Head.Repository.ID != p.Base.Repository.ID {
			return
		}
		branch := p.Head.Ref
		if p.Head.Label != "" && !strings.Contains(p.Head.Label, ":") {
			branch = p.Head.Label
		}
		state := PullOpen
		switch {
		case p.Merged != nil:
			state = PullMerged
		case p.State != "open":
			state = PullClosed
		}
		visit(Pull{Number: p.Number, State: state, Branch: branch, Base: p.Base.Ref, Title: p.Title, Body: p.Body, URL: p.URL})
	}
}

func listOfPulls(repository, needs string) call {
	return call{
		action: "read the list of pull requests", needs: needs,
		method: http.MethodGet, path: repository + "/pulls", query: url.Values{"state": {"all"}}, again: true,
	}
}

func createPull(ctx context.Context, w *wire, repository, needs string, p Pull) (Pull, error) {
	var made pullRequest
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("open a pull request from %q to %q", p.Branch, p.Base), needs: needs,
		method: http.MethodPost, path: repository + "/pulls",
		body: map[string]string{"title": p.Title, "body": p.Body, "head": p.Branch, "base": p.Base},
	}, one(&made))
	p.Number, p.URL = made.Number, made.URL
	return p, err
}

func changePull(ctx context.Context, w *wire, repository, needs string, number int, verb string, body map[string]string) error {
	_, err := w.do(ctx, call{
		action: fmt.Sprintf("%s pull request %d", verb, number), needs: needs,
		method: http.MethodPatch, path: repository + "/pulls/" + strconv.Itoa(number), body: body, again: true,
	}, nil)
	return err
}
