package forgetest

// What the contracts have of pull requests.

var (
	githubPullCalls = []call{
		{
			method: "GET", path: "/v3/repos/{owner}/{repo}/pulls",
			query: fields{
				"state": words("open", "closed", "all"), "head": text, "base": text, "sort": words("created", "updated", "popularity", "long-running"),
				"direction": words("asc", "desc"), "per_page": perPage, "page": integer,
			},
			answers: map[int]*value{200: list(githubPull).only(), 304: nil, 422: nil},
		},
		{
			method: "POST", path: "/v3/repos/{owner}/{repo}/pulls",
			body: object(fields{
				"title": text.upTo(256), "head": text.must(), "head_repo": text, "base": text.must(), "body": text.upTo(65536),
				"maintainer_can_modify": boolean, "draft": boolean, "issue": integer,
			}).only(),
			answers: map[int]*value{201: githubPull.only(), 422: nil},
		},
		{
			method: "PATCH", path: "/v3/repos/{owner}/{repo}/pulls/{pull_number:integer}",
			body: object(fields{
				"title": text.upTo(256), "body": text.upTo(65536), "state": words("open", "closed"), "base": text, "maintainer_can_modify": boolean,
			}).only(),
			answers: map[int]*value{200: githubPull.only(), 422: nil},
		},
	}
	githubPullSide = object(fields{
		"ref": text.must(), "label": text.must(), "sha": commit, "repo": object(fields{"id": integer.must(), "full_name": text}).must().orNull(),
	})
	githubPull = object(fields{
		"number": integer.must(), "state": words("open", "closed").must(), "title": text.must(), "body": text.must().orNull(), "html_url": text.must(),
		"merged_at": text.must().orNull(), "user": githubUser, "head": githubPullSide.must(), "base": githubPullSide.must(),
	})
)

var (
	giteaPullCalls = []call{
		{
			method: "GET", path: "/repos/{owner}/{repo}/pulls",
			query: fields{
				"base_branch": text, "state": words("open", "closed", "all"), "milestone": integer, "labels": text, "poster": text, "page": integer, "limit": integer,
				"sort": words("oldest", "recentupdate", "recentclose", "leastupdate", "mostcomment", "leastcomment", "priority"),
			},
			answers: map[int]*value{200: list(giteaPull).only(), 500: nil},
		},
		{
			method: "POST", path: "/repos/{owner}/{repo}/pulls",
			body: object(fields{
				"title": text, "body": text, "head": text, "base": text, "assignee": text, "assignees": list(text), "labels": list(integer),
				"milestone": integer, "due_date": text, "reviewers": list(text), "team_reviewers": list(text), "allow_maintainer_edit": boolean,
			}).only(),
			answers: map[int]*value{201: giteaPull.only(), 409: nil, 422: nil},
		},
		{
			method: "PATCH", path: "/repos/{owner}/{repo}/pulls/{index:integer}",
			body: object(fields{
				"title": text, "body": text, "state": text, "base": text, "assignee": text, "assignees": list(text), "labels": list(integer),
				"milestone": integer, "due_date": text, "unset_due_date": boolean, "allow_maintainer_edit": boolean, "content_version": integer,
			}).only(),
			answers: map[int]*value{201: giteaPull.only(), 409: nil, 412: nil, 422: nil},
		},
	}
	giteaPullSide = object(fields{
		"label": text, "ref": text, "sha": text, "repo_id": integer, "repo": object(fields{"id": integer, "full_name": text}).orNull(),
	})
	giteaPull = object(fields{
		"number": integer.must(), "state": text.must(), "title": text.must(), "body": text.must(), "html_url": text.must(), "merged": boolean,
		"merged_at": text.orNull(), "user": giteaUser, "head": giteaPullSide.must(), "base": giteaPullSide.must(),
	})
)

var (
	gitlabPullCalls = []call{
		{
			source: "GitLab's doc/api/merge_requests.md, as of GitLab 18",
			method: "GET", path: "/projects/{id}/merge_requests",
			query: gitlabPages(fields{
				"state": words("opened", "closed", "locked", "merged", "all"), "source_branch": text, "target_branch": text,
				"order_by": words("created_at", "title", "merged_at", "updated_at"), "sort": words("asc", "desc"),
				"scope": words("created_by_me", "assigned_to_me", "all"), "author_id": integer, "author_username": text, "search": text,
			}),
			answers: map[int]*value{200: list(gitlabPull).only()},
		},
		{
			source: "GitLab's doc/api/merge_requests.md, as of GitLab 18",
			method: "POST", path: "/projects/{id}/merge_requests",
			body: object(fields{
				"source_branch": text.must(), "target_branch": text.must(), "title": text.must().upTo(255), "description": text.upTo(1_048_576),
				"remove_source_branch": boolean, "squash": boolean, "labels": text, "target_project_id": integer, "assignee_id": integer,
				"reviewer_ids": list(integer), "milestone_id": integer, "allow_collaboration": boolean,
			}).only(),
			answers: map[int]*value{201: gitlabPull.only()},
		},
		{
			source: "GitLab's doc/api/merge_requests.md, as of GitLab 18",
			method: "PUT", path: "/projects/{id}/merge_requests/{merge_request_iid:integer}",
			body: object(fields{
				"title": text.upTo(255), "description": text.upTo(1_048_576), "state_event": words("close", "reopen"), "target_branch": text,
				"remove_source_branch": boolean, "squash": boolean, "labels": text, "discussion_locked": boolean,
			}).only(),
			answers: map[int]*value{200: gitlabPull.only()},
		},
	}
	gitlabPull = object(fields{
		"id": integer.must(), "iid": integer.must(), "state": words("opened", "closed", "locked", "merged").must(), "title": text.must(),
		"description": text.must().orNull(), "source_branch": text.must(), "target_branch": text.must(), "source_project_id": integer.must(),
		"target_project_id": integer.must(), "web_url": text.must(), "author": gitlabUser, "sha": commit,
	})
)

var (
	azurePullCalls = []call{
		{
			method: "GET", path: azurePullRequests,
			query: azureQuery(fields{
				"searchCriteria.status":        words("notSet", "active", "abandoned", "completed", "all"),
				"searchCriteria.sourceRefName": text, "searchCriteria.targetRefName": text, "searchCriteria.creatorId": text,
				"searchCriteria.sourceRepositoryId": text, "$top": integer, "$skip": integer, "maxCommentLength": integer,
			}),
			answers: map[int]*value{200: azureList(azurePullOf)},
		},
		{
			method: "GET", path: azurePullRequests + "/{pullRequestId:integer}", query: azureQuery(fields{"includeCommits": boolean, "includeWorkItemRefs": boolean}),
			answers: map[int]*value{200: azurePullOf.only()},
		},
		{
			method: "POST", path: azurePullRequests, query: azureQuery(fields{"supportsIterations": boolean}),
			body: object(fields{
				"sourceRefName": text.must(), "targetRefName": text.must(), "title": text.must(), "description": text.upTo(4000),
				"isDraft": boolean, "reviewers": list(azureIdentity), "labels": anything, "workItemRefs": anything,
			}).only(),
			answers: map[int]*value{201: azurePullOf.only(), 409: nil},
		},
		{
			method: "PATCH", path: azurePullRequests + "/{pullRequestId:integer}", query: azureQuery(nil),
			body: object(fields{
				"status": words("active", "abandoned", "completed"), "title": text, "description": text.upTo(4000), "targetRefName": text,
				"completionOptions": anything, "mergeOptions": anything, "autoCompleteSetBy": anything,
			}).only(),
			answers: map[int]*value{200: azurePullOf.only(), 409: nil},
		},
	}
	azurePullOf = object(fields{
		"pullRequestId": integer.must(), "status": words("notSet", "active", "abandoned", "completed", "all").must(), "title": text.must(),
		"description": text, "sourceRefName": text.must(), "targetRefName": text.must(), "createdBy": azureIdentity, "forkSource": anything,
		"isDraft": boolean, "url": text, "creationDate": text, "closedDate": text, "repository": anything,
	})
)

const azurePullRequests = azureRepository + "/pullrequests"
