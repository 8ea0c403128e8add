package forgetest

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

const commitHash = "2222222222222222222222222222222222222222"

// TestContractOfRequests: a request that is as the description has it passes, and
// one that is not is known by what is wrong with it.
func TestContractOfRequests(t *testing.T) {
	github, gitlab, gitea, azure := forge.GitHub, forge.GitLab, forge.Gitea, forge.AzureDevOps
	const (
		issue  = "/api/v3/repos/acme/fleet/issues/7/comments"
		status = "/api/v3/repos/acme/fleet/statuses/" + commitHash
		pull   = "/acme/Mesh%20Team/_apis/git/repositories/fleet/pullRequests/7"
		notes  = "/api/v4/projects/acme%2Fmesh%2Ffleet/merge_requests/7/notes"
	)
	for _, tt := range []struct {
		reason       string
		kind         forge.Kind
		method, path string
		body         string
		want         string // none: nothing is wrong
	}{
		{"a list", github, "GET", issue + "?per_page=100&page=1", "", ""},
		{"a comment", github, "POST", issue, `{"body": "x"}`, ""},
		{"a status without a link", github, "POST", status, `{"state": "success", "target_url": null}`, ""},
		{"a project with a path", gitlab, "POST", notes, `{"body": "x"}`, ""},
		{"a project with a blank", azure, "GET", pull + "/threads?api-version=7.1", "", ""},
		{"another method", github, "PUT", issue, `{"body": "x"}`, "there is no such call"},
		{"another path", github, "GET", "/api/v3/repos/acme/fleet/pulls/7/comments", "", "there is no such call"},
		{"a path below none", github, "GET", "/user", "", "there is no such call"},
		{"a project that is not escaped", gitlab, "POST", "/api/v4/projects/acme/mesh/fleet/merge_requests/7/notes", `{"body": "x"}`, "there is no such call"},
		{"no number of a pull request", github, "GET", "/api/v3/repos/acme/fleet/issues/main/comments", "", `path.issue_number is "main", not an integer`},
		{"an unknown parameter", gitea, "GET", "/api/v1/repos/acme/fleet/issues/7/comments?page=1", "", `query has no "page"`},
		{"a page that is too large", github, "GET", issue + "?per_page=101", "", "query.per_page is 101, not from 1 to 100"},
		{"a page twice", github, "GET", issue + "?page=1&page=2", "", "query.page is given 2 times"},
		{"a word in a query that is not known", gitlab, "GET", notes + "?sort=up", "", `query.sort is "up"`},
		{"no boolean", azure, "GET", pull + "/iterations?api-version=7.1&includeCommits=1", "", `query.includeCommits is "1", not true or false`},
		{"no version", azure, "GET", pull + "/threads", "", `query lacks "api-version"`},
		{"the version of a preview", azure, "GET", pull + "/iterations/1/statuses?api-version=7.1-preview.1", "", `query.api-version is "7.1-preview.1"`},
		{"a body where none is taken", github, "DELETE", "/api/v3/repos/acme/fleet/issues/comments/1", "{}", "it takes no body"},
		{"no JSON", github, "POST", issue, `x`, "body is no JSON"},
		{"two values", github, "POST", issue, `{"body": "x"}{}`, "body is more than one value"},
		{"an unknown field", github, "POST", issue, `{"body": "x", "event": "y"}`, `body has no "event"`},
		{"a field is missing", github, "POST", issue, `{}`, `body lacks "body"`},
		{"a field of another type", github, "POST", issue, `{"body": 1}`, "body.body is json.Number, not text"},
		{"null where it may not be", github, "POST", issue, `{"body": null}`, "body.body is null"},
		{"an unknown word", github, "POST", status, `{"state": "failed"}`, `body.state is "failed"`},
		{"a description that is too long", github, "POST", status, `{"state": "success", "description": "` + strings.Repeat("é", 141) + `"}`, "body.description has 141 characters, more than 140"},
		{"a character that counts as two", gitlab, "POST", "/api/v4/projects/1/statuses/" + commitHash, `{"state": "success", "description": "` + strings.Repeat("🟢", 128) + `"}`, "body.description has 256 characters"},
		{"wrong deep inside", azure, "POST", pull + "/threads?api-version=7.1", `{"comments": [{"content": "x"}, {"content": "y", "commentType": "note"}]}`, `body.comments[1].commentType is "note"`},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "https://forge.invalid"+tt.path, nil)
		if tt.body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		for name, allowed := range contracts[tt.kind].header {
			r.Header.Set(name, allowed[0])
		}
		one(t, tt.reason, contracts[tt.kind].request(r, []byte(tt.body)), tt.want)
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "https://forge.invalid"+issue, nil)
	r.Header.Set("X-GitHub-Api-Version", "2026-03-10")
	wrong := fmt.Sprint(contracts[github].request(r, []byte(`{"body": "x"}`)))
	for _, want := range []string{`header Accept is ""`, `header X-GitHub-Api-Version is "2026-03-10"`, `the body is of type ""`} {
		if !strings.Contains(wrong, want) {
			t.Errorf("headers: %s, want %s", wrong, want)
		}
	}
}

// TestContractOfAnswers: the servers here may not say what the forge would not.
func TestContractOfAnswers(t *testing.T) {
	const comment = `{"id": 1, "body": "x", "user": null, "html_url": "", "created_at": "", "updated_at": ""`
	for _, tt := range []struct {
		reason string
		method string
		status int
		body   string
		want   string
	}{
		{"a list with one comment", "GET", 200, "[" + comment + "}]", ""},
		{"an empty list", "GET", 200, "[]", ""},
		{"a refusal that any call may get", "POST", 403, `{"message": "no"}`, ""},
		{"a refusal that this call may get", "POST", 422, `{"message": "no"}`, ""},
		{"a status that never comes", "POST", 200, comment + "}", "it never answers 200"},
		{"a list that is an object", "GET", 200, "{}", "answer is map[string]interface {}, not list"},
		{"a comment without an id", "GET", 200, `[{"body": "x", "user": null, "html_url": "", "created_at": "", "updated_at": ""}]`, `answer[0] lacks "id"`},
		{"a comment with more than there is", "GET", 200, "[" + comment + `, "mine": true}]`, `answer[0] has no "mine"`},
		{"a refusal in no words", "POST", 403, `["no"]`, "answer is []interface {}, not object"},
		{"nothing", "POST", 201, "", "answer is no JSON"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "https://forge.invalid/api/v3/repos/acme/fleet/issues/7/comments", nil)
		one(t, tt.reason, githubContract.answer(r, tt.status, []byte(tt.body)), tt.want)
	}
	r := httptest.NewRequestWithContext(t.Context(), "DELETE", "https://forge.invalid/api/v3/repos/acme/fleet/issues/comments/7", nil)
	one(t, "something where nothing is", githubContract.answer(r, 204, []byte("{}")), "the answer has no body")
}

// one says that exactly what is wanted is wrong.
func one(t *testing.T, reason string, wrong []string, want string) {
	t.Helper()
	if want == "" && len(wrong) == 0 || want != "" && len(wrong) == 1 && strings.Contains(wrong[0], want) {
		return
	}
	t.Errorf("%s: %q, want %q", reason, wrong, want)
}
