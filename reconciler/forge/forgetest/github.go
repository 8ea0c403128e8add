package forgetest

import (
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

type user struct {
	Login string `json:"login"`
	ID    int64  `json:"id"`
}

func userOf(a Account) user { return user{a.Login, a.ID} }

type issueComment struct {
	ID      int64     `json:"id"`
	URL     string    `json:"html_url"`
	Body    string    `json:"body"`
	User    user      `json:"user"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

func rendered(c Comment) issueComment {
	return issueComment{c.ID, "https://forge.invalid/", c.Body, userOf(c.Author), time.Unix(0, 0), time.Unix(0, 0)}
}

// github serves GitHub's API, and Gitea's, which differs where it says so.
func (s *Server) github(mux *http.ServeMux, base string) {
	repository := base + "/repos/acme/fleet"
	gitea := s.Kind == forge.Gitea
	s.handle(mux, "GET "+base+"/user", func(w http.ResponseWriter, _ *http.Request, who Account) {
		if s.JobToken && !gitea {
			refuse(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		answer(w, http.StatusOK, userOf(who))
	})
	if !gitea {
		s.graphql(mux)
	}
	s.handle(mux, "GET "+repository+"/issues/{pr}/comments", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if !pullRequest(w, r) {
			return
		}
		comments := s.comments
		if !gitea { // where the list has no pages
			comments = page(s, w, r, s.comments)
		}
		out := []issueComment{}
		for _, c := range comments {
			out = append(out, rendered(c))
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+repository+"/issues/{pr}/comments", func(w http.ResponseWriter, r *http.Request, who Account) {
		if in, ok := body[said](w, r); ok && pullRequest(w, r) {
			answer(w, http.StatusCreated, rendered(Comment{s.say(who, in.Body), who, in.Body}))
		}
	})
	s.handle(mux, "PATCH "+repository+"/issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if in, ok := body[said](w, r); ok {
			if i, ok := s.find(w, r, who); ok {
				s.comments[i].Body = in.Body
				answer(w, http.StatusOK, rendered(s.comments[i]))
			}
		}
	})
	s.handle(mux, "DELETE "+repository+"/issues/comments/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if i, ok := s.find(w, r, who); ok {
			s.comments = append(s.comments[:i:i], s.comments[i+1:]...)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.githubStatuses(mux, repository, gitea)
	s.githubPulls(mux, repository, gitea)
}

// graphql knows the viewer and nothing else.
func (s *Server) graphql(mux *http.ServeMux) {
	s.handle(mux, "POST /api/graphql", func(w http.ResponseWriter, r *http.Request, who Account) {
		query, ok := body[struct{ Query string }](w, r)
		if !ok {
			return
		}
		if query.Query != "{viewer{login databaseId}}" {
			s.t.Errorf("an unknown query: %s", query.Query)
		}
		answer(w, http.StatusOK, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": who.Login, "databaseId": who.ID}}})
	})
}

// said is a comment as it is written, on GitHub, Gitea and GitLab.
type said struct{ Body string }

func (s *Server) githubStatuses(mux *http.ServeMux, repository string, gitea bool) {
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
		for _, each := range page(s, w, r, s.latest(r.PathValue("sha"))) {
			statuses = append(statuses, render(each))
		}
		// Fields around the list, before and behind it, as they come.
		answer(w, http.StatusOK, struct {
			CommitURL string           `json:"commit_url"`
			Sub       map[string]any   `json:"repository"`
			State     string           `json:"state"`
			Statuses  []map[string]any `json:"statuses"`
			SHA       string           `json:"sha"`
			Total     int              `json:"total_count"`
			URL       string           `json:"url"`
		}{"https://forge.invalid/", map[string]any{"statuses": []int{1}}, "pending", statuses, r.PathValue("sha"), len(statuses), "https://forge.invalid/"})
	})
	s.handle(mux, "POST "+repository+"/statuses/{sha}", func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[struct {
			State, Context, Description string
			URL                         string `json:"target_url"`
		}](w, r)
		if !ok {
			return
		}
		status := Status{r.PathValue("sha"), in.Context, in.State, in.Description, in.URL}
		s.statuses = append(s.statuses, status)
		answer(w, http.StatusCreated, render(status))
	})
}
