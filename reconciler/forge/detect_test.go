package forge_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
)

const (
	base = "1111111111111111111111111111111111111111"
	head = "2222222222222222222222222222222222222222"
	both = "3333333333333333333333333333333333333333"
)

// job is what a CI system sets in a job.
type job struct {
	variables map[string]string
	event     string
}

func (j job) environment() forge.Environment {
	return forge.Environment{
		Getenv: func(name string) string { return j.variables[name] },
		Files:  fstest.MapFS{"github/workflow/event.json": {Data: []byte(j.event)}},
	}
}

func (j job) with(pairs ...string) job {
	j.variables = maps.Clone(j.variables)
	for i := 0; i < len(pairs); i += 2 {
		j.variables[pairs[i]] = pairs[i+1]
	}
	return j
}

var (
	githubJob = job{map[string]string{
		"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_API_URL": "https://api.github.com", "GITHUB_SERVER_URL": "https://github.com",
		"GITHUB_REPOSITORY": "acme/fleet", "GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": "/github/workflow/event.json",
		"GITHUB_SHA": both, "GITHUB_REF": "refs/pull/7/merge", "GITHUB_RUN_ID": "42", "GITHUB_RUN_NUMBER": "3", "GITHUB_TOKEN": "x",
	}, `{"action": "synchronize", "number": 7, "before": "` + both + `", "after": "` + head + `", "pull_request": {"number": 7, "base": {"ref": "main", "sha": "` + base + `"}, "head": {"ref": "change", "sha": "` + head + `"}}}`}
	giteaJob  = job{githubJob.with("GITEA_ACTIONS", "true", "GITHUB_API_URL", "https://git.example.com/api/v1", "GITHUB_SERVER_URL", "https://git.example.com").variables, githubJob.event}
	gitlabJob = job{map[string]string{
		"CI": "true", "GITLAB_CI": "true", "CI_API_V4_URL": "https://gitlab.example.com/api/v4", "CI_PROJECT_PATH": "fork/fleet",
		"CI_MERGE_REQUEST_PROJECT_PATH": "acme/mesh/fleet", "CI_MERGE_REQUEST_IID": "7", "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
		"CI_COMMIT_SHA": both, "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": head, "CI_COMMIT_BEFORE_SHA": strings.Repeat("0", 40),
		"CI_JOB_URL": "https://gitlab.example.com/fork/fleet/-/jobs/9", "CI_JOB_TOKEN": "y", "GITLAB_TOKEN": "x",
	}, ""}
	azureJob = job{map[string]string{
		"TF_BUILD": "True", "SYSTEM_COLLECTIONURI": "https://dev.azure.com/acme/", "SYSTEM_TEAMPROJECT": "Mesh Team", "BUILD_BUILDID": "12",
		"BUILD_REPOSITORY_NAME": "fleet", "BUILD_REPOSITORY_PROVIDER": "TfsGit", "BUILD_SOURCEVERSION": both, "SYSTEM_PULLREQUEST_PULLREQUESTID": "7",
		"SYSTEM_PULLREQUEST_SOURCECOMMITID": head, "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main", "SYSTEM_ACCESSTOKEN": "x",
	}, ""}
)

// queued is a job of GitHub's merge queue.
func queued(more string) job {
	return job{
		githubJob.with("GITHUB_EVENT_NAME", "merge_group", "GITHUB_SHA", head, "GITHUB_REF", "refs/heads/gh-readonly-queue/main/pr-7-"+base).variables,
		`{"action": "checks_requested", "merge_group": {` + more + `"head_sha": "` + head + `", "base_sha": "` + base + `", "head_ref": "refs/heads/gh-readonly-queue/main/pr-7-` + base + `"}}`,
	}
}

// TestDetect: each CI system, as it sets its variables.
func TestDetect(t *testing.T) {
	github := forge.Target{
		Forge: forge.GitHub, API: "https://api.github.com", Repository: "acme/fleet", PullRequest: 7, Base: base, Head: head,
		Run: "https://github.com/acme/fleet/actions/runs/42", TokenVariable: "GITHUB_TOKEN",
	}
	gitea := forge.Target{
		Forge: forge.Gitea, API: "https://git.example.com/api/v1", Repository: "acme/fleet", PullRequest: 7, Base: base, Head: head,
		Run: "https://git.example.com/acme/fleet/actions", TokenVariable: "GITHUB_TOKEN",
	}
	gitlab := forge.Target{
		Forge: forge.GitLab, API: "https://gitlab.example.com/api/v4", Repository: "acme/mesh/fleet", PullRequest: 7, Base: base, Head: head,
		Run: "https://gitlab.example.com/fork/fleet/-/jobs/9", TokenVariable: "GITLAB_TOKEN",
	}
	azure := forge.Target{
		Forge: forge.AzureDevOps, API: "https://dev.azure.com/acme/", Repository: "Mesh Team/fleet", PullRequest: 7, Base: "origin/main", Head: head,
		Run: "https://dev.azure.com/acme/Mesh%20Team/_build/results?buildId=12", TokenVariable: "SYSTEM_ACCESSTOKEN",
	}
	but := func(t forge.Target, change func(*forge.Target)) forge.Target { change(&t); return t }
	for _, tt := range []struct {
		reason string
		job    job
		given  forge.Target
		want   forge.Target
	}{
		{"GitHub Actions", githubJob, forge.Target{}, github},
		{"Gitea Actions, which says that it is GitHub's", giteaJob, forge.Target{}, gitea},
		{"Forgejo Actions", giteaJob.with("GITEA_ACTIONS", "", "FORGEJO_ACTIONS", "true"), forge.Target{}, gitea},
		{"Gitea's own name of the token", giteaJob.with("GITEA_TOKEN", "x"), forge.Target{}, but(gitea, func(t *forge.Target) { t.TokenVariable = "GITEA_TOKEN" })},
		{"GitLab CI, a fork's merge request", gitlabJob, forge.Target{}, gitlab},
		{"GitLab CI without merged results", gitlabJob.with("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "", "CI_COMMIT_SHA", head), forge.Target{}, gitlab},
		{"Azure Pipelines", azureJob, forge.Target{}, azure},
		{"our own name of the token goes first", azureJob.with("ISTHMUS_FORGE_TOKEN", "x"), forge.Target{}, but(azure, func(t *forge.Target) { t.TokenVariable = "ISTHMUS_FORGE_TOKEN" })},
		{
			"Azure Pipelines of a repository on GitHub",
			azureJob.with("BUILD_REPOSITORY_PROVIDER", "GitHub", "BUILD_REPOSITORY_NAME", "acme/fleet", "SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "7", "SYSTEM_PULLREQUEST_PULLREQUESTID", "99887766", "SYSTEM_PULLREQUEST_TARGETBRANCH", "main", "GITHUB_TOKEN", "x"),
			forge.Target{},
			but(github, func(t *forge.Target) { t.Base, t.Run = "origin/main", azure.Run }),
		},
		{
			"a merge queue",
			queued(`"base_ref": "refs/heads/release/1", `),
			forge.Target{},
			but(github, func(t *forge.Target) { t.PullRequest, t.Base = 0, "origin/release/1" }),
		},
		{
			"a merge queue that does not say where it goes", queued(""), forge.Target{},
			but(github, func(t *forge.Target) { t.PullRequest = 0 }),
		},
		{
			"GitLab CI of merged results", gitlabJob.with("CI_MERGE_REQUEST_EVENT_TYPE", "merged_result", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main", "CI_MERGE_REQUEST_TARGET_BRANCH_SHA", both),
			forge.Target{}, gitlab,
		},
		{
			"a merge train", gitlabJob.with("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main", "CI_MERGE_REQUEST_TARGET_BRANCH_SHA", base),
			forge.Target{},
			but(gitlab, func(t *forge.Target) { t.PullRequest, t.Base, t.Head = 0, "origin/main", both }),
		},
		{
			"a push", job{githubJob.with("GITHUB_SHA", head).variables, `{"before": "` + base + `", "after": "` + head + `", "ref": "refs/heads/main"}`},
			forge.Target{},
			but(github, func(t *forge.Target) { t.PullRequest = 0 }),
		},
		{
			"a push of a new branch", job{githubJob.with("GITHUB_SHA", head).variables, `{"before": "` + strings.Repeat("0", 40) + `", "after": "` + head + `"}`},
			forge.Target{},
			but(github, func(t *forge.Target) { t.PullRequest, t.Base = 0, "" }),
		},
		{
			"a push on GitLab", gitlabJob.with("CI_MERGE_REQUEST_IID", "", "CI_MERGE_REQUEST_PROJECT_PATH", "", "CI_MERGE_REQUEST_DIFF_BASE_SHA", "", "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "", "CI_COMMIT_BEFORE_SHA", base),
			forge.Target{},
			but(gitlab, func(t *forge.Target) { t.PullRequest, t.Repository, t.Head = 0, "fork/fleet", both }),
		},
		{
			"given goes before found, and needs no event", githubJob.with("GITHUB_EVENT_PATH", ""),
			forge.Target{PullRequest: 8, Base: "main", Head: both, API: "https://ghe.example.com/api/v3", TokenVariable: "OTHER"},
			forge.Target{
				Forge: forge.GitHub, API: "https://ghe.example.com/api/v3", Repository: "acme/fleet", PullRequest: 8, Base: "main", Head: both,
				Run: github.Run, TokenVariable: "OTHER",
			},
		},
		{
			"all of it given, at somebody's desk", job{variables: map[string]string{"ISTHMUS_FORGE_TOKEN": "x"}},
			forge.Target{Forge: forge.GitLab, API: "https://gitlab.com/api/v4", Repository: "a/b", PullRequest: 1, Base: base, Head: head},
			forge.Target{Forge: forge.GitLab, API: "https://gitlab.com/api/v4", Repository: "a/b", PullRequest: 1, Base: base, Head: head, TokenVariable: "ISTHMUS_FORGE_TOKEN"},
		},
	} {
		got, err := forge.Detect(tt.job.environment(), tt.given)
		if err != nil {
			t.Errorf("%s: %v", tt.reason, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

// TestDetectSaysWhatIsMissing: by the name of the variable.
func TestDetectSaysWhatIsMissing(t *testing.T) {
	for _, tt := range []struct {
		reason string
		job    job
		given  forge.Target
		want   string
	}{
		{"no CI", job{}, forge.Target{}, "no CI system was found to tell the forge: name it"},
		{"no CI, half of it given", job{}, forge.Target{Forge: forge.GitHub}, "no CI system was found to tell the API URL: name it"},
		{"no CI, no token", job{}, forge.Target{Forge: forge.GitHub, API: "https://api.github.com", Repository: "a/b", Head: head}, "the token is not known: ISTHMUS_FORGE_TOKEN is not set"},
		{"GitHub without token", githubJob.with("GITHUB_TOKEN", ""), forge.Target{}, "ISTHMUS_FORGE_TOKEN or GITHUB_TOKEN or GH_TOKEN is not set"},
		{"GitHub without API", githubJob.with("GITHUB_API_URL", ""), forge.Target{}, "GITHUB_API_URL is not set"},
		{"GitHub without repository", githubJob.with("GITHUB_REPOSITORY", ""), forge.Target{}, "GITHUB_REPOSITORY is not set"},
		{"GitHub without event", githubJob.with("GITHUB_EVENT_PATH", ""), forge.Target{}, "GITHUB_EVENT_PATH is not set"},
		{"an event that is not there", githubJob.with("GITHUB_EVENT_PATH", "/nowhere"), forge.Target{}, "read the event in GITHUB_EVENT_PATH"},
		{"an event that climbs", githubJob.with("GITHUB_EVENT_PATH", "/../etc/passwd"), forge.Target{}, "read the event in GITHUB_EVENT_PATH"},
		{"an event that is no JSON", job{githubJob.variables, "<html>"}, forge.Target{}, "is not the JSON of an event"},
		{"an event of another shape", job{githubJob.variables, `{"pull_request": "x"}`}, forge.Target{}, "is not the JSON of an event"},
		{"an event without head", job{githubJob.variables, `{"pull_request": {"number": 7}}`}, forge.Target{}, "pull_request.head.sha"},
		{"GitLab without token", gitlabJob.with("GITLAB_TOKEN", ""), forge.Target{}, "GITLAB_TOKEN (CI_JOB_TOKEN can't comment) is not set"},
		{"GitLab without API", gitlabJob.with("CI_API_V4_URL", ""), forge.Target{}, "CI_API_V4_URL is not set"},
		{"GitLab with no number", gitlabJob.with("CI_MERGE_REQUEST_IID", "x"), forge.Target{}, "CI_MERGE_REQUEST_IID is \"x\""},
		{"Azure without token", azureJob.with("SYSTEM_ACCESSTOKEN", ""), forge.Target{}, "$(System.AccessToken)"},
		{"Azure without collection", azureJob.with("SYSTEM_COLLECTIONURI", ""), forge.Target{}, "SYSTEM_COLLECTIONURI is not set"},
		{"Azure without project", azureJob.with("SYSTEM_TEAMPROJECT", ""), forge.Target{}, "SYSTEM_TEAMPROJECT and BUILD_REPOSITORY_NAME is not set"},
		{"Azure of Bitbucket", azureJob.with("BUILD_REPOSITORY_PROVIDER", "Bitbucket"), forge.Target{}, "\"Bitbucket\""},
	} {
		_, err := forge.Detect(tt.job.environment(), tt.given)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.reason, err, tt.want)
		}
	}
	if len(slices.Collect(maps.Keys(githubJob.variables))) == 0 {
		t.Fatal("the cases have changed the job that they begin with")
	}
	noFiles := githubJob.environment()
	noFiles.Files = nil
	if _, err := forge.Detect(noFiles, forge.Target{}); err == nil || !strings.Contains(err.Error(), "GITHUB_EVENT_PATH can't be read here") {
		t.Errorf("without files: %v", err)
	}
}
