package forge

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Environment is what a CI system tells a job.
type Environment struct {
	// Getenv returns an environment variable; empty for one that is not set.
	Getenv func(string) string
	// Files is the file system of the job, from its root: GitHub and Gitea tell of
	// the event in a file. Nil means that there is none.
	Files fs.FS
}

// maxEvent is the largest file of an event that is read. GitHub's are up to 25 MB.
const maxEvent = 32 << 20

// Detect tells from a CI job's environment what it reviews. Fields of given that
// are set are taken in place of what is found. Outside of CI all of it has to be
// given. What can't be found is an error that names the variable which should have
// said it. A job without a pull request has the PullRequest 0, and Base where CI
// tells what was there before.
//
// In a merge queue or a merge train there is no pull request either: what is looked
// at is the commit that the queue made, and Base is the branch that it goes to. A
// queue lets several changes go there at once, so that each is looked at together
// with those ahead of it.
func Detect(e Environment, given Target) (Target, error) {
	found, source, err := e.detect(given)
	if err != nil {
		return Target{}, err
	}
	t := Target{
		Forge: cmp.Or(given.Forge, found.Forge), API: cmp.Or(given.API, found.API),
		Repository: cmp.Or(given.Repository, found.Repository), PullRequest: cmp.Or(given.PullRequest, found.PullRequest),
		Base: cmp.Or(given.Base, found.Base), Head: cmp.Or(given.Head, found.Head), Run: cmp.Or(given.Run, found.Run),
		TokenVariable: cmp.Or(given.TokenVariable, found.TokenVariable),
	}
	for _, field := range []struct{ value, name, variable string }{
		{string(t.Forge), "forge", ""}, {t.API, "API URL", source.api}, {t.Repository, "repository", source.repository},
		{t.Head, "head commit", source.head}, {t.TokenVariable, "token", source.token},
	} {
		if field.value != "" {
			continue
		}
		if field.variable == "" {
			return Target{}, fmt.Errorf("no CI system was found to tell the %s: name it", field.name)
		}
		return Target{}, fmt.Errorf("the %s is not known: %s is not set", field.name, field.variable)
	}
	return t, nil
}

// variables are what a CI system tells things by.
type variables struct{ api, repository, head, token string }

// CI tells whether this is a job of a CI system that [Detect] knows.
func (e Environment) CI() bool {
	return slices.ContainsFunc([]string{"GITEA_ACTIONS", "FORGEJO_ACTIONS", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD"}, e.isSet)
}

func (e Environment) isSet(name string) bool {
	return strings.EqualFold(e.Getenv(name), "true") || e.Getenv(name) == "1"
}

func (e Environment) detect(given Target) (Target, variables, error) {
	isSet := e.isSet
	switch {
	case isSet("GITEA_ACTIONS"), isSet("FORGEJO_ACTIONS"):
		return e.actions(Gitea, given, "GITEA_TOKEN", "FORGEJO_TOKEN", "GITHUB_TOKEN")
	case isSet("GITHUB_ACTIONS"):
		return e.actions(GitHub, given, "GITHUB_TOKEN", "GH_TOKEN")
	case isSet("GITLAB_CI"):
		return e.gitlab()
	case isSet("TF_BUILD"):
		return e.azure()
	}
	token, variables := e.token()
	return Target{TokenVariable: token}, variables, nil
}

// token returns the first variable of some that is set. One name is ours and first
// everywhere: a job may hold a token of its CI that may do less.
func (e Environment) token(names ...string) (string, variables) {
	names = append([]string{"ISTHMUS_FORGE_TOKEN"}, names...)
	for _, name := range names {
		if e.Getenv(name) != "" {
			return name, variables{}
		}
	}
	return "", variables{token: strings.Join(names, " or ")}
}

// event is as much of an event as is used, of GitHub and Gitea.
type event struct {
	Number      int `json:"number"`
	PullRequest *struct {
		Number int `json:"number"`
		Base   struct {
			SHA string `json:"sha"`
		} `json:"base"`
		Head struct {
			SHA string `json:"sha"`
		} `json:"head"`
	} `json:"pull_request"`
	MergeGroup *struct {
		Base   string `json:"base_sha"`
		Branch string `json:"base_ref"`
		Head   string `json:"head_sha"`
	} `json:"merge_group"`
	Before string `json:"before"`
	After  string `json:"after"`
}

func (e Environment) actions(kind Kind, given Target, tokens ...string) (Target, variables, error) {
	token, from := e.token(tokens...)
	from.api, from.repository, from.head = "GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_SHA"
	t := Target{Forge: kind, API: e.Getenv(from.api), Repository: e.Getenv(from.repository), TokenVariable: token}
	server := strings.TrimRight(e.Getenv("GITHUB_SERVER_URL"), "/")
	if t.API == "" && server != "" && kind == Gitea {
		t.API = server + "/api/v1"
	}
	if server != "" && t.Repository != "" {
		t.Run = server + "/" + t.Repository + "/actions"
		// Gitea's pages of runs go by another number with every other release.
		if run := e.Getenv("GITHUB_RUN_ID"); run != "" && kind == GitHub {
			t.Run += "/runs/" + run
		}
	}
	if given.PullRequest != 0 && given.Base != "" && given.Head != "" {
		return t, from, nil
	}
	got, err := e.event()
	if err != nil {
		return Target{}, from, err
	}
	t.Head = e.Getenv(from.head)
	switch {
	case got.PullRequest != nil:
		// GITHUB_SHA is a merge of both, which is no commit of the pull request.
		t.PullRequest = cmp.Or(got.PullRequest.Number, got.Number)
		t.Base, t.Head = got.PullRequest.Base.SHA, got.PullRequest.Head.SHA
		from.head = "pull_request.head.sha in the file of GITHUB_EVENT_PATH"
	case got.MergeGroup != nil:
		// base_sha is the group ahead in the queue: both can be merged by one push.
		t.Base, t.Head = cmp.Or(remoteBranch(got.MergeGroup.Branch), got.MergeGroup.Base), got.MergeGroup.Head
		from.head = "merge_group.head_sha in the file of GITHUB_EVENT_PATH"
	case got.After != "" && strings.Trim(got.Before, "0") != "": // else the branch is new
		t.Base = got.Before
	}
	return t, from, nil
}

func (e Environment) event() (event, error) {
	var got event
	path := e.Getenv("GITHUB_EVENT_PATH")
	switch {
	case path == "":
		return got, errors.New("what the job is about is not known: GITHUB_EVENT_PATH is not set")
	case e.Files == nil:
		return got, errors.New("what the job is about is not known: the file of GITHUB_EVENT_PATH can't be read here")
	}
	info, err := fs.Stat(e.Files, strings.TrimLeft(path, "/"))
	if err == nil && info.Size() > maxEvent {
		err = errors.New("it is too large")
	}
	if err != nil {
		return got, fmt.Errorf("read the event in GITHUB_EVENT_PATH: %w", err)
	}
	data, err := fs.ReadFile(e.Files, strings.TrimLeft(path, "/"))
	if err != nil {
		return got, fmt.Errorf("read the event in GITHUB_EVENT_PATH: %w", err)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&got); err != nil {
		return got, errors.New("the event in GITHUB_EVENT_PATH is not the JSON of an event")
	}
	return got, nil
}

func (e Environment) gitlab() (Target, variables, error) {
	token, from := e.token("GITLAB_TOKEN")
	if token == "" {
		from.token += " (CI_JOB_TOKEN can't comment)"
	}
	from.api, from.repository, from.head = "CI_API_V4_URL", "CI_PROJECT_PATH", "CI_COMMIT_SHA"
	t := Target{
		Forge: GitLab, API: e.Getenv(from.api), TokenVariable: token, Run: e.Getenv("CI_JOB_URL"),
		// The job of a fork's merge request may run in the fork: the other is meant.
		Repository: cmp.Or(e.Getenv("CI_MERGE_REQUEST_PROJECT_PATH"), e.Getenv(from.repository)),
		// In a pipeline of merged results CI_COMMIT_SHA is a merge of both.
		Head: cmp.Or(e.Getenv("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA"), e.Getenv(from.head)),
		Base: e.Getenv("CI_MERGE_REQUEST_DIFF_BASE_SHA"),
	}
	if before := e.Getenv("CI_COMMIT_BEFORE_SHA"); t.Base == "" && strings.Trim(before, "0") != "" {
		t.Base = before
	}
	if e.Getenv("CI_MERGE_REQUEST_EVENT_TYPE") == "merge_train" {
		// CI_COMMIT_SHA has the merge requests ahead too, and the pipeline is its own.
		t.Head = e.Getenv(from.head)
		t.Base = cmp.Or(remoteBranch(e.Getenv("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")), t.Base)
		return t, from, nil
	}
	var err error
	t.PullRequest, err = e.number("CI_MERGE_REQUEST_IID")
	return t, from, err
}

func (e Environment) azure() (Target, variables, error) {
	from := variables{api: "SYSTEM_COLLECTIONURI", repository: "SYSTEM_TEAMPROJECT and BUILD_REPOSITORY_NAME", head: "BUILD_SOURCEVERSION"}
	kind, repository, number, tokens := AzureDevOps, "", "SYSTEM_PULLREQUEST_PULLREQUESTID", []string{"SYSTEM_ACCESSTOKEN"}
	api := cmp.Or(e.Getenv(from.api), e.Getenv("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI"))
	name := e.Getenv("BUILD_REPOSITORY_NAME")
	collection, project, build := api, e.Getenv("SYSTEM_TEAMPROJECT"), e.Getenv("BUILD_BUILDID")
	switch provider := e.Getenv("BUILD_REPOSITORY_PROVIDER"); provider {
	case "GitHub": // a pipeline there of a repository here
		kind, api, repository, number = GitHub, "https://api.github.com", name, "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER"
		tokens = []string{"GITHUB_TOKEN", "GH_TOKEN"}
		from.repository = "BUILD_REPOSITORY_NAME"
	case "TfsGit", "":
		if project != "" && name != "" {
			repository = project + "/" + name
		}
	default:
		return Target{}, from, fmt.Errorf("BUILD_REPOSITORY_PROVIDER is %q, which is no forge that can be found from Azure Pipelines: name forge, API URL and repository", provider)
	}
	token, t := e.token(tokens...)
	from.token = t.token
	if token == "" && kind == AzureDevOps {
		from.token += " (map it in the step: env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)})"
	}
	target := Target{
		Forge: kind, API: api, Repository: repository, TokenVariable: token,
		// BUILD_SOURCEVERSION is a merge of both in a pull request.
		Head: cmp.Or(e.Getenv("SYSTEM_PULLREQUEST_SOURCECOMMITID"), e.Getenv(from.head)),
	}
	// Which commit that branch is at is not said.
	target.Base = remoteBranch(e.Getenv("SYSTEM_PULLREQUEST_TARGETBRANCH"))
	if collection != "" && project != "" && build != "" {
		target.Run = strings.TrimRight(collection, "/") + "/" + strings.ReplaceAll(project, " ", "%20") + "/_build/results?buildId=" + build
	}
	var err error
	target.PullRequest, err = e.number(number)
	return target, from, err
}

// remoteBranch is a branch of the forge as a clone has it, whether it is named by
// its reference or its name; empty for none.
func remoteBranch(name string) string {
	if name = strings.TrimPrefix(name, "refs/heads/"); name == "" {
		return ""
	}
	return "origin/" + name
}

// number reads a variable that is a number; 0 if it is not set.
func (e Environment) number(name string) (int, error) {
	value := e.Getenv(name)
	if value == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s is %q, which is no number of a pull request", name, value)
	}
	return n, nil
}
