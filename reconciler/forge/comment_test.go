package forge_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/forge/forgetest"
)

var marker = forge.Marker("clusters/prod")

// client of a server, that waits in no time.
func client(t *testing.T, s *forgetest.Server, waits ...*[]time.Duration) *forge.Client {
	t.Helper()
	c, err := forge.New(s.Target(), forge.Options{Token: forgetest.Bot.Token, CA: s.CA(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	c.Waits(func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		for _, each := range waits {
			*each = append(*each, d)
		}
	})
	return c
}

// forges runs a test with each kind.
func forges(t *testing.T, test func(t *testing.T, s *forgetest.Server)) {
	t.Helper()
	for _, kind := range forge.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, forgetest.Start(t, kind))
		})
	}
}

func mustComment(t *testing.T, c *forge.Client, marker, body string, want forge.Outcome) {
	t.Helper()
	got, err := c.Comment(t.Context(), forgetest.PullRequest, marker, body)
	if err != nil || got != want {
		t.Fatalf("comment %q: %q, %v; want %s", body, got, err, want)
	}
}

// said is author and body of each comment.
func said(s *forgetest.Server) []string {
	var out []string
	for _, c := range s.Comments() {
		out = append(out, c.Author.Login+": "+c.Body)
	}
	return out
}

// TestComment: one comment, edited in place, among what others say.
func TestComment(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		others := []string{}
		for i := range 5 { // more than two pages
			body := fmt.Sprintf("remark %d", i)
			s.Say(forgetest.Human, body)
			others = append(others, "maintainer: "+body)
		}
		mustComment(t, c, marker, "first\n", forge.Created)
		want := append(others, "isthmus-bot: "+marker+"\nfirst\n")
		if diff := cmp.Diff(want, said(s)); diff != "" {
			t.Fatalf("comments (-want +got):\n%s", diff)
		}

		s.Say(forgetest.Human, "thanks")
		writes := len(s.Writes())
		mustComment(t, c, marker, "first\r\n\n", forge.Unchanged) // as some forges keep it
		if n := len(s.Writes()) - writes; n != 0 {
			t.Errorf("%d writes for a comment that is there: %q", n, s.Writes())
		}
		mustComment(t, c, marker, "second", forge.Updated)
		want = append(others, "isthmus-bot: "+marker+"\nsecond", "maintainer: thanks")
		if diff := cmp.Diff(want, said(s)); diff != "" {
			t.Errorf("comments (-want +got):\n%s", diff)
		}
		if n := len(s.Writes()) - writes; n != 1 {
			t.Errorf("%d writes for one edit: %q", n, s.Writes())
		}
	})
}

// TestRevise: a comment that is there is edited, and none is made.
func TestRevise(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.Say(forgetest.Human, marker+"\nnot ours")
		c := client(t, s)
		revise := func(body string, want forge.Outcome) {
			t.Helper()
			if got, err := c.Revise(t.Context(), forgetest.PullRequest, marker, body); err != nil || got != want {
				t.Errorf("revise %q: %q, %v; want %s", body, got, err, want)
			}
		}
		revise("nothing changes", forge.None)
		if writes := s.Writes(); len(writes) != 0 {
			t.Errorf("writes: %q", writes)
		}
		mustComment(t, c, marker, "first", forge.Created)
		revise("nothing changes", forge.Updated)
		revise("nothing changes", forge.Unchanged)
		if diff := cmp.Diff([]string{"maintainer: " + marker + "\nnot ours", "isthmus-bot: " + marker + "\nnothing changes"}, said(s)); diff != "" {
			t.Errorf("comments (-want +got):\n%s", diff)
		}
		id := s.Comments()[1].ID
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPatch || r.Method == http.MethodPut {
				s.Delete(id)
			}
			return false
		}
		revise("deleted meanwhile", forge.None)
	})
}

// TestOthersAreNotTouched: neither another's comment with our marker, nor ours
// with another's, nor one that only quotes it.
func TestOthersAreNotTouched(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.JobToken = true
		s.Say(forgetest.Human, marker+"\nlooks fine, merge it")
		s.Say(forgetest.Bot, forge.Marker("clusters/test")+"\nanother fleet")
		s.Say(forgetest.Bot, "> "+marker+"\nquoted")
		s.Say(forgetest.Bot, "see below\n"+marker+"\nfurther down")
		before := said(s)
		c := client(t, s)
		mustComment(t, c, marker, "ours", forge.Created)
		mustComment(t, c, marker, "ours, edited", forge.Updated)
		if diff := cmp.Diff(append(before, "isthmus-bot: "+marker+"\nours, edited"), said(s)); diff != "" {
			t.Errorf("comments (-want +got):\n%s", diff)
		}
	})
}

// TestDeletedWhileEditing: a person deletes the comment after it was listed.
func TestDeletedWhileEditing(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		id := s.Say(forgetest.Bot, marker+"\nold")
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPatch || r.Method == http.MethodPut {
				s.Delete(id)
			}
			return false
		}
		mustComment(t, client(t, s), marker, "new", forge.Created)
		if diff := cmp.Diff([]string{"isthmus-bot: " + marker + "\nnew"}, said(s)); diff != "" {
			t.Errorf("comments (-want +got):\n%s", diff)
		}
	})
}

// TestDeletedAgainAndAgain: something deletes every comment of ours; that ends.
func TestDeletedAgainAndAgain(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		s.Say(forgetest.Bot, marker+"\nold")
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPatch || r.Method == http.MethodPut {
				for _, c := range s.Comments() {
					s.Delete(c.ID)
				}
				s.Say(forgetest.Bot, marker+"\nfrom another job")
			}
			return false
		}
		_, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "new")
		if err == nil || !strings.Contains(err.Error(), "does somebody or something delete it?") {
			t.Errorf("error %v", err)
		}
	})
}

// TestTwoJobsAtOnce: both see no comment and write one; one stays.
func TestTwoJobsAtOnce(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		var meet sync.WaitGroup
		meet.Add(2)
		var mu sync.Mutex
		waiting := 2
		s.Fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method != http.MethodPost || strings.HasSuffix(r.URL.Path, "/graphql") {
				return false
			}
			mu.Lock()
			first := waiting > 0
			waiting--
			mu.Unlock()
			if first { // both have listed before either writes
				meet.Done()
				meet.Wait()
			}
			return false
		}
		var jobs sync.WaitGroup
		for i := range 2 {
			jobs.Go(func() {
				if _, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, fmt.Sprintf("job %d", i)); err != nil {
					t.Errorf("job %d: %v", i, err)
				}
			})
		}
		jobs.Wait()
		if n := len(s.Comments()); n != 1 {
			t.Errorf("%d comments after two jobs: %q", n, said(s))
		}
		mustComment(t, client(t, s), marker, "the next job", forge.Updated)
		if n := len(s.Comments()); n != 1 {
			t.Errorf("%d comments after three jobs: %q", n, said(s))
		}
	})
}

// TestAnswerLost: the comment was written, and the answer never came. A second
// one is not.
func TestAnswerLost(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		for _, tt := range []struct {
			reason string
			lose   func(w http.ResponseWriter)
		}{
			{"the connection breaks", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
			{"a proxy says that the forge is away", func(w http.ResponseWriter) { http.Error(w, "<html>502</html>", http.StatusBadGateway) }},
		} {
			for _, c := range s.Comments() {
				s.Delete(c.ID)
			}
			lost := false
			s.After = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method != http.MethodPost || strings.HasSuffix(r.URL.Path, "/graphql") || lost {
					return false
				}
				lost = true
				tt.lose(w)
				return true
			}
			if _, err := client(t, s).Comment(t.Context(), forgetest.PullRequest, marker, "ours"); err != nil {
				t.Errorf("%s: %v", tt.reason, err)
			}
			if diff := cmp.Diff([]string{"isthmus-bot: " + marker + "\nours"}, said(s)); diff != "" || !lost {
				t.Errorf("%s (lost %t): comments (-want +got):\n%s", tt.reason, lost, diff)
			}
		}
	})
}

// TestListBehind: a replica that does not list the comment yet is no reason to
// write it once more.
func TestListBehind(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		var hidden []forgetest.Comment
		s.After = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Method == http.MethodPost && !strings.HasSuffix(r.URL.Path, "/graphql") {
				hidden = append(hidden, s.Comments()...)
				for _, c := range hidden {
					s.Delete(c.ID)
				}
			}
			return false
		}
		mustComment(t, client(t, s), marker, "ours", forge.Created)
		if len(hidden) != 1 {
			t.Errorf("%d comments were written", len(hidden))
		}
	})
}

// TestTooLong: what the forge would refuse is not sent, and what is as long as
// Limit says is taken.
func TestTooLong(t *testing.T) {
	forges(t, func(t *testing.T, s *forgetest.Server) {
		c := client(t, s)
		longest := forge.Marker(strings.Repeat("a-long-name/", 100))
		mustComment(t, c, longest, strings.Repeat("é", c.Limit()), forge.Created)
		calls := len(s.Calls())
		if _, err := c.Comment(t.Context(), forgetest.PullRequest, longest, strings.Repeat("é", c.Limit()+1)); err == nil {
			t.Error("a comment over the limit was sent")
		}
		if _, err := c.Comment(t.Context(), 0, longest, "x"); err == nil {
			t.Error("a comment on no pull request was sent")
		}
		if _, err := c.Comment(t.Context(), 7, "two\nlines", "x"); err == nil {
			t.Error("a marker of two lines was sent")
		}
		if n := len(s.Calls()) - calls; n != 0 {
			t.Errorf("%d requests: %q", n, s.Calls()[calls:])
		}
	})
}

// TestMarker: one line, invisible, and different for what is different.
func TestMarker(t *testing.T) {
	names := []string{
		"clusters/prod", "clusters/prod/", "clusters/pröd", "clusters--prod", "clusters-%2Dprod", "a-b", "a->b", "-->", "->", ">", "<!--",
		"a\nb", "", strings.Repeat("x", 300), strings.Repeat("x", 301), strings.Repeat("-", 300),
	}
	seen := map[string]string{}
	for _, name := range names {
		got := forge.Marker(name)
		inner, opened := strings.CutPrefix(got, "<!-- ")
		inner, closed := strings.CutSuffix(inner, " -->")
		if !opened || !closed || strings.Contains(inner, "--") || strings.ContainsAny(inner, "<>\n") || len(got) > 255 {
			t.Errorf("marker of %q: %q", name, got)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%q and %q have one marker, %q", name, other, got)
		}
		seen[got] = name
	}
}
