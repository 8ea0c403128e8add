package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

// proposer is a checkout whose main branch is on a forge, with Git beside its API.
type proposer struct {
	*checkout
	bare, remote string
}

const upgradeBranch = "isthmus/fleets/prod/upgrade-prod-1.28"

// newProposer pushes the starter fleet with a release that has ended.
func newProposer(t *testing.T, kind forge.Kind) *proposer {
	t.Helper()
	p := &proposer{checkout: newCheckout(t, kind), bare: filepath.Join(t.TempDir(), "fleet.git")}
	p.replace(fleetNetwork, `version: "1.30"`, "version: 1.27.9   # what runs, see 1.27.9")
	p.git("init", "-q", "--bare", "-b", "main", p.bare)
	p.git("-C", p.bare, "config", "http.receivepack", "true")
	p.git("remote", "add", "origin", p.bare)
	p.push("An old release")
	backend := &cgi.Handler{
		Path: filepath.Join(p.git("--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + filepath.Dir(p.bare), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
		// What it says of refusals that are tested.
		Stderr: io.Discard,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != string(forgetest.Bot.Token) {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.String(), string(forgetest.Bot.Token)) {
			t.Errorf("the token is in a URL: %s", r.URL)
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.remote = server.URL + "/fleet.git"
	ca := append(p.forge.CA(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})...)
	p.write("ca.pem", string(ca))
	t.Setenv("MY_TOKEN", string(forgetest.Bot.Token))
	return p
}

// push commits what is there to main.
func (p *proposer) push(message string) string {
	p.t.Helper()
	hash := p.commit(message)
	p.git("push", "-q", "origin", "HEAD:main")
	return hash
}

// at is where a branch on the forge leads; empty for none.
func (p *proposer) at(branch string) string {
	p.t.Helper()
	return p.git("-C", p.bare, "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// propose runs the command by flags, and says what it must end with.
func (p *proposer) propose(want int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	target := p.forge.Target()
	all := append([]string{"upgrade", "propose", "--path", "fleets/prod", "--ca-file", filepath.Join(p.dir, "ca.pem"), "--forge", string(p.forge.Kind), "--api-url", target.API,
		"--repository", target.Repository, "--token-variable", "MY_TOKEN", "--remote", p.remote}, args...)
	code, stdout, stderr := p.isthmus(all...)
	if code != want {
		p.t.Fatalf("upgrade propose ends with %d, want %d:\n%s%s", code, want, stdout, stderr)
	}
	return stdout, stderr
}

// TestProposeUpgrade follows a proposal on each kind of forge: opened, left as it is,
// brought onto a base that moved, merged, and the next one.
func TestProposeUpgrade(t *testing.T) {
	for _, kind := range forge.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			p := newProposer(t, kind)
			base := p.at("main")
			p.write("fleets/prod/networks/prod/network.yaml", "not what is on main") // nor committed
			stdout, stderr := p.propose(0)
			p.expect(stdout, "networks/prod/network.yaml:12  1.27.9  1.28.2  Istio 1.27 reached its end of life on 2026-04-07  7 created")
			p.expect(stderr, "reading fleets/prod of branch main at "+base[:8])
			p.git("checkout", "-q", "--", "fleets")

			first := p.at(upgradeBranch)
			if got := p.git("-C", p.bare, "diff", "main", upgradeBranch); !strings.HasSuffix(got, "-    version: 1.27.9   # what runs, see 1.27.9\n+    version: 1.28.2   # what runs, see 1.27.9") || strings.Count(got, "\n+") != 2 {
				t.Errorf("the commit changes:\n%s", got)
			}
			if got := p.git("-C", p.bare, "log", "-1", "--format=%P %an <%ae> %s", upgradeBranch); got != base+" isthmus <noreply@isthmus.dev> Upgrade prod to Istio 1.28.2 (from 1.27.9)" {
				t.Errorf("the commit is %s", got)
			}
			pulls := p.forge.Pulls()
			if len(pulls) != 1 || pulls[0].Branch != upgradeBranch || pulls[0].Base != "main" || pulls[0].Title != "Upgrade prod to Istio 1.28.2 (from 1.27.9)" {
				t.Fatalf("pull requests: %+v", pulls)
			}
			p.expect(pulls[0].Body, "<!-- isthmus: upgrade%20/fleets/prod/prod", "\nIstio 1.27 reached its end of life on 2026-04-07.\n", "one minor at a time",
				"- `networks/prod/network.yaml`, line 12: 1.27.9 → 1.28.2\n", "announcing-1.28.2/", "from `main` at "+base[:8])
			report := pulls[0].Body
			if kind == forge.AzureDevOps { // where descriptions are short
				report = p.comment()
				p.expect(pulls[0].Body, "in a comment below")
			}
			p.expect(report, "1 of 1 member changes", "Istio 1.27.9 → 1.28.2")

			writes := len(p.forge.Writes())
			stdout, _ = p.propose(0)
			p.expect(stdout, "7 unchanged")
			if n := len(p.forge.Writes()) - writes; n != 0 || p.at(upgradeBranch) != first {
				t.Errorf("a second run writes %q, and the branch is at %s", p.forge.Writes()[writes:], p.at(upgradeBranch))
			}

			p.write("README.md", "more")
			moved := p.push("Go on")
			stdout, _ = p.propose(0, "--dry-run")
			p.expect(stdout, "7 would be updated", "\nUpgrade prod to Istio 1.28.2 (from 1.27.9)\n", "1 of 1 member changes")
			if p.at(upgradeBranch) != first || len(p.forge.Writes()) != writes {
				t.Error("a dry run writes")
			}
			stdout, _ = p.propose(0)
			p.expect(stdout, "7 updated")
			if got := p.git("-C", p.bare, "rev-parse", upgradeBranch+"^"); got != moved {
				t.Errorf("the branch is on %s, not on %s", got, moved)
			}

			// It is merged: the next step is another pull request, and this one is done.
			p.git("-C", p.bare, "branch", "-f", "main", upgradeBranch)
			p.forge.Change(7, func(pull *forgetest.Pull) { pull.State = forge.PullMerged })
			stdout, _ = p.propose(0)
			p.expect(stdout, "1.28.2  1.29.1", "8 created")
			if pulls := p.forge.Pulls(); len(pulls) != 2 || pulls[1].Branch != "isthmus/fleets/prod/upgrade-prod-1.29" {
				t.Errorf("pull requests: %+v", pulls)
			}
		})
	}
}

// TestProposeDeclined: what a person closed stays closed for that version.
func TestProposeDeclined(t *testing.T) {
	p := newProposer(t, forge.GitHub)
	p.propose(0)
	p.forge.Change(7, func(pull *forgetest.Pull) { pull.State = forge.PullClosed })
	stdout, stderr := p.propose(0)
	p.expect(stdout, "7 declined")
	p.expect(stderr, "pull request 7 of this version was closed: --again proposes it once more")
	if n := len(p.forge.Pulls()); n != 1 {
		t.Errorf("%d pull requests", n)
	}
	stdout, _ = p.propose(0, "--again")
	p.expect(stdout, "8 created")
	stdout, _ = p.propose(0)
	p.expect(stdout, "8 unchanged")
}

// TestProposeLeavesPeopleAlone: neither a commit on the branch nor a pull request of
// others is touched.
func TestProposeLeavesPeopleAlone(t *testing.T) {
	p := newProposer(t, forge.Gitea)
	p.propose(0)
	p.git("fetch", "-q", "origin", upgradeBranch)
	p.git("checkout", "-q", "FETCH_HEAD")
	p.write("fleets/prod/notes.md", "x")
	theirs := p.commit("Notes")
	p.git("push", "-q", "origin", "HEAD:"+upgradeBranch)
	p.git("checkout", "-q", "main")
	p.write("README.md", "more")
	p.push("Go on")
	writes := len(p.forge.Writes())
	stdout, stderr := p.propose(0)
	p.expect(stdout, "7 left alone")
	p.expect(stderr, "has a commit of a: delete the branch to have it made anew")
	if p.at(upgradeBranch) != theirs || len(p.forge.Writes()) != writes {
		t.Errorf("the branch is at %s, and written is %q", p.at(upgradeBranch), p.forge.Writes()[writes:])
	}
	// Also when it is obsolete: main has it by another way.
	p.replace(fleetNetwork, "version: 1.27.9", `version: "1.31"`)
	p.push("Upgrade by hand")
	_, stderr = p.propose(0)
	p.expect(stderr, "nothing to propose", "pull request 7: nothing of it is left to propose", "close it by hand")
	if p.at(upgradeBranch) != theirs || len(p.forge.Writes()) != writes {
		t.Errorf("the branch is at %s, and written is %q", p.at(upgradeBranch), p.forge.Writes()[writes:])
	}
}

// TestProposeWithdraws: a proposal of which nothing is left is closed with a comment,
// and made again where it comes back.
func TestProposeWithdraws(t *testing.T) {
	for _, kind := range forge.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			p := newProposer(t, kind)
			p.propose(0)
			p.replace(fleetNetwork, "version: 1.27.9", `version: "1.31"`)
			p.push("Upgrade by hand")
			_, stderr := p.propose(0, "--dry-run")
			p.expect(stderr, "pull request 7 would be closed")
			if _, stderr = p.propose(0, "--network", "prod"); strings.Contains(stderr, "closed") {
				t.Errorf("with --network: %s", stderr)
			}
			_, stderr = p.propose(0)
			p.expect(stderr, "nothing to propose", "pull request 7 is closed: nothing of it is left")
			pull := p.forge.Pulls()[0]
			comments := p.forge.Comments()
			if pull.State != forge.PullClosed || p.at(upgradeBranch) != "" || !strings.Contains(comments[len(comments)-1].Body, "Nothing of this is left to propose for `main`") {
				t.Errorf("pull request %+v, comments %+v, branch %q", pull, comments, p.at(upgradeBranch))
			}
			p.git("revert", "--no-edit", "HEAD")
			p.push("Take it back")
			stdout, _ := p.propose(0)
			p.expect(stdout, "8 created")
		})
	}
}

// TestProposeHeld: an edit that would bring an error is not proposed, and the reason is
// said.
func TestProposeHeld(t *testing.T) {
	p := newProposer(t, forge.GitHub)
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	pinned := "spec:\n  components: {images: {digests: [{release: 1.27.9, pilot: D, proxy: D, cni: D, ztunnel: D}]}}\n"
	p.replace(fleetNetwork, "spec:\n", strings.NewReplacer("D,", "\""+digest+"\",", "D}", "\""+digest+"\"}").Replace(pinned))
	p.push("Pin the images")
	stdout, stderr := p.propose(0)
	p.expect(stdout, "1.28.2", "held")
	p.expect(stderr, `networks/prod/network.yaml:13 to 1.28.2 is held: networks/prod/network.yaml:8: spec.components.images.digests: no digests of release "1.28.2", which member`)
	if len(p.forge.Pulls()) != 0 || p.at(upgradeBranch) != "" {
		t.Errorf("pull requests %+v", p.forge.Pulls())
	}
	p.replace(fleetNetwork, "version: 1.27.9", "version: &v 1.27.9")
	p.replace(fleetNetwork, "name: prod", "name: prod\n  labels: {istio: *v}")
	_, stderr = p.propose(0, "--base", "main")
	p.expect(stderr, "is held")
}

// TestProposeInJobs: what a scheduled job of each CI system tells is enough.
func TestProposeInJobs(t *testing.T) {
	p := newProposer(t, forge.GitHub)
	event := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(event, []byte(`{"schedule": "0 6 * * 1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	target := p.forge.Target()
	for name, value := range map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_API_URL": target.API, "GITHUB_SERVER_URL": "https://forge.invalid", "GITHUB_REPOSITORY": target.Repository,
		"GITHUB_SHA": strings.Repeat("1", 40), "GITHUB_EVENT_PATH": event, "GITHUB_TOKEN": string(forgetest.Bot.Token),
	} {
		t.Setenv(name, value)
	}
	t.Chdir(filepath.Join(p.dir, "fleets"))
	code, stdout, stderr := p.isthmus("upgrade", "propose", "--path", "prod", "--remote", p.remote, "--ca-file", filepath.Join(p.dir, "ca.pem"), "-o", "json")
	if code != 0 {
		t.Fatal(stderr)
	}
	var list struct {
		APIVersion, Kind string
		Items            []struct {
			Network, From, To, Risk, Branch, Outcome string
			PullRequest                              int
			Documents                                []struct{ File string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &list); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", list); got != "{APIVersion:isthmus.dev/v1alpha1 Kind:UpgradeProposalList Items:[{Network:prod From:1.27.9 To:1.28.2 Risk:Medium Branch:"+upgradeBranch+
		" Outcome:Created PullRequest:7 Documents:[{File:networks/prod/network.yaml}]}]}" {
		t.Errorf("list %s", got)
	}
}

// TestProposeHere: without a forge the folder is looked at, and nothing is written.
func TestProposeHere(t *testing.T) {
	p := newProposer(t, forge.GitHub)
	p.replace(fleetNetwork, "1.27.9   #", "1.29.1   #")
	code, stdout, stderr := p.isthmus("upgrade", "propose", "--path", "fleets/prod")
	if code != 0 {
		t.Fatal(stderr)
	}
	p.expect(stdout, "WHERE", "networks/prod/network.yaml:12  1.29.1  1.30.4  Istio 1.29 reached its end of life in 2026-08\n")
	p.expect(stderr, "nothing is opened: no forge was found")
	t.Chdir(filepath.Join(p.dir, "fleets", "prod", "networks"))
	code, stdout, stderr = p.isthmus("upgrade", "propose", "--path", "/fleets/prod", "--dry-run")
	if code != 0 {
		t.Fatal(stderr)
	}
	p.expect(stdout, "Upgrade prod to Istio 1.30.4 (from 1.29.1)\n", "1 of 1 member changes", "Made by `isthmus upgrade propose`,")
	code, stdout, _ = p.isthmus("upgrade", "propose", "--path", "/fleets/prod", "-o", "json")
	if code != 0 || !strings.Contains(stdout, `"kind": "UpgradeProposalList"`) || strings.Contains(stdout, `"body"`) {
		t.Errorf("%d: %s", code, stdout)
	}
	// A job without a token can still be tried.
	t.Setenv("GITHUB_ACTIONS", "true")
	if code, stdout, _ := p.isthmus("upgrade", "propose", "--path", "/fleets/prod", "--dry-run"); code != 0 || !strings.Contains(stdout, "1.30.4") {
		t.Errorf("a dry run without a token: %d, %s", code, stdout)
	}
	if n := len(p.forge.Calls()); n != 0 {
		t.Errorf("the forge was asked: %q", p.forge.Calls())
	}
}

// TestProposeCannot: what a new user gets wrong says what to do.
func TestProposeCannot(t *testing.T) {
	p := newProposer(t, forge.GitHub)
	for _, tt := range []struct {
		reason string
		args   []string
		want   []string
	}{
		{"no token", []string{"--token-variable", "NO_TOKEN"}, []string{"no token for GitHub: set NO_TOKEN"}},
		{"no name in the author", []string{"--author", "bot@example.com"}, []string{"is not a name and an address", "hint: write --author"}},
		{"another folder", []string{"--path", "/fleets/edge"}, []string{`no folder "fleets/edge"`, "hint: is --path right?"}},
		{"another base", []string{"--base", "release"}, []string{`no branch "release"`, "hint: is --base right?"}},
		{"another network", []string{"--network", "edge"}, []string{`no network "edge"`, "is --network right?"}},
		{"a remote with a user", []string{"--remote", "https://me:pw@forge.invalid/x.git"}, []string{"without a user in it"}},
		{"a remote that is not there", []string{"--remote", strings.Replace(p.remote, "fleet", "gone", 1)}, []string{"no repository at", "needs the permission contents: write"}},
		{"another form", []string{"-o", "yaml"}, []string{"unknown output format"}},
		{"an argument", []string{"prod"}, []string{"usage: isthmus upgrade propose"}},
	} {
		_, stderr := p.propose(2, tt.args...)
		for _, want := range tt.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: no %q in:\n%s", tt.reason, want, stderr)
			}
		}
	}
	// A token that may read and not push.
	p.git("-C", p.bare, "config", "http.receivepack", "false")
	_, stderr := p.propose(2)
	p.expect(stderr, "the token may not do this", "needs the permission contents: write")
	p.git("-C", p.bare, "config", "http.receivepack", "true")
	// One that may push and not open pull requests: what is pushed is used by the next run.
	p.forge.ReadOnly = true
	_, stderr = p.propose(2)
	p.expect(stderr, "allow GitHub Actions to create pull requests")
	p.forge.ReadOnly = false
	stdout, _ := p.propose(0)
	p.expect(stdout, "7 created")

	p.replace(fleetNetwork, "spec:\n", "spec:\n  speed: 9\n")
	p.push("A typo")
	_, stderr = p.propose(1)
	p.expect(stderr, "spec.speed", "has 1 problem: nothing proposed")
}
