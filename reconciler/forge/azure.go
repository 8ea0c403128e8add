package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// azure is the REST API of Azure DevOps, version 7.1.
// Source: https://learn.microsoft.com/rest/api/azure/devops/git
type azure struct {
	*wire
	repository string // path
	// pullRequest whose statuses are meant, if any: branch policies ask for those
	// of the pull request's iteration, and do not know those of commits.
	pullRequest int
}

func newAzure(w *wire, project, repository string, pullRequest int) azure {
	return azure{w, "/" + url.PathEscape(project) + "/_apis/git/repositories/" + url.PathEscape(repository), pullRequest}
}

// Comments are refused with "cannot be longer than 150000 characters", descriptions of
// pull requests with "must not be longer than 4000 characters". Those of statuses, and
// titles, have no limit that is published.
func (azure) limits() limits {
	return limits{comment: 150_000, description: 255, url: 2000, title: 255, pull: 4000}
}

// Scopes of a personal access token, and what the account of a job's token needs.
const (
	azureComments = "the scope Code (read and write) or, for a job's System.AccessToken, that the project's build service has the permission Contribute to pull requests in the repository"
	azurePulls    = "the scope Code (read and write) or, for a job's System.AccessToken, that the project's build service has the permissions Contribute, Create branch and Contribute to pull requests in the repository"
	azureStatuses = "the scope Code (status) or, for a job's System.AccessToken, that the project's build service has the permission Contribute to pull requests in the repository"
)

func version(v string) url.Values { return url.Values{"api-version": {v}} }

func (a azure) self(ctx context.Context) (account, error) {
	var answer struct {
		User struct {
			ID string `json:"id"`
		} `json:"authenticatedUser"`
	}
	_, err := a.do(ctx, call{
		action: "read whose token it is", needs: azureComments,
		method: http.MethodGet, path: "/_apis/connectionData", query: version("7.1-preview"), again: true,
	}, one(&answer))
	return account{ID: strings.ToLower(answer.User.ID)}, err
}

// A comment of ours is the first one of a thread of its own.
func (a azure) comments(ctx context.Context, pullRequest int, visit func(comment)) error {
	type thread struct {
		ID       int64 `json:"id"`
		Deleted  bool  `json:"isDeleted"`
		Comments []struct {
			ID      int64  `json:"id"`
			Content string `json:"content"`
			Deleted bool   `json:"isDeleted"`
			Type    string `json:"commentType"`
			Author  struct {
				ID string `json:"id"`
			} `json:"author"`
		} `json:"comments"`
	}
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("read the comments on pull request %d", pullRequest), needs: azureComments,
		method: http.MethodGet, path: a.threads(pullRequest), query: version("7.1"), again: true,
	}, each("value", func(t thread) {
		if t.Deleted || len(t.Comments) == 0 {
			return
		}
		first := t.Comments[0]
		if !first.Deleted && first.Type != "system" {
			visit(comment{
				id: fmt.Sprintf("%d/comments/%d", t.ID, first.ID), order: t.ID,
				author: account{ID: strings.ToLower(first.Author.ID)}, body: first.Content,
			})
		}
	}))
	return err
}

// create opens a thread that asks for nothing: a policy that wants all comments
// resolved does not wait for it.
func (a azure) create(ctx context.Context, pullRequest int, body string) error {
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("write a comment on pull request %d", pullRequest), needs: azureComments,
		method: http.MethodPost, path: a.threads(pullRequest), query: version("7.1"),
		body: map[string]any{
			"comments":   []map[string]any{{"parentCommentId": 0, "content": body, "commentType": "text"}},
			"status":     "closed",
			"properties": map[string]any{"Microsoft.TeamFoundation.Discussion.SupportsMarkdown": 1},
		},
	}, nil)
	return err
}

func (a azure) edit(ctx context.Context, pullRequest int, id, body string) error {
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("edit our comment on pull request %d", pullRequest), needs: azureComments,
		method: http.MethodPatch, path: a.threads(pullRequest) + "/" + id, query: version("7.1"),
		body: map[string]string{"content": body}, again: true,
	}, nil)
	return err
}

func (a azure) remove(ctx context.Context, pullRequest int, id string) error {
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("remove a second comment of ours on pull request %d", pullRequest), needs: azureComments,
		method: http.MethodDelete, path: a.threads(pullRequest) + "/" + id, query: version("7.1"), again: true,
	}, nil)
	return err
}

func (a azure) threads(pullRequest int) string {
	return a.pull(pullRequest) + "/threads"
}

func (a azure) pull(pullRequest int) string {
	return a.repository + "/pullRequests/" + strconv.Itoa(pullRequest)
}

var azureStates = map[State]string{Pending: "pending", Success: "succeeded", Failure: "failed", Broken: "error"}

// azureContext is how a context is said in two words.
type azureContext struct {
	Genre string `json:"genre"`
	Name  string `json:"name"`
}

func contextOf(name string) azureContext {
	if genre, rest, ok := strings.Cut(name, "/"); ok {
		return azureContext{genre, rest}
	}
	return azureContext{"", name}
}

type azureStatus struct {
	ID          int64        `json:"id,omitempty"`
	State       string       `json:"state"`
	Description string       `json:"description"`
	URL         string       `json:"targetUrl,omitempty"`
	Context     azureContext `json:"context"`
}

func (a azure) status(ctx context.Context, commit, name string) (Status, error) {
	path, query, err := a.statuses(ctx, commit)
	if err != nil {
		return Status{}, err
	}
	if a.pullRequest == 0 {
		query.Set("latestOnly", "true")
		query.Set("top", "1000")
	}
	var found Status
	var newest int64
	_, err = a.do(ctx, call{
		action: "read the statuses of commit " + commit, needs: azureStatuses,
		method: http.MethodGet, path: path, query: query, again: true,
	}, each("value", func(s azureStatus) {
		if s.Context == contextOf(name) && s.ID >= newest {
			newest = s.ID
			found = Status{Context: name, State: stateOf(azureStates, s.State), Description: s.Description, URL: s.URL}
		}
	}))
	return found, err
}

func (a azure) setStatus(ctx context.Context, commit string, s Status) error {
	path, query, err := a.statuses(ctx, commit)
	if err != nil {
		return err
	}
	_, err = a.do(ctx, call{
		action: fmt.Sprintf("write status %q of commit %s", s.Context, commit), needs: azureStatuses,
		method: http.MethodPost, path: path, query: query, again: true,
		body: azureStatus{State: azureStates[s.State], Description: s.Description, URL: s.URL, Context: contextOf(s.Context)},
	}, nil)
	return err
}

// statuses is where those of a commit are: at the iteration of the pull request
// whose head it is, or at the commit.
func (a azure) statuses(ctx context.Context, commit string) (path string, query url.Values, err error) {
	if a.pullRequest == 0 {
		return a.repository + "/commits/" + commit + "/statuses", version("7.1"), nil
	}
	type iteration struct {
		ID     int64 `json:"id"`
		Source struct {
			Commit string `json:"commitId"`
		} `json:"sourceRefCommit"`
	}
	var id int64
	_, err = a.do(ctx, call{
		action: fmt.Sprintf("read the iterations of pull request %d", a.pullRequest), needs: azureStatuses,
		method: http.MethodGet, path: a.pull(a.pullRequest) + "/iterations", query: version("7.1"), again: true,
	}, each("value", func(i iteration) {
		if strings.EqualFold(i.Source.Commit, commit) {
			id = max(id, i.ID)
		}
	}))
	if err == nil && id == 0 {
		err = fmt.Errorf("AzureDevOps: commit %s was never the head of pull request %d", commit, a.pullRequest)
	}
	return a.pull(a.pullRequest) + "/iterations/" + strconv.FormatInt(id, 10) + "/statuses", version("7.1"), err
}

type azurePull struct {
	ID     int    `json:"pullRequestId"`
	Status string `json:"status"`
	Source string `json:"sourceRefName"`
	Target string `json:"targetRefName"`
	Title  string `json:"title"`
	Body   string `json:"description"`
	// Fork is where it comes from, if that is another repository.
	Fork *struct{} `json:"forkSource"`
}

// azureHead is before the names of branches.
const azureHead = "refs/heads/"

// listPulls reads the open ones once more: in lists descriptions have 400 characters.
func (a azure) listPulls(ctx context.Context, base string, branches []string, visit func(Pull)) error {
	for _, branch := range branches {
		var found []azurePull
		query := version("7.1")
		query.Set("searchCriteria.status", "all")
		query.Set("searchCriteria.sourceRefName", azureHead+branch)
		query.Set("searchCriteria.targetRefName", azureHead+base)
		// There is no next page of one branch in any repository of this world.
		query.Set("$top", "1000")
		_, err := a.do(ctx, call{
			action: "read the list of pull requests", needs: azurePulls,
			method: http.MethodGet, path: a.repository + "/pullrequests", query: query, again: true,
		}, each("value", func(p azurePull) { found = append(found, p) }))
		if err != nil {
			return err
		}
		for _, p := range found {
			if p.Fork != nil {
				continue
			}
			pull := a.pullOf(p)
			if pull.State == PullOpen {
				if pull, err = a.readPull(ctx, p.ID); err != nil {
					return err
				}
			}
			visit(pull)
		}
	}
	return nil
}

func (a azure) readPull(ctx context.Context, number int) (Pull, error) {
	var p azurePull
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("read pull request %d", number), needs: azurePulls,
		method: http.MethodGet, path: a.pullrequest(number), query: version("7.1"), again: true,
	}, one(&p))
	return a.pullOf(p), err
}

func (a azure) pullOf(p azurePull) Pull {
	state := PullOpen
	switch p.Status {
	case "completed":
		state = PullMerged
	case "abandoned":
		state = PullClosed
	}
	return Pull{
		Number: p.ID, State: state, Branch: strings.TrimPrefix(p.Source, azureHead), Base: strings.TrimPrefix(p.Target, azureHead),
		Title: p.Title, Body: p.Body, URL: a.page(p.ID),
	}
}

func (a azure) createPull(ctx context.Context, p Pull) (Pull, error) {
	var made azurePull
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("open a pull request from %q to %q", p.Branch, p.Base), needs: azurePulls,
		method: http.MethodPost, path: a.repository + "/pullrequests", query: version("7.1"),
		body: map[string]string{"sourceRefName": azureHead + p.Branch, "targetRefName": azureHead + p.Base, "title": p.Title, "description": p.Body},
	}, one(&made))
	p.Number, p.URL = made.ID, a.page(made.ID)
	return p, err
}

func (a azure) editPull(ctx context.Context, p Pull) error {
	return a.changePull(ctx, p.Number, "edit", map[string]string{"title": p.Title, "description": p.Body})
}

func (a azure) closePull(ctx context.Context, number int) error {
	return a.changePull(ctx, number, "abandon", map[string]string{"status": "abandoned"})
}

func (a azure) changePull(ctx context.Context, number int, verb string, body map[string]string) error {
	_, err := a.do(ctx, call{
		action: fmt.Sprintf("%s pull request %d", verb, number), needs: azurePulls,
		method: http.MethodPatch, path: a.pullrequest(number), query: version("7.1"), body: body, again: true,
	}, nil)
	return err
}

// page of a pull request, for people.
func (a azure) page(number int) string {
	return a.base.String() + strings.Replace(a.repository, "/_apis/git/repositories/", "/_git/", 1) + "/pullrequest/" + strconv.Itoa(number)
}

// pullrequest is written like that in the description of these calls.
func (a azure) pullrequest(number int) string {
	return a.repository + "/pullrequests/" + strconv.Itoa(number)
}
