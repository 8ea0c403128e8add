package propose

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// Outcome is what became of a proposal.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "Created"
	Updated   Outcome = "Updated"
	Unchanged Outcome = "Unchanged"
	// Declined: a person closed the pull request of this version.
	Declined Outcome = "Declined"
	// LeftAlone: a person works on the branch or the pull request.
	LeftAlone Outcome = "LeftAlone"
	// Withdrawn: closed, since nothing of it is left to propose.
	Withdrawn Outcome = "Withdrawn"
)

// Have is what there is of a proposal.
type Have struct {
	// Head of its branch; nil without one.
	Head *source.Commit
	// Pulls of the branch to the base, in any state.
	Pulls []forge.Pull
}

// open returns the open pull request, or nil.
func (h Have) open() *forge.Pull {
	i := slices.IndexFunc(h.Pulls, func(p forge.Pull) bool { return p.State == forge.PullOpen })
	if i < 0 {
		return nil
	}
	return &h.Pulls[i]
}

// Step is what to do about a proposal.
type Step struct {
	// Push the branch; the pull request is opened or edited either way.
	Push bool
	// Stop says that nothing is done: Declined or LeftAlone.
	Stop Outcome
	// Why it stops.
	Why string
	// Pull that it is about; 0 for none.
	Pull int
}

// Next says what to do about a proposal whose commit would be draft, and whose
// description begins with marker. again opens what a person has closed.
func Next(branch, marker string, draft source.Commit, have Have, again bool) Step {
	open := have.open()
	switch {
	case open != nil && !ours(*open):
		return Step{Stop: LeftAlone, Pull: open.Number, Why: fmt.Sprintf("the description of pull request %d does not begin as ours do: close it to have another one", open.Number)}
	case have.Head != nil && !Ours(*have.Head):
		step := Step{Stop: LeftAlone, Why: fmt.Sprintf("branch %q has a commit of %s: delete the branch to have it made anew", branch, have.Head.Committer.Name)}
		if open != nil {
			step.Pull = open.Number
		}
		return step
	case open == nil && !again:
		for _, p := range have.Pulls {
			if p.State == forge.PullClosed && firstLine(p.Body) == marker {
				return Step{Stop: Declined, Pull: p.Number, Why: fmt.Sprintf("pull request %d of this version was closed: --again proposes it once more", p.Number)}
			}
		}
	}
	return Step{Push: have.Head == nil || !equal(*have.Head, draft)}
}

// equal tells whether two commits say the same, but for when.
func equal(a, b source.Commit) bool {
	return a.Tree == b.Tree && slices.Equal(a.Parents, b.Parents) && strings.TrimSpace(a.Message) == strings.TrimSpace(b.Message)
}

// trailer is the line of a commit's message with its tree. A commit that was amended
// or rebased with other content has another tree.
const trailer = "Isthmus-Proposal: "

var trailed = regexp.MustCompile(`(?m)^` + trailer + `([0-9a-f]+)\r?$`)

// Ours tells whether a commit is as we made it: whatever else there is on a branch
// would be lost if it were made anew.
func Ours(c source.Commit) bool {
	found := trailed.FindStringSubmatch(c.Message)
	return found != nil && found[1] == c.Tree && len(c.Parents) == 1 &&
		c.Author.Name == c.Committer.Name && c.Author.Email == c.Committer.Email
}

// message of a commit.
func message(title, text string) func(tree string) string {
	return func(tree string) string {
		return title + "\n\n" + strings.TrimSpace(text) + "\n\n" + trailer + tree + "\n"
	}
}

// What the first lines of descriptions begin with, which readers do not see.
const (
	proposed  = "upgrade "
	withdrawn = "withdrawn "
)

// ours tells whether a description begins with our marker.
func ours(p forge.Pull) bool {
	mark, _, _ := strings.Cut(forge.Marker(proposed+"x"), "x -->")
	return strings.HasPrefix(firstLine(p.Body), mark)
}

func firstLine(body string) string {
	first, _, _ := strings.Cut(body, "\n")
	return strings.TrimSpace(first)
}
