package forgetest

// gitlabContract is of GitLab's REST API.
var gitlabContract = contract{
	source: "GitLab's doc/api/notes.md, commits.md, users.md and rest/_index.md (pagination), as of GitLab 18",
	base:   "/api/v4",
	// Errors say message, as a text, a list or one for each field, or error.
	refusal:  object(fields{"message": anything, "error": text, "error_description": text}),
	refusals: []int{400, 401, 403, 404, 409, 422},
	calls: append([]call{
		{method: "GET", path: "/user", answers: map[int]*value{200: gitlabUser.only()}},
		{
			method: "GET", path: "/projects/{id}/merge_requests/{merge_request_iid:integer}/notes",
			query: gitlabPages(fields{
				"sort": words("asc", "desc"), "order_by": words("created_at", "updated_at"), "activity_filter": text,
			}),
			answers: map[int]*value{200: list(gitlabNote).only()},
		},
		{
			method: "POST", path: "/projects/{id}/merge_requests/{merge_request_iid:integer}/notes",
			body: object(fields{
				"body": text.must().upTo(1_000_000), "internal": boolean, "created_at": text, "merge_request_diff_head_sha": commit,
			}).only(),
			answers: map[int]*value{201: gitlabNote.only()},
		},
		{
			method: "PUT", path: "/projects/{id}/merge_requests/{merge_request_iid:integer}/notes/{note_id:integer}",
			body:    object(fields{"body": text.must().upTo(1_000_000)}).only(),
			answers: map[int]*value{200: gitlabNote.only()},
		},
		{
			method: "DELETE", path: "/projects/{id}/merge_requests/{merge_request_iid:integer}/notes/{note_id:integer}",
			answers: map[int]*value{204: nil},
		},
		{
			method: "GET", path: "/projects/{id}/repository/commits/{sha}/statuses",
			query: gitlabPages(fields{
				"all": boolean, "name": text, "order_by": words("id", "pipeline_id"), "pipeline_id": integer, "ref": text,
				"sort": words("asc", "desc"), "stage": text,
			}),
			answers: map[int]*value{200: list(gitlabStatus).only()},
		},
		{
			method: "POST", path: "/projects/{id}/statuses/{sha}",
			body: object(fields{
				"state": words("pending", "running", "success", "failed", "canceled", "skipped").must(),
				"name":  text, "context": text, "description": text.upTo(255), "target_url": text.upTo(255), "ref": text.upTo(255),
				"pipeline_id": integer,
			}).only(),
			answers: map[int]*value{201: gitlabStatus.only()},
		},
	}, gitlabPullCalls...),
}

// gitlabPages adds what all lists take.
func gitlabPages(query fields) fields {
	query["page"], query["per_page"] = integer, perPage
	return query
}

var (
	gitlabUser = object(fields{"id": integer.must(), "username": text.must(), "name": text, "state": text})
	gitlabNote = object(fields{
		"id": integer.must(), "body": text.must(), "author": gitlabUser.must(), "system": boolean.must(),
		"created_at": text, "updated_at": text, "resolvable": boolean,
	})
	gitlabStatus = object(fields{
		"id": integer.must(), "sha": commit, "ref": text.orNull(), "status": text.must(), "name": text.must(),
		"description": text.must().orNull(), "target_url": text.must().orNull(), "allow_failure": boolean, "author": gitlabUser,
		"created_at": text, "started_at": text.orNull(), "finished_at": text.orNull(),
	})
)
