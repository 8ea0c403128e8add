package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

const devMember = "fleets/dev/networks/prod/members/member-1.yaml"

// newMonorepo is a repository with two fleets and other things.
func newMonorepo(t *testing.T) *checkout {
	t.Helper()
	c := newCheckout(t, forge.GitHub)
	if code, _, stderr := c.isthmus("init", "fleets/dev"); code != 0 {
		t.Fatal(stderr)
	}
	c.write("service/main.go", "package main\n")
	c.commit("A second fleet, and a service")
	return c
}

// rename changes a fleet, by another name of its member.
func (c *checkout) rename(member string) {
	c.t.Helper()
	c.replace(member, "metadata:\n  name: member-1", "metadata:\n  name: member-2")
}

// TestReviewOfAMonorepo: each fleet of a repository has its own status on every pull
// request, also on one that does not touch it, and a comment where it changes.
func TestReviewOfAMonorepo(t *testing.T) {
	typo := func(c *checkout) {
		c.replace("fleets/dev/networks/prod/network.yaml", "spec:\n", "spec:\n  speed: 9\n")
	}
	type outcome struct {
		code    int
		state   string
		comment string // what is in it; empty for none
	}
	nothing := outcome{0, "success", ""}
	changes := outcome{0, "success", "1 of 1 member changes"}
	for _, tt := range []struct {
		reason       string
		before       func(*checkout) // on main
		change       func(*checkout)
		prod, dev    outcome
		descriptions [2]string
	}{
		{
			"one fleet", nil, func(c *checkout) { c.rename(fleetMember) },
			changes, nothing, [2]string{"1 of 1 member changes", "no difference"},
		},
		{
			"both fleets", nil, func(c *checkout) { c.rename(fleetMember); c.rename(devMember) },
			changes, changes, [2]string{"1 of 1 member changes", "1 of 1 member changes"},
		},
		{
			"neither fleet", nil, func(c *checkout) { c.write("service/main.go", "package service\n") },
			nothing, nothing, [2]string{"no difference", "no difference"},
		},
		{
			"a fleet's file that says nothing", nil, func(c *checkout) { c.write("fleets/dev/README.md", "ours\n") },
			nothing, nothing, [2]string{"no difference", "no difference"},
		},
		{
			"one fleet is broken", nil, func(c *checkout) { typo(c); c.rename(fleetMember) },
			changes, outcome{1, "failure", "1 problem"}, [2]string{"1 of 1 member changes", "1 problem"},
		},
		{
			"a fleet that was broken before, and is not touched", typo, func(c *checkout) { c.rename(fleetMember) },
			changes, nothing, [2]string{"1 of 1 member changes", "no difference"},
		},
		{
			"a fleet that was broken before, and stays it", typo, func(c *checkout) { c.rename(devMember) },
			nothing, outcome{1, "failure", "1 problem"}, [2]string{"no difference", "1 problem"},
		},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			c := newMonorepo(t)
			if tt.before != nil {
				tt.before(c)
				c.commit("On main")
			}
			base := c.git("rev-parse", "HEAD")
			c.git("checkout", "-q", "-b", "change")
			tt.change(c)
			head := c.commit("A change")
			c.job(base, head, forgetest.PullRequest)
			comments := 0
			for i, want := range []outcome{tt.prod, tt.dev} {
				name := []string{"prod", "dev"}[i]
				_, stderr := c.review(want.code, "--path", "fleets/"+name)
				if got := c.lastStatus(); got.Context != "isthmus/"+name || got.Commit != head || got.State != want.state || !strings.HasPrefix(got.Description, tt.descriptions[i]) {
					t.Errorf("%s: status %+v", name, got)
				}
				all := c.forge.Comments()
				if want.comment == "" {
					c.expect(stderr, "comment on pull request 7: none")
				} else {
					comments++
					c.expect(all[len(all)-1].Body, "<!-- isthmus: fleets/"+name+"/"+name+" -->\n", want.comment)
				}
				if len(all) != comments {
					t.Errorf("%s: comments %+v", name, all)
				}
			}
			// The same from the root, as somebody else may write it: nothing is new.
			writes := len(c.forge.Writes())
			c.review(tt.prod.code, "--path", "/fleets/prod")
			c.review(tt.dev.code, "--path", "./fleets/dev/")
			if n := len(c.forge.Writes()) - writes; n != 0 {
				t.Errorf("%d writes for the same again: %q", n, c.forge.Writes())
			}
		})
	}
}

// TestReviewOfAChangeThatIsTakenBack: a comment that is there is edited to say that
// nothing changes any more.
func TestReviewOfAChangeThatIsTakenBack(t *testing.T) {
	c := newMonorepo(t)
	base := c.git("rev-parse", "HEAD")
	c.rename(fleetMember)
	c.job(base, c.commit("A change"), forgetest.PullRequest)
	c.review(0)
	c.git("revert", "--no-edit", "HEAD")
	c.job(base, c.git("rev-parse", "HEAD"), forgetest.PullRequest)
	_, stderr := c.review(0, "--html", "report.html")
	c.expect(stderr, "comment on pull request 7: updated")
	c.expect(c.comment(), "no difference")
}

// queueOf is a repository whose main has a network of five members, of which two
// changes take one away each: one goes without asking, two do not.
func queueOf(t *testing.T, kind forge.Kind) (c *checkout, main string) {
	t.Helper()
	c = newCheckout(t, kind)
	for _, name := range []string{"member-2", "member-3", "member-4", "member-5"} {
		c.add(name)
	}
	main = c.commit("Four more members")
	for _, name := range []string{"member-2", "member-3"} {
		c.git("checkout", "-q", "-b", "without-"+name, main)
		c.git("rm", "-q", filepath.Dir(fleetMember)+"/"+name+".yaml")
		c.commit("Remove " + name)
	}
	return c, main
}

// add adds a member to the fleet.
func (c *checkout) add(name string) {
	c.t.Helper()
	c.write(filepath.Dir(fleetMember)+"/"+name+".yaml", strings.ReplaceAll(c.read(fleetMember), "member-1", name))
}

// merged is main with branches merged into it one after another, as a queue does.
func (c *checkout) merged(onto string, branches ...string) string {
	c.t.Helper()
	c.git("checkout", "-q", "--detach", onto)
	for _, branch := range branches {
		c.git("merge", "-q", "--no-ff", "-m", "Merge "+branch, branch)
	}
	return c.git("rev-parse", "HEAD")
}

// fetched makes a commit that of main on the forge, as a checkout with the whole
// history has it.
func (c *checkout) fetched(commit string) { c.git("update-ref", "refs/remotes/origin/main", commit) }

// queue is the job of a merge queue or merge train.
type queue func(c *checkout, ahead, head string)

// githubQueue is a job of a merge group: its base is the group ahead.
func githubQueue(c *checkout, ahead, head string) {
	c.event(map[string]any{"action": "checks_requested", "merge_group": map[string]string{
		"base_sha": ahead, "base_ref": "refs/heads/main", "head_sha": head, "head_ref": "refs/heads/gh-readonly-queue/main/pr-7-" + ahead,
	}})
}

// gitlabTrain is a job of a merge train: its target is the merge request ahead.
func gitlabTrain(c *checkout, ahead, head string) {
	target := c.forge.Target()
	for name, value := range map[string]string{
		"GITLAB_CI": "true", "CI_API_V4_URL": target.API, "CI_PROJECT_PATH": target.Repository, "CI_JOB_URL": "https://forge.invalid/jobs/1",
		"GITLAB_TOKEN": string(forgetest.Bot.Token), "CI_MERGE_REQUEST_IID": "7", "CI_MERGE_REQUEST_PROJECT_PATH": target.Repository,
		"CI_MERGE_REQUEST_EVENT_TYPE": "merge_train", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": ahead,
		"CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": c.git("rev-parse", "without-member-3"), "CI_MERGE_REQUEST_DIFF_BASE_SHA": c.git("merge-base", "main", "without-member-3"),
		"CI_COMMIT_SHA": head,
	} {
		c.t.Setenv(name, value)
	}
}

// TestReviewOfAMergeQueue: what is looked at is what the target branch gets, the
// changes ahead included: two that are harmless alone and not together do not pass.
func TestReviewOfAMergeQueue(t *testing.T) {
	for _, tt := range []struct {
		kind  forge.Kind
		queue queue
		words [2]string // success and failure
	}{
		{forge.GitHub, githubQueue, [2]string{"success", "failure"}},
		{forge.GitLab, gitlabTrain, [2]string{"success", "failed"}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			c, main := queueOf(t, tt.kind)
			c.fetched(main)
			expect := func(reason string, code int, commit, says string) (stdout string) {
				t.Helper()
				stdout, stderr := c.review(code)
				if got := c.lastStatus(); got.Commit != commit || got.Context != "isthmus/prod" || got.State != tt.words[code] || !strings.HasPrefix(got.Description, says) {
					t.Errorf("%s: status %+v, want one of %s", reason, got, commit)
				}
				if n := len(c.forge.Comments()); n != 0 || strings.Contains(stderr, "comment") {
					t.Errorf("%s: %d comments\n%s", reason, n, stderr)
				}
				return stdout
			}

			first := c.merged("main", "without-member-2")
			tt.queue(c, main, first)
			stdout := expect("the first one alone", 0, first, "1 of 5 members changes")
			c.expect(stdout, "member-2")

			both := c.merged(first, "without-member-3")
			tt.queue(c, first, both)
			stdout = expect("the second one behind the first", 1, both, "2 of 5 members change")
			c.expect(stdout, "policy DeletionGuard", "member-2", "member-3")

			// The first one is merged: what is left is the second.
			c.fetched(first)
			expect("the second one, after the first", 0, both, "1 of 4 members changes")

			// The second one alone, behind something else that went to main meanwhile: that
			// is there, and nothing that the queue brings.
			c.git("checkout", "-q", "--detach", main)
			c.add("member-6")
			other := c.commit("A member that main got meanwhile")
			c.fetched(other)
			alone := c.merged(other, "without-member-3")
			tt.queue(c, other, alone)
			stdout = expect("the second one alone", 0, alone, "1 of 6 members changes")
			if strings.Contains(stdout, "joins network") {
				t.Errorf("the report speaks of others' changes:\n%s", stdout)
			}
		})
	}
}
