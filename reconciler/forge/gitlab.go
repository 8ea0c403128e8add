package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// gitlab is GitLab's REST API, version 4.
// Source: https://docs.gitlab.com/api/notes/ and https://docs.gitlab.com/api/commits/
type gitlab struct {
	*wire
	project string // path
}

func newGitLab(w *wire, project string) gitlab {
	return gitlab{w, "/projects/" + url.PathEscape(project)}
}

// A status that waits can't be made to wait again, also not with other words, and
// there is no state between failed and success.
func (gitlab) limits() limits {
	return limits{comment: 1_000_000, description: 255, url: 255, title: 255, pull: 1_048_576, pendingStays: true, errorIsFailure: true}
}

const gitlabNeeds = "to be a project, group or personal access token with the scope api and at least the role Developer; a job's CI_JOB_TOKEN can't do this"

func (g gitlab) self(ctx context.Context) (account, error) {
	var user struct {
		ID       int64  `json:"id"`
		Username string `json:"username"`
	}
	_, err := g.do(ctx, call{action: "read whose token it is", needs: gitlabNeeds, method: http.MethodGet, path: "/user", again: true}, one(&user))
	return githubUser{user.ID, user.Username}.account(), err
}

// comments are notes. Those of the system tell of pushes and the like.
func (g gitlab) comments(ctx context.Context, pullRequest int, visit func(comment)) error {
	c := call{
		action: fmt.Sprintf("read the comments on merge request %d", pullRequest), needs: gitlabNeeds,
		method: http.MethodGet, path: g.notes(pullRequest), again: true,
		query: url.Values{"sort": {"asc"}, "order_by": {"created_at"}},
	}
	type note struct {
		ID     int64  `json:"id"`
		Body   string `json:"body"`
		System bool   `json:"system"`
		Author struct {
			ID       int64  `json:"id"`
			Username string `json:"username"`
		} `json:"author"`
	}
	// A page is read whole or not at all, and notes may be large.
	return g.pages(ctx, c, "per_page", 25, each("", func(n note) {
		if !n.System {
			visit(comment{id: strconv.FormatInt(n.ID, 10), order: n.ID, author: githubUser{n.Author.ID, n.Author.Username}.account(), body: n.Body})
		}
	}))
}

func (g gitlab) create(ctx context.Context, pullRequest int, body string) error {
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("write a comment on merge request %d", pullRequest), needs: gitlabNeeds,
		method: http.MethodPost, path: g.notes(pullRequest), body: map[string]string{"body": body},
	}, nil)
	return err
}

func (g gitlab) edit(ctx context.Context, pullRequest int, id, body string) error {
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("edit our comment on merge request %d", pullRequest), needs: gitlabNeeds,
		method: http.MethodPut, path: g.notes(pullRequest) + "/" + id, body: map[string]string{"body": body}, again: true,
	}, nil)
	return err
}

func (g gitlab) remove(ctx context.Context, pullRequest int, id string) error {
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("remove a second comment of ours on merge request %d", pullRequest), needs: gitlabNeeds,
		method: http.MethodDelete, path: g.notes(pullRequest) + "/" + id, again: true,
	}, nil)
	return err
}

func (g gitlab) notes(pullRequest int) string {
	return g.project + "/merge_requests/" + strconv.Itoa(pullRequest) + "/notes"
}

var gitlabStates = map[State]string{Pending: "pending", Success: "success", Failure: "failed"}

// status looks among the last ones of each name. Those that wait have many words.
func (g gitlab) status(ctx context.Context, commit, name string) (Status, error) {
	c := call{
		action: "read the statuses of commit " + commit, needs: gitlabNeeds,
		method: http.MethodGet, path: g.project + "/repository/commits/" + commit + "/statuses", again: true,
		query: url.Values{"name": {name}},
	}
	var found Status
	var newest int64
	type status struct {
		ID          int64  `json:"id"`
		Status      string `json:"status"`
		Name        string `json:"name"`
		Description string `json:"description"`
		URL         string `json:"target_url"`
	}
	err := g.pages(ctx, c, "per_page", 100, each("", func(each status) {
		if each.Name != name || each.ID < newest { // of one name in several pipelines the newest counts
			return
		}
		newest = each.ID
		state := stateOf(gitlabStates, each.Status)
		switch each.Status {
		case "created", "waiting_for_resource", "preparing", "running", "scheduled":
			state = Pending
		}
		found = Status{Context: name, State: state, Description: each.Description, URL: each.URL}
	}))
	return found, err
}

func (g gitlab) setStatus(ctx context.Context, commit string, s Status) error {
	body := map[string]string{"state": gitlabStates[s.State], "name": s.Context, "description": s.Description}
	if s.URL != "" { // an empty one is not blank, but invalid
		body["target_url"] = s.URL
	}
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("write status %q of commit %s", s.Context, commit), needs: gitlabNeeds,
		method: http.MethodPost, path: g.project + "/statuses/" + commit, body: body, again: true,
	}, nil)
	var refused *Error
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest && strings.Contains(refused.Message, "Cannot transition status") && s.State == Pending {
		return nil // a job beside us, or a request whose answer was lost, was first
	}
	return err
}

type mergeRequest struct {
	Number int    `json:"iid"`
	State  string `json:"state"`
	Branch string `json:"source_branch"`
	Base   string `json:"target_branch"`
	From   int64  `json:"source_project_id"`
	To     int64  `json:"target_project_id"`
	Title  string `json:"title"`
	Body   string `json:"description"`
	URL    string `json:"web_url"`
}

func (g gitlab) listPulls(ctx context.Context, base string, branches []string, visit func(Pull)) error {
	for _, branch := range branches {
		c := call{
			action: "read the list of merge requests", needs: gitlabNeeds,
			method: http.MethodGet, path: g.project + "/merge_requests", again: true,
			query: url.Values{"state": {"all"}, "source_branch": {branch}, "target_branch": {base}},
		}
		err := g.pages(ctx, c, "per_page", 25, each("", func(m mergeRequest) {
			state := PullClosed
			switch m.State {
			case "opened", "locked": // locked while it is being merged
				state = PullOpen
			case "merged":
				state = PullMerged
			}
			if m.From == m.To { // not of a fork
				visit(Pull{Number: m.Number, State: state, Branch: m.Branch, Base: m.Base, Title: m.Title, Body: m.Body, URL: m.URL})
			}
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

func (g gitlab) createPull(ctx context.Context, p Pull) (Pull, error) {
	var made mergeRequest
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("open a merge request from %q to %q", p.Branch, p.Base), needs: gitlabNeeds,
		method: http.MethodPost, path: g.project + "/merge_requests",
		body: map[string]any{"source_branch": p.Branch, "target_branch": p.Base, "title": p.Title, "description": p.Body, "remove_source_branch": true},
	}, one(&made))
	p.Number, p.URL = made.Number, made.URL
	return p, err
}

func (g gitlab) editPull(ctx context.Context, p Pull) error {
	return g.changePull(ctx, p.Number, "edit", map[string]string{"title": p.Title, "description": p.Body})
}

func (g gitlab) closePull(ctx context.Context, number int) error {
	return g.changePull(ctx, number, "close", map[string]string{"state_event": "close"})
}

func (g gitlab) changePull(ctx context.Context, number int, verb string, body map[string]string) error {
	_, err := g.do(ctx, call{
		action: fmt.Sprintf("%s merge request %d", verb, number), needs: gitlabNeeds,
		method: http.MethodPut, path: g.project + "/merge_requests/" + strconv.Itoa(number), body: body, again: true,
	}, nil)
	return err
}
