package forgetest

import "maps"

// azureContract is of the REST API of Azure DevOps.
var azureContract = contract{
	source: "MicrosoftDocs/vsts-rest-api-specs, specification/git/7.1/git.json at adb28786 of 2026-05-12, with its httpExamples",
	refusal: object(fields{
		"$id": text, "message": text, "typeName": text, "typeKey": text, "errorCode": integer, "eventId": integer, "innerException": anything,
	}),
	refusals: []int{400, 401, 403, 404},
	calls: append([]call{
		{
			source: "microsoft/azure-devops-python-api, azure/devops/v7_1/location: GetConnectionData, which is a preview and in no other description",
			method: "GET", path: "/{organization}/_apis/connectionData",
			query: fields{
				"api-version": words("7.1-preview", "7.1-preview.1").must(), "connectOptions": text, "lastChangeId": integer, "lastChangeId64": integer,
			},
			answers: map[int]*value{200: object(fields{
				"authenticatedUser": azureIdentity.must(), "authorizedUser": azureIdentity, "instanceId": text, "deploymentId": text,
			}).only()},
		},
		{
			method: "GET", path: azurePull + "/threads", query: azureQuery(fields{"$iteration": integer, "$baseIteration": integer}),
			answers: map[int]*value{200: azureList(azureThread)},
		},
		{
			method: "POST", path: azurePull + "/threads", query: azureQuery(nil),
			body:    object(fields{"comments": list(azureNewComment).must(), "status": azureThreadStates, "properties": anything}).only(),
			answers: map[int]*value{200: azureThread.only()},
		},
		{
			method: "PATCH", path: azurePull + "/threads/{threadId:integer}/comments/{commentId:integer}", query: azureQuery(nil),
			body: azureNewComment.only(), answers: map[int]*value{200: azureComment.only()},
		},
		{
			method: "DELETE", path: azurePull + "/threads/{threadId:integer}/comments/{commentId:integer}", query: azureQuery(nil),
			answers: map[int]*value{200: nil},
		},
		{
			method: "GET", path: azurePull + "/iterations", query: azureQuery(fields{"includeCommits": boolean}),
			answers: map[int]*value{200: azureList(object(fields{
				"id": integer.must(), "sourceRefCommit": azureCommit.must(), "targetRefCommit": azureCommit, "commonRefCommit": azureCommit,
			}))},
		},
		{
			method: "GET", path: azurePull + "/iterations/{iterationId:integer}/statuses", query: azureQuery(nil),
			answers: map[int]*value{200: azureList(azureStatusOf)},
		},
		{
			method: "POST", path: azurePull + "/iterations/{iterationId:integer}/statuses", query: azureQuery(nil),
			body: azureNewStatus.only(), answers: map[int]*value{200: azureStatusOf.only()},
		},
		{
			method: "GET", path: azureRepository + "/commits/{commitId}/statuses",
			query:   azureQuery(fields{"top": integer, "skip": integer, "latestOnly": boolean}),
			answers: map[int]*value{200: azureList(azureStatusOf)},
		},
		{
			method: "POST", path: azureRepository + "/commits/{commitId}/statuses", query: azureQuery(nil),
			body: azureNewStatus.only(), answers: map[int]*value{200: azureStatusOf.only()},
		},
	}, azurePullCalls...),
}

const (
	azureRepository = "/{organization}/{project}/_apis/git/repositories/{repositoryId}"
	azurePull       = azureRepository + "/pullRequests/{pullRequestId:integer}"
)

// azureQuery adds the version, without which an old one answers.
func azureQuery(query fields) fields {
	all := fields{"api-version": words("7.1").must()}
	maps.Copy(all, query)
	return all
}

// azureList is a list as it is sent: the description speaks of what is in it.
func azureList(of value) *value {
	return object(fields{"value": list(of).must(), "count": integer.must()}).only()
}

var (
	azureIdentity     = object(fields{"id": text.must(), "displayName": text, "uniqueName": text, "url": text, "imageUrl": text, "isContainer": boolean})
	azureThreadStates = words("unknown", "active", "fixed", "wontFix", "closed", "byDesign", "pending")
	azureCommentTypes = words("unknown", "text", "codeChange", "system")
	azureNewComment   = object(fields{"parentCommentId": integer, "content": text.must().upTo(150_000), "commentType": azureCommentTypes})
	azureComment      = object(fields{
		"id": integer.must(), "author": azureIdentity.must(), "content": text, "commentType": azureCommentTypes.must(),
		"parentCommentId": integer, "isDeleted": boolean, "publishedDate": text, "lastUpdatedDate": text,
	})
	azureThread = object(fields{
		"id": integer.must(), "comments": list(azureComment), "isDeleted": boolean, "status": azureThreadStates, "properties": anything,
		"publishedDate": text, "lastUpdatedDate": text,
	})
	azureCommit    = object(fields{"commitId": commit.must()})
	azureContexts  = object(fields{"genre": text, "name": text.must()})
	azureStates    = words("notSet", "pending", "succeeded", "failed", "error", "notApplicable")
	azureNewStatus = object(fields{"state": azureStates, "description": text, "targetUrl": text, "context": azureContexts.must(), "iterationId": integer, "properties": anything})
	azureStatusOf  = object(fields{
		"id": integer.must(), "state": azureStates.must(), "description": text, "targetUrl": text.orNull(), "context": azureContexts.must(),
		"iterationId": integer, "creationDate": text, "updatedDate": text, "createdBy": azureIdentity,
	})
)
