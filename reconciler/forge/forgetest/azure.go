package forgetest

import (
	"fmt"
	"net/http"
	"strings"
)

// identity of an account: ids are UUIDs, and upper and lower case are one.
func identity(a Account) map[string]any {
	return map[string]any{"id": fmt.Sprintf("2751826F-19f8-451d-989b-%012d", a.ID), "displayName": a.Login, "uniqueName": a.Login + "@acme.invalid"}
}

// firstComment is the one that begins a thread.
func firstComment(c Comment) map[string]any {
	return map[string]any{"id": 1, "parentCommentId": 0, "content": c.Body, "commentType": "text", "isDeleted": false, "author": identity(c.Author)}
}

func thread(c Comment, replies ...map[string]any) map[string]any {
	return map[string]any{
		"id": c.ID, "isDeleted": false, "status": "closed", "properties": map[string]any{},
		"comments": append([]map[string]any{firstComment(c)}, replies...),
	}
}

func (s *Server) azure(mux *http.ServeMux) {
	const repository = "/acme/{project}/_apis/git/repositories/fleet"
	s.azureHandle(mux, "GET /acme/_apis/connectionData", func(w http.ResponseWriter, _ *http.Request, who Account) {
		user := identity(who)
		user["id"] = fmt.Sprintf("2751826f-19f8-451d-989b-%012d", who.ID)
		answer(w, http.StatusOK, map[string]any{"authenticatedUser": user, "authorizedUser": user, "instanceId": "1"})
	})
	s.azureHandle(mux, "GET "+repository+"/pullRequests/{pr}/threads", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if !pullRequest(w, r) {
			return
		}
		// What the system says is between what people say, and what was deleted stays.
		threads := []map[string]any{
			{"id": 1, "isDeleted": false, "comments": []map[string]any{{"id": 1, "content": "Policy status has been updated", "commentType": "system", "author": identity(Bot)}}},
			{"id": 2, "isDeleted": false, "status": "active", "comments": []map[string]any{{"id": 1, "isDeleted": true, "commentType": "text", "author": identity(Bot)}}},
			{"id": 3, "isDeleted": true, "comments": []map[string]any{}},
		}
		for _, c := range s.comments {
			threads = append(threads, thread(c, map[string]any{
				"id": 2, "parentCommentId": 1, "content": c.Body, "commentType": "text", "isDeleted": false, "author": identity(Bot),
			}))
		}
		answer(w, http.StatusOK, map[string]any{"value": threads, "count": len(threads)})
	})
	s.azureHandle(mux, "POST "+repository+"/pullRequests/{pr}/threads", func(w http.ResponseWriter, r *http.Request, who Account) {
		in, ok := body[struct {
			Comments []struct {
				Content, CommentType string
			}
			Status     string
			Properties map[string]any
		}](w, r)
		if !ok || !pullRequest(w, r) {
			return
		}
		if len(in.Comments) != 1 || in.Comments[0].CommentType != "text" || in.Status != "closed" || in.Properties["Microsoft.TeamFoundation.Discussion.SupportsMarkdown"] == nil {
			s.t.Errorf("a thread that is not as it should be: %+v", in)
		}
		answer(w, http.StatusOK, thread(Comment{s.say(who, in.Comments[0].Content), who, in.Comments[0].Content}))
	})
	s.azureHandle(mux, "PATCH "+repository+"/pullRequests/{pr}/threads/{id}/comments/1", func(w http.ResponseWriter, r *http.Request, who Account) {
		in, ok := body[struct{ Content string }](w, r)
		if !ok {
			return
		}
		if i, ok := s.find(w, r, who); ok {
			s.comments[i].Body = in.Content
			answer(w, http.StatusOK, firstComment(s.comments[i]))
		}
	})
	s.azureHandle(mux, "DELETE "+repository+"/pullRequests/{pr}/threads/{id}/comments/1", func(w http.ResponseWriter, r *http.Request, who Account) {
		if i, ok := s.find(w, r, who); ok {
			s.comments = append(s.comments[:i:i], s.comments[i+1:]...)
			w.WriteHeader(http.StatusOK)
		}
	})
	s.azureStatuses(mux, repository)
	s.azurePulls(mux, repository)
}

// azureHandle also checks the project.
func (s *Server) azureHandle(mux *http.ServeMux, pattern string, do func(http.ResponseWriter, *http.Request, Account)) {
	s.handle(mux, pattern, func(w http.ResponseWriter, r *http.Request, who Account) {
		if project := r.PathValue("project"); project != "" && project != "Mesh Team" {
			refuse(w, http.StatusNotFound, "TF200016: The following project does not exist: "+project)
			return
		}
		do(w, r, who)
	})
}

type azureStatus struct {
	ID          int    `json:"id"`
	State       string `json:"state"`
	Description string `json:"description"`
	URL         string `json:"targetUrl"`
	Context     struct {
		Genre string `json:"genre"`
		Name  string `json:"name"`
	} `json:"context"`
}

func (s *Server) azureStatuses(mux *http.ServeMux, repository string) {
	s.azureHandle(mux, "GET "+repository+"/pullRequests/{pr}/iterations", func(w http.ResponseWriter, r *http.Request, _ Account) {
		if !pullRequest(w, r) {
			return
		}
		out := []map[string]any{}
		for i, commit := range s.Heads {
			out = append(out, map[string]any{"id": i + 1, "sourceRefCommit": map[string]any{"commitId": commit}, "targetRefCommit": map[string]any{"commitId": Base}})
		}
		answer(w, http.StatusOK, map[string]any{"value": out, "count": len(out)})
	})
	commit := func(r *http.Request) string {
		var n int
		if _, err := fmt.Sscan(r.PathValue("iteration"), &n); err == nil && n >= 1 && n <= len(s.Heads) {
			return s.Heads[n-1]
		}
		return r.PathValue("sha")
	}
	list := func(w http.ResponseWriter, r *http.Request, _ Account) {
		out := []azureStatus{}
		for i, each := range s.statuses { // all that there were, not the last ones
			if each.Commit == commit(r) {
				status := azureStatus{ID: i + 1, State: each.State, Description: each.Description, URL: each.URL}
				status.Context.Genre, status.Context.Name, _ = strings.Cut(each.Context, "/")
				out = append(out, status)
			}
		}
		answer(w, http.StatusOK, map[string]any{"value": out, "count": len(out)})
	}
	create := func(w http.ResponseWriter, r *http.Request, _ Account) {
		in, ok := body[azureStatus](w, r)
		if !ok {
			return
		}
		s.statuses = append(s.statuses, Status{commit(r), in.Context.Genre + "/" + in.Context.Name, in.State, in.Description, in.URL})
		in.ID = len(s.statuses)
		answer(w, http.StatusOK, in)
	}
	for _, at := range []string{"/pullRequests/{pr}/iterations/{iteration}/statuses", "/commits/{sha}/statuses"} {
		s.azureHandle(mux, "GET "+repository+at, list)
		s.azureHandle(mux, "POST "+repository+at, create)
	}
}
