package forgetest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

// Pull is a pull request that was opened.
type Pull struct {
	forge.Pull
	// Fork says that its branch is another repository's.
	Fork bool
}

// Pulls are all pull requests, the first one first. Comments are the same on each.
func (s *Server) Pulls() []Pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pulls)
}

// Change changes a pull request, as somebody does in the browser.
func (s *Server) Change(number int, change func(*Pull)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.pulls {
		if s.pulls[i].Number == number {
			change(&s.pulls[i])
		}
	}
}

// Propose opens a pull request, as somebody does in the browser, and returns its number.
func (s *Server) Propose(p Pull) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.propose(p)
}

func (s *Server) propose(p Pull) int {
	p.Number, p.State = PullRequest+len(s.pulls), forge.PullOpen
	s.pulls = append(s.pulls, p)
	return p.Number
}

// proposed says whether there is an open pull request between two branches.
func (s *Server) proposed(branch, base string) bool {
	return slices.ContainsFunc(s.pulls, func(p Pull) bool {
		return !p.Fork && p.State == forge.PullOpen && p.Branch == branch && p.Base == base
	})
}

// pull returns the one in the path.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) *Pull {
	for i := range s.pulls {
		if strconv.Itoa(s.pulls[i].Number) == r.PathValue("pr") {
			return &s.pulls[i]
		}
	}
	refuse(w, http.StatusNotFound, "Not Found")
	return nil
}

// between are those from a branch to a base, where one is asked for, the newest first.
func (s *Server) between(branch, base string) []Pull {
	var out []Pull
	for _, p := range slices.Backward(s.pulls) {
		if (branch == "" || p.Branch == branch) && (base == "" || p.Base == base) {
			out = append(out, p)
		}
	}
	return out
}

// change is what an edit may say; nil stays.
type change struct{ Title, Body, Description, State, State_event, Status *string }

func (p *Pull) apply(c change) {
	for _, each := range []struct{ to, from *string }{{&p.Title, c.Title}, {&p.Body, c.Body}, {&p.Body, c.Description}} {
		if each.from != nil {
			*each.to = *each.from
		}
	}
	for _, each := range []*string{c.State, c.State_event, c.Status} {
		if each != nil && slices.Contains([]string{"closed", "close", "abandoned"}, *each) {
			p.State = forge.PullClosed
		}
	}
}

// changePull answers a change of a pull request with a status and what it is then.
func (s *Server) changePull(status int, render func(Pull) map[string]any) func(http.ResponseWriter, *http.Request, Account) {
	return func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[change](w, r)
		if !ok {
			return
		}
		if p := s.pull(w, r); p != nil {
			p.apply(in)
			answer(w, status, render(*p))
		}
	}
}

func (s *Server) githubPulls(mux *http.ServeMux, repository string, gitea bool) {
	render := func(p Pull) map[string]any {
		const ours, fork = 1, 2
		head := map[string]any{"ref": p.Branch, "label": "acme:" + p.Branch, "repo": map[string]any{"id": ours}}
		if p.Fork {
			head["label"], head["repo"] = "somebody:"+p.Branch, map[string]any{"id": fork}
		}
		if gitea {
			head["label"] = p.Branch
			if p.State != forge.PullOpen { // its branch may be gone
				head["ref"] = "refs/pull/" + strconv.Itoa(p.Number) + "/head"
			}
		}
		out := map[string]any{
			"number": p.Number, "state": "closed", "title": p.Title, "body": p.Body, "html_url": "https://forge.invalid/pulls/" + strconv.Itoa(p.Number),
			"merged_at": nil, "head": head, "base": map[string]any{"ref": p.Base, "label": p.Base, "repo": map[string]any{"id": ours}},
		}
		switch p.State {
		case forge.PullOpen:
			out["state"] = "open"
		case forge.PullMerged:
			out["merged_at"] = "2026-11-28T08:00:00Z"
		}
		if p.Body == "" && !gitea {
			out["body"] = nil
		}
		return out
	}
	s.handle(mux, "GET "+repository+"/pulls", func(w http.ResponseWriter, r *http.Request, _ Account) {
		query := r.URL.Query()
		head := query.Get("head")
		branch := strings.TrimPrefix(head, "acme:")
		if head != "" && branch == head {
			branch = "" // without its owner it is not looked at
		}
		out := []map[string]any{}
		for _, p := range page(s, w, r, s.between(branch, query.Get("base"))) {
			if query.Get("state") == "all" || p.State == forge.PullOpen {
				out = append(out, render(p))
			}
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+repository+"/pulls", func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[struct{ Title, Body, Head, Base string }](w, r)
		switch {
		case !ok:
		case s.proposed(in.Head, in.Base) && gitea:
			refuse(w, http.StatusConflict, "pull request already exists for these targets [id: 1, issue_id: 1, head_repo_id: 1, base_repo_id: 1, head_branch: "+in.Head+", base_branch: "+in.Base+"]")
		case s.proposed(in.Head, in.Base):
			answer(w, http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed", "errors": []map[string]string{
				{"resource": "PullRequest", "code": "custom", "message": "A pull request already exists for acme:" + in.Head + "."},
			}})
		default:
			s.propose(Pull{Pull: forge.Pull{Branch: in.Head, Base: in.Base, Title: in.Title, Body: in.Body}})
			answer(w, http.StatusCreated, render(s.pulls[len(s.pulls)-1]))
		}
	})
	s.handle(mux, "PATCH "+repository+"/pulls/{pr}", s.changePull(map[bool]int{false: http.StatusOK, true: http.StatusCreated}[gitea], render))
}

func (s *Server) gitlabPulls(mux *http.ServeMux, project string) {
	states := map[forge.PullState]string{forge.PullOpen: "opened", forge.PullMerged: "merged", forge.PullClosed: "closed"}
	render := func(p Pull) map[string]any {
		from := map[bool]int{false: 1, true: 2}[p.Fork]
		return map[string]any{
			"id": 1000 + p.Number, "iid": p.Number, "state": states[p.State], "title": p.Title, "description": p.Body,
			"source_branch": p.Branch, "target_branch": p.Base, "source_project_id": from, "target_project_id": 1,
			"web_url": "https://forge.invalid/merge_requests/" + strconv.Itoa(p.Number),
		}
	}
	s.handle(mux, "GET "+project+"/merge_requests", func(w http.ResponseWriter, r *http.Request, _ Account) {
		query := r.URL.Query()
		out := []map[string]any{}
		for _, p := range page(s, w, r, s.between(query.Get("source_branch"), query.Get("target_branch"))) {
			out = append(out, render(p))
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+project+"/merge_requests", func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[struct {
			Source string `json:"source_branch"`
			Target string `json:"target_branch"`
			Title  string
			Body   string `json:"description"`
		}](w, r)
		switch {
		case !ok:
		case s.proposed(in.Source, in.Target):
			answer(w, http.StatusConflict, map[string]any{"message": []string{"Another open merge request already exists for this source branch: !7"}})
		default:
			s.propose(Pull{Pull: forge.Pull{Branch: in.Source, Base: in.Target, Title: in.Title, Body: in.Body}})
			answer(w, http.StatusCreated, render(s.pulls[len(s.pulls)-1]))
		}
	})
	s.handle(mux, "PUT "+project+"/merge_requests/{pr}", s.changePull(http.StatusOK, render))
}

func (s *Server) azurePulls(mux *http.ServeMux, repository string) {
	const heads = "refs/heads/"
	states := map[forge.PullState]string{forge.PullOpen: "active", forge.PullMerged: "completed", forge.PullClosed: "abandoned"}
	render := func(p Pull) map[string]any {
		out := map[string]any{
			"pullRequestId": p.Number, "status": states[p.State], "title": p.Title, "description": p.Body,
			"sourceRefName": heads + p.Branch, "targetRefName": heads + p.Base,
		}
		if p.Fork {
			out["forkSource"] = map[string]any{"name": heads + p.Branch}
		}
		return out
	}
	s.azureHandle(mux, "GET "+repository+"/pullrequests", func(w http.ResponseWriter, r *http.Request, _ Account) {
		query := r.URL.Query()
		out := []map[string]any{}
		for _, p := range s.between(strings.TrimPrefix(query.Get("searchCriteria.sourceRefName"), heads), strings.TrimPrefix(query.Get("searchCriteria.targetRefName"), heads)) {
			if p.State != forge.PullOpen && query.Get("searchCriteria.status") != "all" {
				continue
			}
			p.Body = p.Body[:min(len(p.Body), 400)] // as lists have it
			out = append(out, render(p))
		}
		answer(w, http.StatusOK, map[string]any{"value": out, "count": len(out)})
	})
	s.azureHandle(mux, "GET "+repository+"/pullrequests/{pr}", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if p := s.pull(w, r); p != nil {
			answer(w, http.StatusOK, render(*p))
		}
	})
	s.azureHandle(mux, "POST "+repository+"/pullrequests", func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[struct{ SourceRefName, TargetRefName, Title, Description string }](w, r)
		branch, base := strings.TrimPrefix(in.SourceRefName, heads), strings.TrimPrefix(in.TargetRefName, heads)
		switch {
		case !ok:
		case s.proposed(branch, base):
			refuse(w, http.StatusConflict, "TF401179: An active pull request for the source and target branch already exists.")
		default:
			s.propose(Pull{Pull: forge.Pull{Branch: branch, Base: base, Title: in.Title, Body: in.Description}})
			answer(w, http.StatusCreated, render(s.pulls[len(s.pulls)-1]))
		}
	})
	s.azureHandle(mux, "PATCH "+repository+"/pullrequests/{pr}", s.changePull(http.StatusOK, render))
}
