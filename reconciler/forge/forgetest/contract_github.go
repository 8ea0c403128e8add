package forgetest

// githubContract is of GitHub's REST API. Its limits on lengths are not in the
// description: they are what it says when it refuses.
var githubContract = contract{
	source: "github/rest-api-description, api.github.com of 2022-11-28, as in @octokit/openapi 23.0.2",
	base:   "/api", // as on an Enterprise Server, where REST is below v3
	header: map[string][]string{
		"Accept":               {"application/vnd.github+json"},
		"X-GitHub-Api-Version": {"2022-11-28"},
	},
	refusal: object(fields{
		"message": text, "documentation_url": text, "url": text, "status": text, "errors": anything,
	}),
	refusals: []int{400, 401, 403, 404},
	calls: append([]call{
		{method: "GET", path: "/v3/user", answers: map[int]*value{200: githubUser.only(), 304: nil}},
		{
			source: "GitHub's GraphQL schema, schema.docs.graphql: Query.viewer, User.login, User.databaseId",
			method: "POST", path: "/graphql", body: object(fields{"query": text.must(), "variables": anything, "operationName": text}).only(),
			answers: map[int]*value{200: object(fields{
				"data": object(fields{"viewer": object(fields{"login": text.must(), "databaseId": integer.orNull()}).must()}).must(), "errors": anything,
			}).only()},
		},
		{
			method: "GET", path: "/v3/repos/{owner}/{repo}/issues/{issue_number:integer}/comments",
			query:   fields{"since": text, "per_page": perPage, "page": integer},
			answers: map[int]*value{200: list(githubComment).only(), 410: nil},
		},
		{
			method: "POST", path: "/v3/repos/{owner}/{repo}/issues/{issue_number:integer}/comments",
			body: githubBody.only(), answers: map[int]*value{201: githubComment.only(), 410: nil, 422: nil},
		},
		{
			method: "PATCH", path: "/v3/repos/{owner}/{repo}/issues/comments/{comment_id:integer}",
			body: githubBody.only(), answers: map[int]*value{200: githubComment.only(), 422: nil},
		},
		{
			method: "DELETE", path: "/v3/repos/{owner}/{repo}/issues/comments/{comment_id:integer}",
			answers: map[int]*value{204: nil},
		},
		{
			method: "GET", path: "/v3/repos/{owner}/{repo}/commits/{ref}/status",
			query: fields{"per_page": perPage, "page": integer},
			answers: map[int]*value{200: object(fields{
				"state": text.must(), "sha": commit.must(), "total_count": integer.must(), "repository": anything.must(),
				"commit_url": text.must(), "url": text.must(), "statuses": list(githubStatus).must(),
			}).only()},
		},
		{
			method: "POST", path: "/v3/repos/{owner}/{repo}/statuses/{sha}",
			body: object(fields{
				"state":   words("error", "failure", "pending", "success").must(),
				"context": text.upTo(255), "description": text.upTo(140).orNull(), "target_url": text.orNull(),
			}).only(),
			answers: map[int]*value{201: githubStatus.only(), 422: nil},
		},
	}, githubPullCalls...),
}

var (
	githubUser    = object(fields{"login": text.must(), "id": integer.must(), "type": text})
	githubComment = object(fields{
		"id": integer.must(), "body": text, "user": githubUser.must().orNull(),
		"html_url": text.must(), "created_at": text.must(), "updated_at": text.must(),
	})
	githubBody   = object(fields{"body": text.must().upTo(65536)})
	githubStatus = object(fields{
		"id": integer.must(), "state": text.must(), "context": text.must(), "description": text.must().orNull(),
		"target_url": text.must().orNull(),
	})
)

// giteaContract is of Gitea's API, as Forgejo has it too. It has no limits on lengths.
var giteaContract = contract{
	source:   "code.gitea.io/gitea v1.26.0, templates/swagger/v1_json.tmpl",
	base:     "/api/v1",
	refusal:  object(fields{"message": text, "url": text, "errors": anything}),
	refusals: []int{401, 403, 404, 423},
	calls: append([]call{
		{method: "GET", path: "/user", answers: map[int]*value{200: giteaUser.only()}},
		{
			method: "GET", path: "/repos/{owner}/{repo}/issues/{index:integer}/comments",
			query:   fields{"since": text, "before": text}, // all of them come at once
			answers: map[int]*value{200: list(giteaComment).only()},
		},
		{
			method: "POST", path: "/repos/{owner}/{repo}/issues/{index:integer}/comments",
			body: giteaBody.only(), answers: map[int]*value{201: giteaComment.only()},
		},
		{
			method: "PATCH", path: "/repos/{owner}/{repo}/issues/comments/{id:integer}",
			body: giteaBody.only(), answers: map[int]*value{200: giteaComment.only(), 204: nil},
		},
		{
			method: "DELETE", path: "/repos/{owner}/{repo}/issues/comments/{id:integer}",
			answers: map[int]*value{204: nil},
		},
		{
			method: "GET", path: "/repos/{owner}/{repo}/commits/{ref}/status",
			query: fields{"page": integer, "limit": integer},
			answers: map[int]*value{400: nil, 200: object(fields{
				"state": giteaStates, "sha": commit, "total_count": integer, "repository": anything,
				"commit_url": text, "url": text, "statuses": list(giteaStatus).must().orNull(), // as it sends it where there are none
			}).only()},
		},
		{
			method: "POST", path: "/repos/{owner}/{repo}/statuses/{sha}",
			body:    object(fields{"state": giteaStates.must(), "context": text, "description": text, "target_url": text}).only(),
			answers: map[int]*value{201: giteaStatus.only(), 400: nil},
		},
	}, giteaPullCalls...),
}

var (
	giteaUser    = object(fields{"login": text.must(), "id": integer.must(), "full_name": text, "email": text})
	giteaComment = object(fields{
		"id": integer.must(), "body": text.must(), "user": giteaUser.must().orNull(),
		"html_url": text, "created_at": text, "updated_at": text,
	})
	giteaBody   = object(fields{"body": text.must()})
	giteaStates = words("pending", "success", "error", "failure", "warning", "skipped")
	giteaStatus = object(fields{
		"id": integer, "status": giteaStates.must(), "context": text.must(), "description": text.must(), "target_url": text.must(),
	})
)
