package propose_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/propose"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

const (
	tree   = "1111111111111111111111111111111111111111"
	base   = "2222222222222222222222222222222222222222"
	branch = "isthmus/upgrade-prod-1.31"
)

// commit is one as we make it, changed.
func commit(change func(*source.Commit)) *source.Commit {
	us := source.Person{Name: "isthmus", Email: "noreply@isthmus.dev", When: time.Unix(0, 0)}
	c := &source.Commit{Hash: "3", Tree: tree, Parents: []string{base}, Author: us, Committer: us, Message: "Upgrade prod\n\nIt ends.\n\nIsthmus-Proposal: " + tree + "\n"}
	if change != nil {
		change(c)
	}
	return c
}

func TestOurs(t *testing.T) {
	person := source.Person{Name: "Ada", Email: "ada@example.com"}
	for _, tt := range []struct {
		reason string
		change func(*source.Commit)
		want   bool
	}{
		{"as it was made", nil, true},
		{"at another time, by another account of ours", func(c *source.Commit) {
			c.Author.Name, c.Committer.Name, c.Committer.When = "other", "other", time.Unix(1, 0)
		}, true},
		{"with line ends of a server of its own", func(c *source.Commit) { c.Message = strings.ReplaceAll(c.Message, "\n", "\r\n") }, true},
		{"a person's", func(c *source.Commit) { c.Author, c.Committer, c.Message = person, person, "Pin the images, too" }, false},
		{"amended by a person", func(c *source.Commit) { c.Committer = person }, false},
		{"amended by a person who took over as author", func(c *source.Commit) { c.Author, c.Committer, c.Tree = person, person, base }, false},
		{"amended or rebased with other content", func(c *source.Commit) { c.Tree = base }, false},
		{"a merge of main by a button", func(c *source.Commit) { c.Parents = append(c.Parents, tree) }, false},
		{"one without a parent", func(c *source.Commit) { c.Parents = nil }, false},
		{"another tree in the line", func(c *source.Commit) { c.Message = "x\n\nIsthmus-Proposal: " + base + "\n" }, false},
		{"the line as part of another", func(c *source.Commit) { c.Message = "x\n\nNot-Isthmus-Proposal: " + tree + "\n" }, false},
	} {
		if got := propose.Ours(*commit(tt.change)); got != tt.want {
			t.Errorf("%s: ours is %t", tt.reason, got)
		}
	}
}

func TestNext(t *testing.T) {
	marker := forge.Marker("upgrade /prod-1.31 1.31.0")
	body := marker + "\nIt ends.\n"
	pull := func(number int, state forge.PullState, body string) forge.Pull {
		return forge.Pull{Number: number, State: state, Body: body}
	}
	older := commit(func(c *source.Commit) { c.Parents = []string{tree} })
	theirs := commit(func(c *source.Commit) { c.Committer.Name, c.Message = "Ada", "Pin the images" })
	for _, tt := range []struct {
		reason string
		head   *source.Commit
		pulls  []forge.Pull
		again  bool
		want   propose.Step
		why    string
	}{
		{"nothing is there", nil, nil, false, propose.Step{Push: true}, ""},
		{"all is there", commit(nil), []forge.Pull{pull(7, forge.PullOpen, body)}, false, propose.Step{}, ""},
		{"the same, made at another time", commit(func(c *source.Commit) { c.Hash, c.Author.When = "4", time.Unix(9, 0) }), []forge.Pull{pull(7, forge.PullOpen, body)}, false, propose.Step{}, ""},
		{"the branch is there, and its pull request was never opened", commit(nil), nil, false, propose.Step{}, ""},
		{"the base has moved", older, []forge.Pull{pull(7, forge.PullOpen, body)}, false, propose.Step{Push: true}, ""},
		{"a newer patch, in the same pull request", commit(func(c *source.Commit) { c.Tree, c.Message = base, "x\n\nIsthmus-Proposal: "+base }), []forge.Pull{pull(7, forge.PullOpen, forge.Marker("upgrade /prod-1.31 1.31.9")+"\n")}, false, propose.Step{Push: true}, ""},
		{"other words", commit(func(c *source.Commit) { c.Message = "Other\n\nIsthmus-Proposal: " + tree }), []forge.Pull{pull(7, forge.PullOpen, body)}, false, propose.Step{Push: true}, ""},
		{"a person's commit on the branch", theirs, []forge.Pull{pull(7, forge.PullOpen, body)}, false, propose.Step{Stop: propose.LeftAlone, Pull: 7}, `has a commit of Ada: delete the branch`},
		{"a person's branch of that name", theirs, nil, false, propose.Step{Stop: propose.LeftAlone}, `branch "` + branch + `" has a commit of Ada`},
		{"also when it is asked for again", theirs, nil, true, propose.Step{Stop: propose.LeftAlone}, "has a commit of Ada"},
		{"a pull request of other people", commit(nil), []forge.Pull{pull(7, forge.PullOpen, "Please merge\n"+marker)}, false, propose.Step{Stop: propose.LeftAlone, Pull: 7}, "does not begin as ours do"},
		{"closed by a person", commit(nil), []forge.Pull{pull(7, forge.PullClosed, body)}, false, propose.Step{Stop: propose.Declined, Pull: 7}, "--again proposes it once more"},
		{"closed by a person, who deleted the branch", nil, []forge.Pull{pull(7, forge.PullClosed, body)}, false, propose.Step{Stop: propose.Declined, Pull: 7}, "pull request 7"},
		{"closed, and asked for again", nil, []forge.Pull{pull(7, forge.PullClosed, body)}, true, propose.Step{Push: true}, ""},
		{"closed, and another is open", commit(nil), []forge.Pull{pull(9, forge.PullOpen, body), pull(7, forge.PullClosed, body)}, false, propose.Step{}, ""},
		{"an older version was closed", nil, []forge.Pull{pull(7, forge.PullClosed, forge.Marker("upgrade /prod-1.31 1.31.9")+"\n")}, false, propose.Step{Push: true}, ""},
		{"closed by us", nil, []forge.Pull{pull(7, forge.PullClosed, forge.Marker("withdrawn "+branch)+"\n"+body)}, false, propose.Step{Push: true}, ""},
		{"merged, and taken back since", older, []forge.Pull{pull(7, forge.PullMerged, body)}, false, propose.Step{Push: true}, ""},
	} {
		got := propose.Next(branch, marker, *commit(nil), propose.Have{Head: tt.head, Pulls: tt.pulls}, tt.again)
		if !strings.Contains(got.Why, tt.why) || (got.Why == "") != (tt.why == "") {
			t.Errorf("%s: why %q, want %q", tt.reason, got.Why, tt.why)
		}
		if got.Why = ""; got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.reason, got, tt.want)
		}
	}
}

func TestBranch(t *testing.T) {
	for folder, want := range map[string]string{
		"": "isthmus/upgrade-prod-1.31", "fleets/prod": "isthmus/fleets/prod/upgrade-prod-1.31", "my fleet.git": "isthmus/my-fleet-git-ff9669e5/upgrade-prod-1.31",
	} {
		if got := (propose.Session{Folder: folder}).Branch("prod-1.31"); got != want {
			t.Errorf("folder %q: branch %q, want %q", folder, got, want)
		}
	}
}
