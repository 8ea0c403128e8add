package forge_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

func mustStatus(t *testing.T, c *forge.Client, s forge.Status, want forge.Outcome) {
	t.Helper()
	got, err := c.Status(t.Context(), forgetest.Head, s)
	if err != nil || got != want {
		t.Fatalf("status %+v: %q, %v; want %s", s, got, err, want)
	}
}

// words for Pending, Success, Failure and Error.
var words = map[forge.Kind][4]string{
	forge.GitHub:      {"pending", "success", "failure", "error"},
	forge.Gitea:       {"pending", "success", "failure", "error"},
	forge.GitLab:      {"pending", "success", "failed", "failed"},
	forge.AzureDevOps: {"pending", "succeeded", "failed", "error"},
}

// TestStatus: each state in the forge's word, and none twice.
func TestStatus(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		rolled := forge.Context("prod", "")
		for i, state := range []forge.State{forge.Pending, forge.Success, forge.Failure, forge.Broken} {
			status := forge.Status{Context: rolled, State: state, Description: "3 members change", URL: "https://ci.invalid/1"}
			want := forge.Updated
			switch {
			case i == 0:
				want = forge.Created
			case state == forge.Broken && s.Kind == forge.GitLab:
				want = forge.Unchanged // it has one word for both
			}
			mustStatus(t, c, status, want)
			mustStatus(t, c, status, forge.Unchanged)
			var got forgetest.Status
			for _, each := range s.Statuses() {
				if each.Context == rolled {
					got = each
				}
			}
			if diff := cmp.Diff(forgetest.Status{Commit: forgetest.Head, Context: rolled, State: words[s.Kind][i], Description: status.Description, URL: status.URL}, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", state, diff)
			}
			// The same words in one more context are a status of their own.
			for _, ring := range []string{"canary", "rest", "last"} {
				status.Context = forge.Context("prod", ring)
				if _, err := c.Status(t.Context(), forgetest.Head, status); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := 4 * 4
		if s.Kind == forge.GitLab {
			want -= 4
		}
		if n := len(s.Statuses()); n != want {
			t.Errorf("%d statuses written, want %d", n, want)
		}
	})
}

// TestStatusText: what the forge does not take is cut, and known again next time.
func TestStatusText(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		status := forge.Status{
			Context: forge.Context("prod", "canary"), State: forge.Failure,
			Description: strings.Repeat("größer ", 100) + "\nand more", URL: "https://ci.invalid/" + strings.Repeat("x", 3000),
		}
		mustStatus(t, c, status, forge.Created)
		mustStatus(t, c, status, forge.Unchanged)
		got := s.Statuses()[0]
		if n := utf8.RuneCountInString(got.Description); n < 100 || n > 255 || !strings.HasSuffix(got.Description, "…") {
			t.Errorf("description of %d characters: %q", n, got.Description)
		}
		if got.URL != "" {
			t.Errorf("a link that is cut: %q", got.URL)
		}
		mustStatus(t, c, forge.Status{Context: status.Context, State: forge.Success}, forge.Updated)
		mustStatus(t, c, forge.Status{Context: status.Context, State: forge.Success}, forge.Unchanged)
	})
}

// TestPendingWithOtherWords: GitLab refuses to let a status wait that waits.
func TestPendingWithOtherWords(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		status := forge.Status{Context: forge.Context("prod", ""), State: forge.Pending, Description: "ring 1 of 3"}
		mustStatus(t, c, status, forge.Created)
		status.Description = "ring 2 of 3"
		want := forge.Updated
		if s.Kind == forge.GitLab {
			want = forge.Unchanged
		}
		mustStatus(t, c, status, want)
	})
	// Two jobs at once: the other one's status is there when ours is written.
	s := forgetest.Start(t, forge.GitLab)
	first := true
	c := client(t, s)
	s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodPost && first {
			first = false
			mustStatus(t, c, forge.Status{Context: "isthmus/prod", State: forge.Pending}, forge.Created)
		}
		return false
	}
	mustStatus(t, c, forge.Status{Context: "isthmus/prod", State: forge.Pending}, forge.Created)
}

// TestStatusWithoutPullRequest: a commit that was merged has statuses too.
func TestStatusWithoutPullRequest(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		target := s.Target()
		target.PullRequest = 0
		c, err := forge.New(target, forge.Options{Token: forgetest.Bot.Token, CA: s.CA()})
		if err != nil {
			t.Fatal(err)
		}
		merged := strings.Repeat("4", 40)
		for _, want := range []forge.Outcome{forge.Created, forge.Unchanged} {
			if got, err := c.Status(t.Context(), merged, forge.Status{Context: "isthmus/prod", State: forge.Success}); err != nil || got != want {
				t.Errorf("%q, %v; want %s", got, err, want)
			}
		}
		if got := s.Statuses()[0].Commit; got != merged {
			t.Errorf("the status is on %s", got)
		}
	})
	// Where a status is a pull request's, it is of the push that it speaks of.
	s := forgetest.Start(t, forge.AzureDevOps)
	c := client(t, s)
	if _, err := c.Status(t.Context(), strings.Repeat("5", 40), forge.Status{Context: "isthmus/prod", State: forge.Success}); err == nil || !strings.Contains(err.Error(), "never the head") {
		t.Errorf("a status of a commit that is not in the pull request: %v", err)
	}
}

// TestStatusRefusedHere: what no forge would take makes no request.
func TestStatusRefusedHere(t *testing.T) {
	s := forgetest.Start(t, forge.GitHub)
	c := client(t, s)
	for _, tt := range []struct {
		reason, commit string
		status         forge.Status
	}{
		{"a branch", "main", forge.Status{Context: "isthmus/prod", State: forge.Success}},
		{"half a hash", forgetest.Head[:20], forge.Status{Context: "isthmus/prod", State: forge.Success}},
		{"no context", forgetest.Head, forge.Status{State: forge.Success}},
		{"a long context", forgetest.Head, forge.Status{Context: strings.Repeat("x", 256), State: forge.Success}},
		{"no state", forgetest.Head, forge.Status{Context: "isthmus/prod"}},
	} {
		if _, err := c.Status(t.Context(), tt.commit, tt.status); err == nil {
			t.Errorf("%s: no error", tt.reason)
		}
	}
	if calls := s.Calls(); len(calls) != 0 {
		t.Errorf("requests: %q", calls)
	}
}
