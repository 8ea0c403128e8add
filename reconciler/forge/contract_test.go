package forge_test

import (
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

// TestContract: each call that a forge's contract has is made here, and so is held
// against it; whoever adds one adds what makes it. All other tests hold theirs as
// well.
func TestContract(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		mustComment(t, c, marker, "first", forge.Created)
		s.Say(forgetest.Bot, marker+"\na second one")
		mustComment(t, c, marker, "edited", forge.Updated)
		s.JobToken = true
		mustComment(t, c, marker, "edited", forge.Unchanged)
		status := forge.Status{Context: "isthmus/prod", State: forge.Success, Description: "1 member changes", URL: "https://ci.invalid/1"}
		mustStatus(t, c, status, forge.Created)

		target := s.Target()
		target.PullRequest = 0
		merged, err := forge.New(target, forge.Options{Token: forgetest.Bot.Token, CA: s.CA()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := merged.Status(t.Context(), strings.Repeat("4", 40), status); err != nil || got != forge.Created {
			t.Errorf("status of what was merged: %q, %v", got, err)
		}
		pull := forge.Pull{Branch: "isthmus/upgrade", Base: "main", Title: "Upgrade", Body: "x"}
		mustOpen(t, c, pull, forge.Created)
		pull.Body = "y"
		if err := c.Close(t.Context(), mustOpen(t, c, pull, forge.Updated), "z"); err != nil {
			t.Error(err)
		}
		for _, call := range s.NeverMade() {
			t.Errorf("%s: no call of this contract: %s", s.Kind, call)
		}
	})
}
