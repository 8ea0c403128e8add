package forge_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

var upgrade = forge.Pull{Branch: "isthmus/upgrade-prod-1.31", Base: "main", Title: "Upgrade prod to Istio 1.31.0 (from 1.30.4)", Body: "<!-- isthmus: upgrade -->\nIt ends.\n"}

func mustOpen(t *testing.T, c *forge.Client, p forge.Pull, want forge.Outcome) forge.Pull {
	t.Helper()
	got, outcome, err := c.Open(t.Context(), p)
	if err != nil || outcome != want || got.State != forge.PullOpen || got.Number == 0 {
		t.Fatalf("open: %+v, %q, %v; want %s", got, outcome, err, want)
	}
	return got
}

// opened is number, state, branch and body of each pull request.
func opened(s *forgetest.Server) []string {
	var out []string
	for _, p := range s.Pulls() {
		out = append(out, fmt.Sprintf("%d %s %s %s: %s", p.Number, p.State, p.Branch, p.Title, p.Body))
	}
	return out
}

// TestOpen: one pull request of a branch, edited in place, closed, and opened anew.
func TestOpen(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		s.Propose(forgetest.Pull{Pull: forge.Pull{Branch: "other", Base: "main", Title: "Other", Body: "theirs"}})
		s.Propose(forgetest.Pull{Pull: upgrade, Fork: true})
		s.Propose(forgetest.Pull{Pull: forge.Pull{Branch: upgrade.Branch, Base: "release", Title: "Elsewhere"}})
		before := opened(s)
		number := mustOpen(t, c, upgrade, forge.Created).Number
		mustOpen(t, c, upgrade, forge.Unchanged)
		crlf := upgrade
		crlf.Body = strings.ReplaceAll(upgrade.Body, "\n", "\r\n") // as some forges keep it
		mustOpen(t, c, crlf, forge.Unchanged)
		newer := upgrade
		newer.Title, newer.Body = "Upgrade prod to Istio 1.31.1\n(from 1.30.4)", upgrade.Body+strings.Repeat("long ", 300)
		if got := mustOpen(t, c, newer, forge.Updated); got.Number != number {
			t.Errorf("pull request %d was made", got.Number)
		}
		mustOpen(t, c, newer, forge.Unchanged) // also where lists have short descriptions
		want := append(before, fmt.Sprintf("%d Open %s Upgrade prod to Istio 1.31.1 (from 1.30.4): %s", number, newer.Branch, newer.Body))
		if diff := cmp.Diff(want, opened(s)); diff != "" {
			t.Errorf("pull requests (-want +got):\n%s", diff)
		}

		all, err := c.Pulls(t.Context(), "main", upgrade.Branch)
		if err != nil || len(all) != 1 || all[0].Number != number || all[0].Body != newer.Body || all[0].Base != "main" {
			t.Errorf("pull requests of the branch: %+v, %v", all, err)
		}
		if err := c.Close(t.Context(), all[0], "withdrawn"); err != nil {
			t.Fatal(err)
		}
		second := mustOpen(t, c, upgrade, forge.Created).Number
		s.Change(second, func(p *forgetest.Pull) { p.State = forge.PullMerged })
		third := mustOpen(t, c, upgrade, forge.Created).Number
		all, err = c.Pulls(t.Context(), "main", upgrade.Branch, "other")
		var got []string
		for _, p := range all {
			got = append(got, fmt.Sprint(p.Number, " ", p.State, " ", p.Branch, " ", len(p.Body) > 0))
		}
		wantAll := []string{
			fmt.Sprint(third, " Open ", upgrade.Branch, " true"), fmt.Sprint(second, " Merged ", upgrade.Branch, " true"),
			fmt.Sprint(number, " Closed ", upgrade.Branch, " true"), fmt.Sprint(forgetest.PullRequest, " Open other true"),
		}
		if diff := cmp.Diff(wantAll, got); diff != "" || err != nil {
			t.Errorf("pull requests, the newest first (-want +got): %v\n%s", err, diff)
		}
		if none, err := c.Pulls(t.Context(), "main"); none != nil || err != nil {
			t.Errorf("of no branch: %v, %v", none, err)
		}
	})
}

// TestOpenLost: creating is not done twice when its answer is lost, or when a job
// beside us is first.
func TestOpenLost(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		creates := 0
		s.After = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method != http.MethodPost {
				return false
			}
			if creates++; creates == 1 {
				panic(http.ErrAbortHandler)
			}
			return false
		}
		mustOpen(t, client(t, s), upgrade, forge.Created)
		if creates != 1 || len(s.Pulls()) != 1 {
			t.Errorf("created %d times: %q", creates, opened(s))
		}

		first := true
		s.After = nil
		other := upgrade
		other.Branch = "isthmus/upgrade-edge-1.31"
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPost && first {
				first = false
				s.Propose(forgetest.Pull{Pull: other})
			}
			return false
		}
		mustOpen(t, client(t, s), other, forge.Created)
		if first || len(s.Pulls()) != 2 {
			t.Errorf("pull requests: %q", opened(s))
		}
	})
}

// TestOpenRefused: an error names what the token lacks, and nothing is tried again
// that was refused.
func TestOpenRefused(t *testing.T) {
	needs := map[forge.Kind]string{
		forge.GitHub: "allow GitHub Actions to create pull requests", forge.Gitea: "write:repository",
		forge.GitLab: "scope api", forge.AzureDevOps: "Create branch",
	}
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.ReadOnly = true
		_, _, err := client(t, s).Open(t.Context(), upgrade)
		var refused *forge.Error
		if !errors.As(err, &refused) || refused.Status != http.StatusForbidden || !strings.Contains(err.Error(), needs[s.Kind]) {
			t.Errorf("error %v, want %q", err, needs[s.Kind])
		}
		if n := len(s.Writes()); n != 1 {
			t.Errorf("%d writes tried: %q", n, s.Writes())
		}
		noSecret(t, fmt.Sprint(err))

		s.ReadOnly = false
		long := upgrade
		long.Body = strings.Repeat("x", client(t, s).PullLimit()+1)
		if _, _, err := client(t, s).Open(t.Context(), long); err == nil || !strings.Contains(err.Error(), "cut it before") {
			t.Errorf("a description that is too long: %v", err)
		}
		long.Body, long.Title = long.Body[1:], strings.Repeat("😀", 300)
		p := mustOpen(t, client(t, s), long, forge.Created)
		if err := client(t, s).Close(t.Context(), p, long.Body+"x"); err != nil {
			t.Error(err)
		}
		if apart := client(t, s).ReportsApart(); apart != (s.Kind == forge.AzureDevOps) {
			t.Errorf("reports apart: %t", apart)
		}
	})
}
