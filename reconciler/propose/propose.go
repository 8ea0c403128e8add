package propose

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// Proposal is a change that is to be a pull request.
type Proposal struct {
	// ID tells it from others of the fleet; Version is what it proposes now.
	ID, Version string
	// Title of the pull request and of its commit, and Text of the commit.
	Title, Text string
	// Files that change, by name below the fleet's path.
	Files map[string][]byte
	// Body of the pull request, in no more characters than the limit, and, where
	// descriptions are short, Report for a comment; then apart is true.
	Body   func(limit int, apart bool) string
	Report func(limit int) string
}

// Result is what became of a proposal.
type Result struct {
	Branch  string
	Outcome Outcome
	// Pull request, and its page; 0 and empty for none, or not yet.
	Pull int
	URL  string
	// Why nothing was done, where that is the outcome.
	Why string
}

// Session is a fleet's repository on a forge.
type Session struct {
	Forge *forge.Client
	// Base is the branch that pull requests go to, at Commit, which Copy has fetched.
	Base, Commit string
	Copy         *source.Repository
	// Heads of the branches there are.
	Heads map[string]string
	// Head reads the commit that a branch leads to.
	Head func(ctx context.Context, branch string) (source.Commit, error)
	// Folder of the fleet in the repository, empty for its root.
	Folder string
	// By is who commits.
	By source.Person
	// Again opens what people have closed.
	Again bool
	// DryRun writes nothing: outcomes are what would be.
	DryRun bool
}

// prefix of the branches of a fleet. Fleets of one repository have different ones.
func (s Session) prefix() string {
	folder := strings.Map(func(r rune) rune {
		if r == '/' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, s.Folder)
	if folder != s.Folder {
		sum := sha256.Sum256([]byte(s.Folder))
		folder += "-" + hex.EncodeToString(sum[:4])
	}
	return path.Join("isthmus", folder, "upgrade") + "-"
}

// Branch of a proposal.
func (s Session) Branch(id string) string { return s.prefix() + id }

// marker is the first line of a proposal's description.
func (s Session) marker(what string, p Proposal) string {
	return forge.Marker(what + path.Join("/", s.Folder, p.ID) + " " + p.Version)
}

// Propose sees to it that there is a pull request of the proposal, unless people do
// not want it.
func (s Session) Propose(ctx context.Context, p Proposal) (Result, error) {
	branch := s.Branch(p.ID)
	result := Result{Branch: branch}
	have, err := s.have(ctx, branch)
	if err != nil {
		return result, err
	}
	draft, err := s.Copy.Draft(source.Change{Parent: s.Commit, Files: p.Files, By: s.By, Message: message(p.Title, p.Text)})
	if err != nil {
		return result, err
	}
	marker := s.marker(proposed, p)
	step := Next(branch, marker, draft.Commit, have, s.Again)
	if step.Stop != "" {
		result.Outcome, result.Why, result.Pull = step.Stop, step.Why, step.Pull
		for _, pull := range have.Pulls {
			if pull.Number == step.Pull {
				result.URL = pull.URL
			}
		}
		return result, nil
	}
	apart := s.Forge.ReportsApart()
	want := forge.Pull{Branch: branch, Base: s.Base, Title: p.Title, Body: marker + "\n" + p.Body(s.Forge.PullLimit()-len(marker)-1, apart)}
	if s.DryRun {
		return s.would(result, step, have, want), nil
	}
	if step.Push {
		old := ""
		if have.Head != nil {
			old = have.Head.Hash
		}
		if err := s.Copy.Push(ctx, branch, old, draft); err != nil {
			return result, err
		}
	}
	pull, outcome, err := s.Forge.Open(ctx, want)
	if err != nil {
		return result, err
	}
	result.Pull, result.URL, result.Outcome = pull.Number, pull.URL, Outcome(outcome)
	if step.Push && result.Outcome == Unchanged {
		result.Outcome = Updated
	}
	if !apart {
		return result, nil
	}
	commented, err := s.Forge.Comment(ctx, pull.Number, s.marker("report of ", p), p.Report(s.Forge.Limit()))
	if commented != forge.Unchanged && result.Outcome == Unchanged {
		result.Outcome = Updated
	}
	return result, err
}

// would is the outcome of what is not done.
func (s Session) would(result Result, step Step, have Have, want forge.Pull) Result {
	result.Outcome = Created
	if open := have.open(); open != nil {
		result.Pull, result.URL, result.Outcome = open.Number, open.URL, Unchanged
		if step.Push || open.Title != want.Title || !forge.Same(open.Body, want.Body) {
			result.Outcome = Updated
		}
	}
	return result
}

func (s Session) have(ctx context.Context, branch string) (Have, error) {
	var have Have
	if _, there := s.Heads[branch]; there {
		head, err := s.Head(ctx, branch)
		if err != nil {
			return have, err
		}
		have.Head = &head
	}
	var err error
	have.Pulls, err = s.Forge.Pulls(ctx, s.Base, branch)
	return have, err
}

// Withdraw closes open pull requests of proposals that are none of those kept, by
// their ids, and removes their branches.
func (s Session) Withdraw(ctx context.Context, keep []string) ([]Result, error) {
	var out []Result
	var branches []string
	for branch := range s.Heads {
		id, found := strings.CutPrefix(branch, s.prefix())
		if found && !strings.Contains(id, "/") && !slices.Contains(keep, id) {
			branches = append(branches, branch)
		}
	}
	slices.Sort(branches)
	for _, branch := range branches {
		have, err := s.have(ctx, branch)
		if err != nil {
			return out, err
		}
		open := have.open()
		if open == nil || !ours(*open) {
			continue
		}
		result := Result{Branch: branch, Pull: open.Number, URL: open.URL, Outcome: Withdrawn}
		if !Ours(*have.Head) {
			result.Outcome, result.Why = LeftAlone, fmt.Sprintf("nothing of it is left to propose, and branch %q has a commit of %s: close it by hand", branch, have.Head.Committer.Name)
		} else if err := s.withdraw(ctx, *open, have.Head.Hash); err != nil {
			return out, err
		}
		out = append(out, result)
	}
	return out, nil
}

func (s Session) withdraw(ctx context.Context, p forge.Pull, head string) error {
	if s.DryRun {
		return nil
	}
	why := fmt.Sprintf("Nothing of this is left to propose for `%s`, which is at %s: isthmus closes it.", strings.ReplaceAll(s.Base, "`", "'"), s.Commit[:8])
	if _, err := s.Forge.Comment(ctx, p.Number, forge.Marker(withdrawn+cmp.Or(s.Folder, "/")), why); err != nil {
		return err
	}
	// Its marker goes: it was not a person who closed it.
	_, rest, _ := strings.Cut(p.Body, "\n")
	body := forge.Marker(withdrawn+p.Branch) + "\n" + why + "\n\n" + rest
	if err := s.Forge.Close(ctx, p, body); err != nil {
		return err
	}
	return s.Copy.Delete(ctx, p.Branch, head)
}
