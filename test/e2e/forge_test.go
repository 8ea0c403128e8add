package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// forgeRig is a Gitea with the repository of a fleet, a bot that reviews it, and
// a branch protection that asks for the review.
type forgeRig struct {
	*controlplane.GiteaServer
	t          *testing.T
	repository *rig.Repository
	bot        string // token
	binary     string // of isthmus
}

// reviewer is the account that comments.
const reviewer = "isthmus-bot"

// reviewScopes are all that the bot's token has.
var reviewScopes = []string{"read:user", "write:issue", "write:repository"}

func newForgeRig(t *testing.T) *forgeRig {
	t.Helper()
	gitea, err := controlplane.StartGitea(context.WithoutCancel(t.Context()), controlplane.GiteaOptions{LogDir: logDir(t), Progress: os.Stderr})
	check(t, err)
	t.Cleanup(gitea.Stop)
	f := &forgeRig{GiteaServer: gitea, t: t}
	f.must(http.MethodPost, "/user/repos", map[string]any{"name": "fleet"}, nil)
	f.must(http.MethodPost, "/admin/users", map[string]any{
		"username": reviewer, "email": "bot@example.com", "password": gitea.Password, "must_change_password": false,
	}, nil)
	f.must(http.MethodPut, f.path("/collaborators/"+reviewer), map[string]any{"permission": "write"}, nil)
	f.bot = f.token(reviewScopes...)

	f.repository, err = rig.NewRepository(t.Context(), t.TempDir())
	check(t, err)
	check(t, f.repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	credential := base64.StdEncoding.EncodeToString([]byte(gitea.Admin + ":" + gitea.Password))
	f.git("remote", "set-url", "origin", gitea.URL+"/"+gitea.Admin+"/fleet.git")
	f.git("config", "http.extraHeader", "Authorization: Basic "+credential)
	f.push("main", "Two members")
	f.must(http.MethodPost, f.path("/branch_protections"), map[string]any{
		"rule_name": "main", "enable_status_check": true, "status_check_contexts": []string{forge.Context("fleet", "")},
	}, nil)
	return f
}

// path is below the repository's in the API.
func (f *forgeRig) path(rest string) string { return "/repos/" + f.Admin + "/fleet" + rest }

// must calls the API as the admin.
func (f *forgeRig) must(method, path string, in, out any) {
	f.t.Helper()
	token := f.Token
	if strings.HasPrefix(path, "/users/") { // tokens are made with a password
		token = ""
	}
	check(f.t, f.API(f.t.Context(), token, method, path, in, out))
}

// token makes one of the bot.
func (f *forgeRig) token(scopes ...string) string {
	f.t.Helper()
	var made struct {
		SHA string `json:"sha1"`
	}
	f.must(http.MethodPost, "/users/"+reviewer+"/tokens", map[string]any{"name": strings.Join(scopes, " "), "scopes": scopes}, &made)
	return made.SHA
}

func (f *forgeRig) git(args ...string) string {
	f.t.Helper()
	out, err := f.repository.Git(f.t.Context(), args...)
	check(f.t, err)
	return out
}

// push commits the work tree to a branch and returns the commit.
func (f *forgeRig) push(branch, message string) string {
	f.t.Helper()
	f.git("checkout", "-q", "-B", branch)
	f.git("add", "-A")
	f.git("commit", "-q", "--allow-empty", "-m", message)
	f.git("push", "-q", "origin", "HEAD:"+branch)
	return f.git("rev-parse", "HEAD")
}

// pull opens a pull request of a branch and returns its JSON and number.
func (f *forgeRig) pull(branch string) (json.RawMessage, int) {
	f.t.Helper()
	var raw json.RawMessage
	f.must(http.MethodPost, f.path("/pulls"), map[string]any{"head": branch, "base": "main", "title": branch}, &raw)
	var pull struct {
		Number int `json:"number"`
	}
	check(f.t, json.Unmarshal(raw, &pull))
	return raw, pull.Number
}

// job is a client with what a job of Gitea Actions is told of a pull request.
func (f *forgeRig) job(pull json.RawMessage, token string) (forge.Target, *forge.Client) {
	f.t.Helper()
	variables := map[string]string{
		"GITEA_ACTIONS": "true", "GITHUB_ACTIONS": "true", "GITHUB_API_URL": f.URL + "/api/v1", "GITHUB_SERVER_URL": f.URL,
		"GITHUB_REPOSITORY": f.Admin + "/fleet", "GITHUB_EVENT_PATH": "/run/event.json", "GITEA_TOKEN": token,
	}
	event, err := json.Marshal(map[string]any{"pull_request": pull})
	check(f.t, err)
	target, err := forge.Detect(forge.Environment{
		Getenv: func(name string) string { return variables[name] },
		Files:  fstest.MapFS{"run/event.json": {Data: event}},
	}, forge.Target{})
	check(f.t, err)
	client, err := forge.New(target, forge.Options{Token: forge.Token(variables[target.TokenVariable])})
	check(f.t, err)
	return target, client
}

// remark is a comment as Gitea gives it back.
type remark struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	User struct {
		Login string `json:"login"`
	} `json:"user"`
	Updated time.Time `json:"updated_at"`
}

func (f *forgeRig) remarks(pull int) []remark {
	f.t.Helper()
	var all []remark
	f.must(http.MethodGet, f.path(fmt.Sprintf("/issues/%d/comments", pull)), nil, &all)
	return all
}

// statuses are the last ones of a commit: context, state and description.
func (f *forgeRig) statuses(commit string) map[string]string {
	f.t.Helper()
	var combined struct {
		Statuses []struct {
			Context     string `json:"context"`
			Status      string `json:"status"`
			Description string `json:"description"`
		} `json:"statuses"`
	}
	f.must(http.MethodGet, f.path("/commits/"+commit+"/status"), nil, &combined)
	all := map[string]string{}
	for _, s := range combined.Statuses {
		all[s.Context] = s.Status + ": " + s.Description
	}
	return all
}

// merge merges, once Gitea knows whether it can.
func (f *forgeRig) merge(pull int) error {
	f.t.Helper()
	var err error
	check(f.t, rig.Eventually(f.t.Context(), time.Minute, func() error {
		err = f.API(f.t.Context(), f.Token, http.MethodPost, f.path(fmt.Sprintf("/pulls/%d/merge", pull)), map[string]any{"Do": "merge"}, nil)
		if err != nil && strings.Contains(err.Error(), "try again later") {
			return err
		}
		return nil
	}))
	return err
}

func (f *forgeRig) comment(c *forge.Client, pull int, body string, want forge.Outcome) {
	f.t.Helper()
	if got, err := c.Comment(f.t.Context(), pull, forge.Marker("./prod"), body); err != nil || got != want {
		f.t.Fatalf("comment %q: %q, %v; want %s", body, got, err, want)
	}
}

func (f *forgeRig) status(c *forge.Client, commit string, s forge.Status, want forge.Outcome) {
	f.t.Helper()
	if got, err := c.Status(f.t.Context(), commit, s); err != nil || got != want {
		f.t.Fatalf("status %+v: %q, %v; want %s", s, got, err, want)
	}
}

// TestForge reviews a pull request on a real Gitea: one comment that is edited in
// place, and statuses that branch protection goes by.
func TestForge(t *testing.T) {
	f := newForgeRig(t)
	f.binary = build(t)
	t.Run("a pull request from its opening to the merge", f.review)
	t.Run("a job of the workflow that init writes", f.actions)
	t.Run("two jobs at once", f.twoJobs)
	t.Run("a report that is too long", f.large)
	t.Run("a comment that a person deletes", f.deleted)
	t.Run("tokens that may do less", f.scopes)
}

// run runs the real command in the work tree, as a job of Gitea Actions does.
func (f *forgeRig) run(pull json.RawMessage, want int) string {
	f.t.Helper()
	return f.runJob(want, map[string]any{
		"api_url": f.URL + "/api/v1", "server_url": f.URL + "/", "repository": f.Admin + "/fleet", "token": f.bot,
		"event": map[string]any{"pull_request": pull},
	})
}

// runJob gives the command the variables that Gitea's runner makes of a job's context.
func (f *forgeRig) runJob(want int, job map[string]any) string {
	f.t.Helper()
	event := filepath.Join(f.t.TempDir(), "event.json")
	data, err := json.Marshal(job["event"])
	check(f.t, err)
	check(f.t, os.WriteFile(event, data, 0o600))
	text := func(name string) string { value, _ := job[name].(string); return value }
	cmd := exec.CommandContext(f.t.Context(), f.binary, "review")
	cmd.Dir = f.repository.Work
	cmd.Env = append(os.Environ(), "GITEA_ACTIONS=true", "GITHUB_ACTIONS=true", "ISTHMUS_FORGE_TOKEN=",
		"GITHUB_API_URL="+text("api_url"), "GITHUB_SERVER_URL="+text("server_url"), "GITHUB_REPOSITORY="+text("repository"),
		"GITHUB_SHA="+text("sha"), "GITHUB_EVENT_PATH="+event, "GITEA_TOKEN="+text("token"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != want {
		f.t.Fatalf("isthmus review ends with %d (%v), want %d:\n%s", code, err, want, out)
	}
	if strings.Contains(string(out), text("token")) {
		f.t.Error("isthmus review prints the token")
	}
	return string(out)
}

// head waits until Gitea knows the head of a pull request, which it looks for after
// a push, and returns the pull request.
func (f *forgeRig) head(number int, commit string) json.RawMessage {
	f.t.Helper()
	var raw json.RawMessage
	check(f.t, rig.Eventually(f.t.Context(), time.Minute, func() error {
		var pull struct {
			Head struct {
				SHA string `json:"sha"`
			} `json:"head"`
		}
		f.must(http.MethodGet, f.path(fmt.Sprintf("/pulls/%d", number)), nil, &raw)
		check(f.t, json.Unmarshal(raw, &pull))
		if pull.Head.SHA != commit {
			return fmt.Errorf("pull request %d is at %s, not at %s", number, pull.Head.SHA, commit)
		}
		return nil
	}))
	return raw
}

// blocked says that a merge fails because of what protects the branch.
func (f *forgeRig) blocked(number int) {
	f.t.Helper()
	if err := f.merge(number); err == nil {
		f.t.Fatal("merged though the review does not allow it")
	} else if !strings.Contains(err.Error(), "status check") {
		f.t.Fatalf("merge: %v", err)
	}
}

func (f *forgeRig) review(t *testing.T) {
	f.t = t
	check(t, f.repository.Replace(memberFile(east), "visibility: Internal", "visibility: External"))
	first := f.push("change", "Open a gateway to the world")
	pull, number := f.pull("change")
	rolled, marker := forge.Context("fleet", ""), forge.Marker("fleet")
	f.must(http.MethodPost, f.path(fmt.Sprintf("/issues/%d/comments", number)), map[string]string{"body": marker + "\nlooks fine to me"}, nil)

	said := f.run(pull, 1)
	before := f.remarks(number)
	if len(before) != 2 || before[1].User.Login != reviewer || !strings.HasPrefix(before[1].Body, marker+"\n### ") || !strings.Contains(before[1].Body, "NoPublicGateway") {
		t.Fatalf("comments after\n%s\n%+v", said, before)
	}
	if got := f.statuses(first); len(got) != 1 || !strings.HasPrefix(got[rolled], "failure: 1 of 2 members changes") {
		t.Errorf("statuses of the first push: %q", got)
	}
	f.blocked(number)

	check(t, f.repository.Replace(memberFile(east), "visibility: External", "visibility: Internal"))
	check(t, f.repository.Replace(memberFile(east), "ring: canary", "ring: rest"))
	second := f.push("change", "Move a member")
	if got := f.statuses(second); len(got) != 0 {
		t.Errorf("statuses of a push that nobody reviewed: %q", got)
	}
	pull = f.head(number, second)
	f.blocked(number)
	f.run(pull, 0)
	if said := f.run(pull, 0); strings.Count(said, "unchanged") != 2 {
		t.Errorf("a second job of the same commit writes:\n%s", said)
	}
	after := f.remarks(number)
	if len(after) != 2 || after[1].ID != before[1].ID || strings.Contains(after[1].Body, "NoPublicGateway") {
		t.Errorf("comments after the second push: %+v", after)
	}
	if diff := cmp.Diff(before[0], after[0]); diff != "" {
		t.Errorf("another's comment was touched:\n%s", diff)
	}

	// While it is looked at again, or can't be, nothing is merged.
	_, client := f.job(pull, f.bot)
	for _, state := range []forge.State{forge.Pending, forge.Broken} {
		f.status(client, second, forge.Status{Context: rolled, State: state}, forge.Updated)
		f.blocked(number)
	}
	f.run(pull, 0)
	check(t, f.merge(number))
	f.git("fetch", "-q", "origin", "main")
	if _, err := f.repository.Git(t.Context(), "merge-base", "--is-ancestor", second, "origin/main"); err != nil {
		t.Errorf("the merge is not on main: %v", err)
	}

	// After the merge the rollout is told at the commit, ring by ring.
	merged := f.git("rev-parse", "origin/main")
	ring := forge.Context("fleet", "canary")
	f.status(client, merged, forge.Status{Context: ring, State: forge.Pending, Description: strings.Repeat("waits for its window ", 40)}, forge.Created)
	f.status(client, merged, forge.Status{Context: ring, State: forge.Success, Description: "1 of 1 member"}, forge.Updated)
	f.status(client, merged, forge.Status{Context: rolled, State: forge.Success, Description: "2 of 2 members", URL: f.URL}, forge.Created)
	f.status(client, merged, forge.Status{Context: rolled, State: forge.Success, Description: "2 of 2 members", URL: f.URL}, forge.Unchanged)
	if diff := cmp.Diff(map[string]string{ring: "success: 1 of 1 member", rolled: "success: 2 of 2 members"}, f.statuses(merged)); diff != "" {
		t.Errorf("statuses of the merge (-want +got):\n%s", diff)
	}
}

// actions lets Gitea start a job of the workflow that init writes, takes it as a
// runner does, and runs the review with the token and the event that the job is given.
func (f *forgeRig) actions(t *testing.T) {
	f.t = t
	const workflow = ".gitea/workflows/isthmus.yaml"
	starter := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), f.binary, "init", starter, "--ci", "gitea").CombinedOutput(); err != nil {
		t.Fatalf("isthmus init: %v\n%s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(starter, workflow))
	check(t, err)
	check(t, f.repository.Write(workflow, string(content)))
	check(t, f.repository.Replace(memberFile(east), "ring: rest", "ring: canary")) // else there is nothing to comment on
	head := f.push("actions", "A workflow")
	_, number := f.pull("actions")

	var registration struct{ Token string }
	f.must(http.MethodPost, f.path("/actions/runners/registration-token"), nil, &registration)
	var registered struct {
		Runner struct{ UUID, Token string }
	}
	f.runner("Register", nil, map[string]any{"name": "runner", "token": registration.Token, "version": "v0.2.13", "labels": []string{"ubuntu-latest"}}, &registered)
	header := http.Header{"X-Runner-Uuid": {registered.Runner.UUID}, "X-Runner-Token": {registered.Runner.Token}}
	var job map[string]any
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		var fetched struct {
			Task *struct{ Context map[string]any }
		}
		f.runner("FetchTask", header, map[string]any{"tasksVersion": "0"}, &fetched)
		if fetched.Task == nil {
			return errors.New("Gitea has no job for a runner")
		}
		job = fetched.Task.Context
		return nil
	}))

	said := f.runJob(0, job)
	all := f.remarks(number)
	if len(all) != 1 || all[0].User.Login != "gitea-actions" || !strings.HasPrefix(all[0].Body, forge.Marker("fleet")) {
		t.Errorf("comments after\n%s\n%+v", said, all)
	}
	if got := f.statuses(head)[forge.Context("fleet", "")]; !strings.HasPrefix(got, "success: ") {
		t.Errorf("status after\n%s\n%q", said, got)
	}
	if said := f.runJob(0, job); strings.Count(said, "unchanged") != 2 {
		t.Errorf("the job runs again and writes:\n%s", said)
	}
}

// runner calls what Gitea has for runners.
func (f *forgeRig) runner(method string, header http.Header, in, out any) {
	f.t.Helper()
	data, err := json.Marshal(in)
	check(f.t, err)
	request, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.URL+"/api/actions/runner.v1.RunnerService/"+method, bytes.NewReader(data))
	check(f.t, err)
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	check(f.t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	check(f.t, err)
	if response.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %s: %s", method, response.Status, answer)
	}
	check(f.t, json.Unmarshal(answer, out))
}

// large writes a comment that is as long as it may be.
func (f *forgeRig) large(t *testing.T) {
	f.t = t
	f.push("large", "A large change")
	pull, number := f.pull("large")
	target, client := f.job(pull, f.bot)
	report := forge.Fit("# Review\n"+strings.Repeat("\n## Member\n\n😀 words\n", 10000), client.Limit(), target.Run)
	f.comment(client, number, report, forge.Created)
	f.comment(client, number, report, forge.Unchanged)
	if all := f.remarks(number); len(all) != 1 || all[0].Body != forge.Marker("./prod")+"\n"+report {
		t.Errorf("%d comments", len(all))
	}
}

func (f *forgeRig) twoJobs(t *testing.T) {
	f.t = t
	f.push("jobs", "Two jobs")
	pull, number := f.pull("jobs")
	var jobs sync.WaitGroup
	for i := range 4 {
		_, client := f.job(pull, f.bot)
		jobs.Go(func() {
			if _, err := client.Comment(t.Context(), number, forge.Marker("./prod"), fmt.Sprintf("job %d", i)); err != nil {
				t.Errorf("job %d: %v", i, err)
			}
		})
	}
	_, other := f.job(pull, f.bot)
	if _, err := other.Comment(t.Context(), number, forge.Marker("./test"), "another fleet of the repository"); err != nil {
		t.Error(err)
	}
	jobs.Wait()
	if all := f.remarks(number); len(all) != 2 {
		t.Errorf("%d comments of two fleets: %+v", len(all), all)
	}
}

func (f *forgeRig) deleted(t *testing.T) {
	f.t = t
	f.push("deleted", "A comment is deleted")
	pull, number := f.pull("deleted")
	_, client := f.job(pull, f.bot)
	f.comment(client, number, "first", forge.Created)
	f.must(http.MethodDelete, f.path(fmt.Sprintf("/issues/comments/%d", f.remarks(number)[0].ID)), nil, nil)
	f.comment(client, number, "second", forge.Created)
	if all := f.remarks(number); len(all) != 1 || !strings.HasSuffix(all[0].Body, "\nsecond") {
		t.Errorf("comments: %+v", all)
	}
}

// scopes takes one scope after another away: the error names the one that lacks.
func (f *forgeRig) scopes(t *testing.T) {
	f.t = t
	head := f.push("scopes", "Tokens")
	pull, number := f.pull("scopes")
	for i, without := range reviewScopes {
		var rest []string
		for j, scope := range reviewScopes {
			if j != i {
				rest = append(rest, scope)
			}
		}
		token := f.token(rest...)
		_, client := f.job(pull, token)
		_, commentErr := client.Comment(t.Context(), number, forge.Marker("./prod"), "x")
		_, statusErr := client.Status(t.Context(), head, forge.Status{Context: forge.Context("prod", ""), State: forge.Success})
		err := errors.Join(commentErr, statusErr)
		var refused *forge.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(err.Error(), without) || strings.Contains(err.Error(), token) {
			t.Errorf("without %s: %v", without, err)
		}
	}
	_, client := f.job(pull, "0123456789012345678901234567890123456789")
	if _, err := client.Comment(t.Context(), number, forge.Marker("./prod"), "x"); err == nil || !strings.Contains(err.Error(), "the token is not known") {
		t.Errorf("a token that is none: %v", err)
	}
}
