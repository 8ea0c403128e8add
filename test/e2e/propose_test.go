package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	proposedBranch = "isthmus/upgrade-prod-1.28"
	networkFile    = "networks/prod/network.yaml"
)

// TestPropose runs the real command against a real Gitea, as a scheduled job does: what
// it opens, keeps up to date, and leaves alone.
func TestPropose(t *testing.T) {
	f := newForgeRig(t)
	f.binary = build(t)
	f.must(http.MethodDelete, f.path("/branch_protections/main"), nil, nil) // people push to main here
	check(t, f.repository.Replace(networkFile, `version: "1.30.4"`, "version: '1.27.9' # since spring"))
	base := f.push("main", "An old release")

	f.propose(t, "1 created")
	first := f.branchAt(proposedBranch)
	pull := f.proposal(t, 1)
	if pull.State != "open" || pull.Title != "Upgrade prod to Istio 1.28.2 (from 1.27.9)" || pull.User.Login != reviewer || pull.Head.SHA != first || pull.Base.Ref != "main" {
		t.Errorf("pull request %+v", pull)
	}
	for _, want := range []string{"Istio 1.27 reached its end of life", "- `" + networkFile + "`, line 37: 1.27.9 → 1.28.2\n", "2 of 2 members change", "Istio 1.27.9 → 1.28.2"} {
		if !strings.Contains(pull.Body, want) {
			t.Errorf("no %q in:\n%s", want, pull.Body)
		}
	}
	changed := f.git("diff", "--unified=0", base, first)
	if _, lines, _ := strings.Cut(changed, " @@"); !strings.HasSuffix(lines, "\n-    version: '1.27.9' # since spring\n+    version: '1.28.2' # since spring") || strings.Count(changed, "@@") != 2 {
		t.Errorf("the commit changes\n%s", changed)
	}

	f.propose(t, "1 unchanged")
	if again := f.proposal(t, 1); string(again.Updated) != string(pull.Updated) || f.branchAt(proposedBranch) != first {
		t.Errorf("a second run writes: %+v", again)
	}

	check(t, f.repository.Write("notes.md", "x"))
	moved := f.push("main", "Go on")
	f.propose(t, "1 updated")
	second := f.branchAt(proposedBranch)
	if parent := f.git("rev-parse", second+"^"); parent != moved {
		t.Errorf("the branch is on %s, not on %s", parent, moved)
	}
	f.head(1, second)

	// A person closes it: it stays closed until it is asked for.
	f.must(http.MethodPatch, f.path("/pulls/1"), map[string]string{"state": "closed"}, nil)
	f.propose(t, "1 declined")
	f.propose(t, "2 created", "--again")
	f.propose(t, "2 unchanged")

	// A person works on the branch, and the base moves.
	f.git("checkout", "-q", second)
	check(t, f.repository.Write("pin.md", "x"))
	theirs := f.push("theirs", "A note")
	f.git("push", "-q", "origin", "HEAD:"+proposedBranch)
	f.git("checkout", "-q", "main")
	check(t, f.repository.Write("notes.md", "y"))
	f.push("main", "Go on")
	if said := f.propose(t, "2 left alone"); !strings.Contains(said, "has a commit of ") {
		t.Errorf("it does not say why:\n%s", said)
	}
	if at := f.branchAt(proposedBranch); at != theirs {
		t.Errorf("the branch is at %s, and a person's commit was %s", at, theirs)
	}

	// Back to ours, and done by hand: it is closed, and its branch is gone.
	f.git("push", "-q", "-f", "origin", second+":"+proposedBranch)
	f.head(2, second)
	check(t, f.repository.Replace(networkFile, "'1.27.9'", "'1.31'"))
	f.push("main", "Upgrade by hand")
	f.propose(t, "pull request 2 is closed: nothing of it is left to propose")
	if pull := f.proposal(t, 2); pull.State != "closed" || f.branchAt(proposedBranch) != "" {
		t.Errorf("pull request %+v", pull)
	}
	if all := f.remarks(2); len(all) != 1 || all[0].User.Login != reviewer {
		t.Errorf("comments %+v", all)
	}
}

// propose runs the command with the variables of a scheduled job of Gitea Actions, and
// says what it prints.
func (f *forgeRig) propose(t *testing.T, want string, args ...string) string {
	t.Helper()
	event := filepath.Join(t.TempDir(), "event.json")
	check(t, os.WriteFile(event, []byte(`{"schedule": "17 6 * * 1"}`), 0o600))
	cmd := exec.CommandContext(t.Context(), f.binary, append([]string{"upgrade", "propose"}, args...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GITEA_ACTIONS=true", "GITHUB_ACTIONS=true", "GITHUB_API_URL="+f.URL+"/api/v1", "GITHUB_SERVER_URL="+f.URL,
		"GITHUB_REPOSITORY="+f.Admin+"/fleet", "GITHUB_EVENT_PATH="+event, "ISTHMUS_FORGE_TOKEN="+f.bot)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Fatalf("isthmus upgrade propose: %v, want %q:\n%s", err, want, out)
	}
	if strings.Contains(string(out), f.bot) {
		t.Error("isthmus upgrade propose prints the token")
	}
	return string(out)
}

// proposal is a pull request as Gitea gives it back.
func (f *forgeRig) proposal(t *testing.T, number int) (pull struct {
	State, Title, Body string
	User               struct{ Login string }
	Head, Base         struct{ Ref, SHA string }
	Updated            json.RawMessage `json:"updated_at"`
}) {
	t.Helper()
	f.must(http.MethodGet, f.path(fmt.Sprintf("/pulls/%d", number)), nil, &pull)
	return pull
}

// branchAt is the commit at the head of a branch on the forge; empty without one.
func (f *forgeRig) branchAt(branch string) string {
	f.t.Helper()
	f.git("fetch", "-q", "--prune", "origin")
	return f.git("for-each-ref", "--format=%(objectname)", "refs/remotes/origin/"+branch)
}
