package forgetest

import (
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

type user struct {
	Login string `json:"login"`
	ID    int64  `json:"id"`
	Type  string `json:"type"`
}

func githubUser(a Account) user { return user{a.Login, a.ID, "User"} }

type issueComment struct {
	ID      int64     `json:"id"`
	URL     string    `json:"html_url"`
	Body    string    `json:"body"`
	User    user      `json:"user"`
	Created time.Time `json:"created_at"`
}

// github serves GitHub's API, and Gitea's, which differs where it says so.
func (s *Server) github(mux *http.ServeMux, base, size string) {
	repository := base + "/repos/acme/fleet"
	gitea := s.Kind == forge.Gitea
	s.handle(mux, "GET "+base+"/user", func(w http.ResponseWriter, _ *http.Request, who Account) {
		if s.JobToken && !gitea {
			refuse(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		answer(w, http.StatusOK, githubUser(who))
	})
	if !gitea {
		s.graphql(mux)
	}
	s.handle(mux, "GET "+repository+"/issues/{pr}/comments", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if !pullRequest(w, r) {
			return
		}
		comments := s.comments
		switch {
		case !gitea:
			comments = page(s, w, r, size, s.comments)
		case r.URL.RawQuery != "": // the list has no pages
			s.t.Errorf("%s %s takes no %s", r.Method, r.URL.Path, r.URL.RawQuery)
		}
		out := []issueComment{}
		for _, c := range comments {
			out = append(out, issueComment{c.ID, "https://forge.invalid/", c.Body, githubUser(c.Author), time.Unix(0, 0)})
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+repository+"/issues/{pr}/comments", func(w http.ResponseWriter, r *http.Request, who Account) {
		if body, ok := s.githubBody(w, r); ok && pullRequest(w, r) {
			id := s.say(who, body)
			answer(w, http.StatusCreated, issueComment{id, "https://forge.invalid/", body, githubUser(who), time.Unix(0, 0)})
		}
	})
	s.handle(mux, "PATCH "+repository+"/issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if body, ok := s.githubBody(w, r); ok {
			if i, ok := s.find(w, r, who); ok {
				s.comments[i].Body = body
				answer(w, http.StatusOK, issueComment{s.comments[i].ID, "https://forge.invalid/", body, githubUser(who), time.Unix(0, 0)})
			}
		}
	})
	s.handle(mux, "DELETE "+repository+"/issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if i, ok := s.find(w, r, who); ok {
			s.comments = append(s.comments[:i:i], s.comments[i+1:]...)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.githubStatuses(mux, repository, size, gitea)
}

// graphql knows the viewer and nothing else.
func (s *Server) graphql(mux *http.ServeMux) {
	s.handle(mux, "POST /api/graphql", func(w http.ResponseWriter, r *http.Request, who Account) {
		var query struct {
			Query string `json:"query"`
		}
		if !s.body(w, r, &query) {
			return
		}
		if query.Query != "{viewer{login databaseId}}" {
			s.t.Errorf("an unknown query: %s", query.Query)
		}
		answer(w, http.StatusOK, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": who.Login, "databaseId": who.ID}}})
	})
}

func (s *Server) githubBody(w http.ResponseWriter, r *http.Request) (string, bool) {
	var comment struct {
		Body string `json:"body"`
	}
	if !s.body(w, r, &comment) {
		return "", false
	}
	if utf8.RuneCountInString(comment.Body) > 65536 {
		refuse(w, http.StatusUnprocessableEntity, "Validation Failed: body is too long (maximum is 65536 characters)")
		return "", false
	}
	return comment.Body, true
}

func (s *Server) githubStatuses(mux *http.ServeMux, repository, size string, gitea bool) {
	render := func(each Status) map[string]any {
		out := map[string]any{"id": 1, "context": each.Context, "description": each.Description, "target_url": each.URL}
		if each.URL == "" && !gitea {
			out["target_url"] = nil
		}
		out[map[bool]string{false: "state", true: "status"}[gitea]] = each.State
		return out
	}
	s.handle(mux, "GET "+repository+"/commits/{sha}/status", func(w http.ResponseWriter, r *http.Request, _ Account) {
		statuses := []map[string]any{}
		if gitea { // where no status is null
			statuses = nil
		}
		for _, each := range page(s, w, r, size, s.latest(r.PathValue("sha"))) {
			statuses = append(statuses, render(each))
		}
		// Fields around the list, before and behind it, as they come.
		answer(w, http.StatusOK, struct {
			CommitURL string           `json:"commit_url"`
			Sub       map[string]any   `json:"repository"`
			State     string           `json:"state"`
			Statuses  []map[string]any `json:"statuses"`
			Total     int              `json:"total_count"`
		}{"https://forge.invalid/", map[string]any{"statuses": []int{1}}, "pending", statuses, len(statuses)})
	})
	s.handle(mux, "POST "+repository+"/statuses/{sha}", func(w http.ResponseWriter, r *http.Request, _ Account) {
		var in struct {
			State       string `json:"state"`
			Context     string `json:"context"`
			Description string `json:"description"`
			URL         string `json:"target_url"`
		}
		if !s.body(w, r, &in) {
			return
		}
		if !gitea && utf8.RuneCountInString(in.Description) > 140 || !oneOf(in.State, "pending", "success", "failure", "error") {
			refuse(w, http.StatusUnprocessableEntity, "Validation Failed")
			return
		}
		status := Status{r.PathValue("sha"), in.Context, in.State, in.Description, in.URL}
		s.statuses = append(s.statuses, status)
		answer(w, http.StatusCreated, render(status))
	})
}

func oneOf(word string, words ...string) bool {
	for _, each := range words {
		if word == each {
			return true
		}
	}
	return false
}
