package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

// checkout is the clone that a CI job works in, and the forge that started it.
type checkout struct {
	t     *testing.T
	dir   string
	forge *forgetest.Server
}

// newCheckout commits the starter fleet to main.
func newCheckout(t *testing.T, kind forge.Kind) *checkout {
	t.Helper()
	c := &checkout{t: t, dir: t.TempDir(), forge: forgetest.Start(t, kind)}
	t.Chdir(c.dir)
	for _, name := range []string{"ISTHMUS_FORGE_TOKEN", "GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS", "GITLAB_CI", "TF_BUILD", "GITHUB_TOKEN", "GH_TOKEN"} {
		t.Setenv(name, "")
	}
	c.git("init", "-q", "-b", "main")
	if code, _, stderr := c.isthmus("init", "fleets/prod"); code != 0 {
		t.Fatal(stderr)
	}
	c.write("ca.pem", string(c.forge.CA()))
	c.commit("A fleet")
	return c
}

func (c *checkout) git(args ...string) string {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *checkout) write(name, content string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *checkout) commit(message string) string {
	c.t.Helper()
	c.git("add", "-A")
	c.git("commit", "-q", "--allow-empty", "-m", message)
	return c.git("rev-parse", "HEAD")
}

const (
	fleetNetwork = "fleets/prod/networks/prod/network.yaml"
	fleetMember  = "fleets/prod/networks/prod/members/member-1.yaml"
)

func (c *checkout) read(name string) string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

// replace changes a file of the fleet.
func (c *checkout) replace(name, old, replacement string) {
	c.t.Helper()
	text := c.read(name)
	if !strings.Contains(text, old) {
		c.t.Fatalf("%s does not contain %q:\n%s", name, old, text)
	}
	c.write(name, strings.Replace(text, old, replacement, 1))
}

// job sets what a job of GitHub Actions or Gitea Actions sees of a pull request.
func (c *checkout) job(base, head string, pullRequest int) {
	c.t.Helper()
	c.event(map[string]any{"pull_request": map[string]any{
		"number": pullRequest, "base": map[string]string{"sha": base}, "head": map[string]string{"sha": head},
	}})
}

// event sets what a job of GitHub Actions or Gitea Actions sees.
func (c *checkout) event(event map[string]any) {
	c.t.Helper()
	target := c.forge.Target()
	data, err := json.Marshal(event)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.t.TempDir(), "event.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_API_URL": target.API, "GITHUB_SERVER_URL": "https://forge.invalid", "GITHUB_RUN_ID": "42",
		"GITHUB_REPOSITORY": target.Repository, "GITHUB_EVENT_PATH": file, "GITHUB_TOKEN": string(forgetest.Bot.Token),
	} {
		c.t.Setenv(name, value)
	}
	if c.forge.Kind == forge.Gitea {
		c.t.Setenv("GITEA_ACTIONS", "true")
	}
}

// isthmus runs a command; no token may be in what it says.
func (c *checkout) isthmus(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	var out, err bytes.Buffer
	code = Main(c.t.Context(), args, &out, &err)
	if strings.Contains(out.String()+err.String(), string(forgetest.Bot.Token)) {
		c.t.Errorf("isthmus %s prints the token:\n%s%s", strings.Join(args, " "), out.String(), err.String())
	}
	return code, out.String(), err.String()
}

// review runs the command as a workflow does, and says what it must end with.
func (c *checkout) review(want int, args ...string) (stdout, stderr string) {
	c.t.Helper()
	code, stdout, stderr := c.isthmus(append([]string{"review", "--path", "fleets/prod", "--ca-file", filepath.Join(c.dir, "ca.pem")}, args...)...)
	if code != want {
		c.t.Fatalf("review ends with %d, want %d:\n%s%s", code, want, stdout, stderr)
	}
	return stdout, stderr
}

// comment is the only one on the pull request.
func (c *checkout) comment() string {
	c.t.Helper()
	all := c.forge.Comments()
	if len(all) != 1 || all[0].Author != forgetest.Bot {
		c.t.Fatalf("comments: %+v", all)
	}
	return all[0].Body
}

func (c *checkout) lastStatus() forgetest.Status {
	c.t.Helper()
	all := c.forge.Statuses()
	if len(all) == 0 {
		c.t.Fatal("no status")
	}
	return all[len(all)-1]
}

func (c *checkout) expect(text string, wants ...string) {
	c.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			c.t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// TestReview follows a pull request from its opening over a broken push and one that
// a policy stops to one that may be merged: always one comment and one status.
func TestReview(t *testing.T) {
	for _, kind := range []forge.Kind{forge.GitHub, forge.Gitea} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCheckout(t, kind)
			c.git("checkout", "-q", "-b", "change")
			c.replace(fleetMember, "metadata:\n  name: member-1", "metadata:\n  name: member-2")
			first := c.commit("Rename a member")
			// main goes on meanwhile: what it does is not the pull request's.
			c.git("checkout", "-q", "main")
			c.write("README.md", "more")
			base := c.commit("Go on")
			c.git("checkout", "-q", "change")
			c.job(base, first, forgetest.PullRequest)
			stdout, stderr := c.review(0, "--html", "report.html")
			c.expect(stdout, "1 of 1 member changes", "member-1", "member-2")
			c.expect(stderr, "isthmus: comment on pull request 7: created", "isthmus: status isthmus/prod is success: created")
			c.expect(c.comment(), "<!-- isthmus: fleets/prod/prod -->\n### ", "member-2", "fleet `fleets/prod`", first[:8], "[whole report](https://forge.invalid/acme/fleet/actions")
			if strings.Contains(c.comment(), "README") {
				t.Errorf("the comment speaks of what main did:\n%s", c.comment())
			}
			if got := c.lastStatus(); got.Commit != first || got.Context != "isthmus/prod" || got.State != "success" || !strings.HasPrefix(got.Description, "1 of 1 member changes") {
				t.Errorf("status %+v", got)
			}
			if page, err := os.ReadFile("report.html"); err != nil || !bytes.HasPrefix(page, []byte("<!doctype html>")) {
				t.Errorf("report.html: %v", err)
			}
			writes := len(c.forge.Writes())
			if _, stderr := c.review(0); !strings.Contains(stderr, "comment on pull request 7: unchanged") || len(c.forge.Writes()) != writes {
				t.Errorf("a second job on the same commit writes: %s", stderr)
			}

			c.replace(fleetNetwork, "spec:\n", "spec:\n  speed: 9 # ``````\n")
			second := c.commit("A typo")
			c.job(base, second, forgetest.PullRequest)
			_, stderr = c.review(1)
			c.expect(stderr, "spec.speed", "comment on pull request 7: updated")
			c.expect(c.comment(), "isthmus: 1 problem\n", "not valid after this change", "````text\nnetworks/prod/network.yaml:", "spec.speed")
			if got := c.lastStatus(); got.Commit != second || got.State != "failure" || got.Description != "1 problem" {
				t.Errorf("status %+v", got)
			}

			c.git("revert", "--no-edit", "HEAD")
			c.replace(fleetNetwork, "spec:\n", "spec:\n  review:\n    policies:\n    - {name: never, rule: 'false', message: not today}\n")
			third := c.commit("A policy that always stops")
			c.job(base, third, forgetest.PullRequest)
			stdout, _ = c.review(1)
			c.expect(stdout, "policy never: not today")
			c.expect(c.comment(), "policy never", "not today")
			if got := c.lastStatus(); got.Commit != third || got.State != "failure" || !strings.HasSuffix(got.Description, ": a policy is violated") {
				t.Errorf("status %+v", got)
			}

			c.git("revert", "--no-edit", "HEAD")
			c.job(base, c.git("rev-parse", "HEAD"), forgetest.PullRequest)
			_, stderr = c.review(0)
			c.expect(stderr, "comment on pull request 7: updated", "status isthmus/prod is success")
		})
	}
}

// TestReviewWithFlags: forges whose CI is not here, told by flags alone.
func TestReviewWithFlags(t *testing.T) {
	for _, kind := range []forge.Kind{forge.GitLab, forge.AzureDevOps} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCheckout(t, kind)
			c.git("checkout", "-q", "-b", "change")
			c.replace(fleetMember, "metadata:\n  name: member-1", "metadata:\n  name: member-2")
			c.commit("Rename a member")
			target := c.forge.Target()
			t.Setenv("MY_TOKEN", string(forgetest.Bot.Token))
			c.forge.Heads = []string{c.git("rev-parse", "HEAD")}
			_, stderr := c.review(0, "--base", "main", "--head", "HEAD", "--forge", string(kind), "--api-url", target.API, "--repository", target.Repository,
				"--pull-request", "7", "--token-variable", "MY_TOKEN", "--name", "edge", "--link", "https://reports.invalid/7")
			c.expect(stderr, "comment on pull request 7: created", "status isthmus/edge is success: created")
			c.expect(c.comment(), "`HEAD`", "[whole report](https://reports.invalid/7)")
			if got := c.lastStatus(); got.Commit != c.git("rev-parse", "change") || got.Context != "isthmus/edge" {
				t.Errorf("status %+v", got)
			}
		})
	}
}

// TestReviewOfARepair: what mends a fleet that is not valid can be merged.
func TestReviewOfARepair(t *testing.T) {
	c := newCheckout(t, forge.GitHub)
	c.replace(fleetNetwork, "spec:\n", "spec:\n  speed: 9\n")
	base := c.commit("A typo on main")
	c.replace(fleetNetwork, "  speed: 9\n", "")
	c.job(base, c.commit("Mend it"), forgetest.PullRequest)
	c.review(0)
	c.expect(c.comment(), "valid again", "spec.speed")
	if got := c.lastStatus(); got.State != "success" || got.Description != "valid again" {
		t.Errorf("status %+v", got)
	}
}

// TestReviewOfAFleetThatGoes: a folder that is gone is no fleet without members.
func TestReviewOfAFleetThatGoes(t *testing.T) {
	c := newCheckout(t, forge.GitHub)
	base := c.git("rev-parse", "HEAD")
	c.git("mv", "fleets", "elsewhere")
	c.job(base, c.commit("Move it"), forgetest.PullRequest)
	c.review(1)
	c.expect(c.comment(), "fleets/prod", "is --path right?")
}

// TestReviewCannot: what keeps a review from being made, and that the status says it.
func TestReviewCannot(t *testing.T) {
	c := newCheckout(t, forge.GitHub)
	base := c.git("rev-parse", "HEAD")
	head := c.commit("Nothing")

	_, stderr := c.review(2)
	c.expect(stderr, "no CI system was found", "hint: ")

	c.job(base, head, forgetest.PullRequest)
	t.Setenv("GITHUB_TOKEN", "")
	_, stderr = c.review(2)
	c.expect(stderr, "ISTHMUS_FORGE_TOKEN or GITHUB_TOKEN")
	stdout, _ := c.review(0, "--dry-run", "--base", base, "--head", head)
	c.expect(stdout, "### ", "no difference")
	if n := len(c.forge.Calls()); n != 0 {
		t.Fatalf("requests without a token: %q", c.forge.Calls())
	}

	// A shallow clone lacks the commit that the pull request began from.
	c.job(strings.Repeat("7", 40), head, forgetest.PullRequest)
	_, stderr = c.review(2)
	c.expect(stderr, "777", "status isthmus/prod is error")
	if got := c.lastStatus(); got.State != "error" || got.Commit != head {
		t.Errorf("status %+v", got)
	}

	// A job of a fork's pull request may not write.
	c.replace(fleetMember, "metadata:\n  name: member-1", "metadata:\n  name: member-2")
	c.job(base, c.commit("Something"), forgetest.PullRequest)
	c.forge.ReadOnly = true
	_, stderr = c.review(2)
	c.expect(stderr, "403", "pull-requests: write", "the status does not say so")
	if lines := strings.Count(stderr, "\n"); lines > 3 {
		t.Errorf("%d lines of errors:\n%s", lines, stderr)
	}

	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--ca-file", "nowhere"}, "read the forge's CA"},
		{[]string{"--forge", "SourceHut"}, "there are GitHub"},
		{[]string{"--api-url", "http://forge.invalid"}, "use https"},
		{[]string{"extra"}, "usage: isthmus review"},
	} {
		_, stderr := c.review(2, tt.args...)
		c.expect(stderr, tt.want)
	}
}

// TestReviewOfALargeChange: the comment fits, and says where the rest is.
func TestReviewOfALargeChange(t *testing.T) {
	c := newCheckout(t, forge.GitHub)
	base := c.git("rev-parse", "HEAD")
	member, err := os.ReadFile(filepath.Join(c.dir, fleetMember))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		name := fmt.Sprintf("member-%d", i+2)
		c.write(filepath.Join(filepath.Dir(fleetMember), name+".yaml"), strings.ReplaceAll(string(member), "member-1", name))
	}
	c.replace(fleetNetwork, "spec:\n", "spec:\n  speed: 1\n")
	for i := range 3000 {
		c.write(fmt.Sprintf("fleets/prod/broken/%04d.yaml", i), "apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: 'not a name'}\n")
	}
	c.job(base, c.commit("Sixty members and three thousand mistakes"), forgetest.PullRequest)
	c.review(1)
	if body := c.comment(); len(body) > 65536 || !strings.Contains(body, "longer than a comment may be") || strings.Count(body, "````")%2 != 0 {
		t.Errorf("a comment of %d bytes:\n…%s", len(body), body[max(0, len(body)-500):])
	}
}

// TestWorkflows: the files of CI systems are YAML, and call commands that exist by
// flags that exist. Each system has all of them.
func TestWorkflows(t *testing.T) {
	call := regexp.MustCompile(`isthmus"? (review|validate|render|upgrade propose)\b(.*)`)
	for _, ci := range ciSystems {
		files, err := starter(ci)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := starter(noCI)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for name, data := range files {
			if _, ok := plain[name]; ok {
				continue
			}
			var parsed map[string]any
			if err := yaml.Unmarshal(data, &parsed); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, match := range call.FindAllStringSubmatch(string(data), -1) {
				seen[match[1]] = true
				cmd, _, err := newRoot(newPrinter(io.Discard, io.Discard)).Find(strings.Fields(match[1]))
				if err != nil {
					t.Fatal(err)
				}
				for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(match[2], -1) {
					if cmd.Flags().Lookup(flag[1]) == nil {
						t.Errorf("%s: isthmus %s has no flag --%s", name, match[1], flag[1])
					}
				}
			}
		}
		if len(seen) != 4 {
			t.Errorf("%s calls %v", ci, seen)
		}
	}
}
