package forgetest

import (
	"fmt"
	"net/http"
	"slices"
)

func (s *Server) gitlab(mux *http.ServeMux) {
	const project = "/api/v4/projects/acme%2Fmesh%2Ffleet"
	author := func(a Account) map[string]any {
		return map[string]any{"id": a.ID, "username": a.Login, "state": "active"}
	}
	note := func(c Comment) map[string]any {
		return map[string]any{"id": c.ID, "body": c.Body, "author": author(c.Author), "system": false}
	}
	s.handle(mux, "GET /api/v4/user", func(w http.ResponseWriter, _ *http.Request, who Account) {
		answer(w, http.StatusOK, author(who))
	})
	s.handle(mux, "GET "+project+"/merge_requests/{pr}/notes", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if !pullRequest(w, r) {
			return
		}
		notes := slices.Clone(s.comments)
		if r.URL.Query().Get("sort") != "asc" {
			slices.Reverse(notes)
		}
		out := []map[string]any{}
		for _, c := range page(s, w, r, notes) {
			out = append(out, note(c))
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+project+"/merge_requests/{pr}/notes", func(w http.ResponseWriter, r *http.Request, who Account) {
		if in, ok := body[said](w, r); ok && pullRequest(w, r) {
			answer(w, http.StatusCreated, note(Comment{s.say(who, in.Body), who, in.Body}))
		}
	})
	s.handle(mux, "PUT "+project+"/merge_requests/{pr}/notes/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if in, ok := body[said](w, r); ok && pullRequest(w, r) {
			if i, ok := s.find(w, r, who); ok {
				s.comments[i].Body = in.Body
				answer(w, http.StatusOK, note(s.comments[i]))
			}
		}
	})
	s.handle(mux, "DELETE "+project+"/merge_requests/{pr}/notes/{id}", func(w http.ResponseWriter, r *http.Request, who Account) {
		if i, ok := s.find(w, r, who); ok && pullRequest(w, r) {
			s.comments = append(s.comments[:i:i], s.comments[i+1:]...)
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.gitlabStatuses(mux, project)
	s.gitlabPulls(mux, project)
}

func (s *Server) gitlabStatuses(mux *http.ServeMux, project string) {
	render := func(id int, each Status) map[string]any {
		out := map[string]any{
			"id": id, "sha": each.Commit, "name": each.Context, "status": each.State, "ref": "change", "allow_failure": false,
			"description": nil, "target_url": nil,
		}
		if each.Description != "" {
			out["description"] = each.Description
		}
		if each.URL != "" {
			out["target_url"] = each.URL
		}
		return out
	}
	s.handle(mux, "GET "+project+"/repository/commits/{sha}/statuses", func(w http.ResponseWriter, r *http.Request, _ Account) {
		out := []map[string]any{}
		for i, each := range page(s, w, r, s.latest(r.PathValue("sha"))) {
			if name := r.URL.Query().Get("name"); name == "" || name == each.Context {
				out = append(out, render(i+1, each))
			}
		}
		answer(w, http.StatusOK, out)
	})
	s.handle(mux, "POST "+project+"/statuses/{sha}", func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[struct {
			State, Name, Description string
			URL                      *string `json:"target_url"`
		}](w, r)
		if !ok {
			return
		}
		bad := func(message any) { answer(w, http.StatusBadRequest, map[string]any{"message": message}) }
		url := ""
		if in.URL != nil {
			if url = *in.URL; url == "" {
				bad(map[string]any{"target_url": []string{"is blocked: Only allowed schemes are http, https"}})
				return
			}
		}
		for _, have := range s.latest(r.PathValue("sha")) {
			if have.Context == in.Name && in.State == "pending" && (have.State == "pending" || have.State == "running") {
				bad(fmt.Sprintf("Cannot transition status via :enqueue from :%s (Reason(s): Status cannot transition via \"enqueue\")", have.State))
				return
			}
		}
		status := Status{r.PathValue("sha"), in.Name, in.State, in.Description, url}
		s.statuses = append(s.statuses, status)
		answer(w, http.StatusCreated, render(len(s.statuses), status))
	})
}
