package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

type reviewOptions struct {
	forgeFlags
	path, name string
	htmlFile   string
	dryRun     bool
	fetch      fetchFlags
}

func newReview(p *printer) *cobra.Command {
	var opts reviewOptions
	cmd := &cobra.Command{
		Use:   "review",
		Short: "Comment on a pull request what it does to each member",
		Long: `Comment on a pull request what it does to each member, and set the status of its
head: what "isthmus diff" says of the change since the pull request began.

The pull request, its commits and the forge are taken from the variables of GitHub
Actions, GitLab CI, Gitea or Forgejo Actions and Azure Pipelines; flags go before
them. The one comment is edited when the pull request changes; a fleet that it does
not change gets none, and its status all the same. Without a pull request, such as
in a merge queue or a merge train, only the status is set. The token is read from
ISTHMUS_FORGE_TOKEN or the CI system's own variable.

Nothing of the pull request is run. The repository has to be there with the history
of both commits.

Exit codes: 0 nothing stops the change, 1 the fleet has problems or a policy is
violated, 2 could not review.`,
		Example: "  isthmus review --path fleets/prod --html report.html\n  isthmus review --base main --head HEAD --dry-run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return review(cmd.Context(), p, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.path, "path", ".", "folder of the fleet in the repository; with a slash in front from its root, else from here")
	flags.StringVar(&opts.name, "name", "", "name of the fleet in its status, isthmus/NAME (default: the folder's, or the repository's)")
	flags.StringVar(&opts.target.Base, "base", "", "revision that the pull request goes to")
	flags.StringVar(&opts.target.Head, "head", "", "revision that is reviewed")
	flags.IntVar(&opts.target.PullRequest, "pull-request", 0, "number of the pull or merge request")
	flags.StringVar(&opts.target.Run, "link", "", "page with the whole report (default: the page of the CI job)")
	flags.StringVar(&opts.htmlFile, "html", "", "file that the whole report is written to as HTML")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print the comment and write nothing to the forge; needs no token")
	opts.forgeFlags.add(cmd)
	opts.fetch.add(cmd)
	return cmd
}

// review judges a change, says so on the forge, and fails if something stops it.
func review(ctx context.Context, p *printer, opts reviewOptions) error {
	target, err := opts.detect()
	if err != nil {
		return err
	}
	if opts.dryRun {
		v, err := opts.judge(ctx, p, target)
		if err != nil {
			return err
		}
		p.write(v.comment(target, opts.folder(), dryRunLimit))
		return v.err()
	}
	client, err := opts.client(target)
	if err != nil {
		return err
	}
	v, err := opts.judge(ctx, p, target)
	if err != nil {
		// A change that nobody could look at must not pass, nor wait for ever.
		return opts.broken(ctx, p, client, target, err, "could not be reviewed: see the job")
	}
	p.lines(v.text)
	if target.PullRequest != 0 {
		write := client.Comment
		if v.nothing { // other fleets of the repository, and its other files, change too
			write = client.Revise
		}
		outcome, err := write(ctx, target.PullRequest, opts.marker(target), v.comment(target, opts.folder(), client.Limit()))
		if err != nil {
			return opts.broken(ctx, p, client, target, err, "the report could not be written: see the job")
		}
		p.note("comment on pull request %d: %s", target.PullRequest, strings.ToLower(string(outcome)))
	}
	if err := opts.tell(ctx, p, client, target, v.state, v.headline); err != nil {
		return err
	}
	return v.err()
}

// dryRunLimit is what the strictest of the forges takes.
const dryRunLimit = 65000

// detect says what is reviewed. Without a forge the flags are enough.
func (o reviewOptions) detect() (forge.Target, error) {
	given := o.given()
	if o.dryRun {
		given.TokenVariable = "none" // nothing asks for it
	}
	target, err := forge.Detect(environment(), given)
	if err != nil && o.dryRun && o.target.Base != "" {
		target, err = o.given(), nil
		target.Head = cmp.Or(target.Head, "HEAD")
	}
	switch {
	case err != nil:
		return target, withHint(err, "see isthmus review --help for the flags that say it; --dry-run needs --base alone")
	case target.Base == "":
		return target, withHint(errors.New("no revision to compare with: the CI system tells none for this job"), "name it with --base")
	}
	return target, nil
}

// marker tells this fleet's comment from those of others in the repository. A path
// from its root is most often one from here: both have one comment.
func (o reviewOptions) marker(target forge.Target) string {
	return forge.Marker(path.Join(o.folder(), o.fleetName(target)))
}

// folder of the fleet, as people call it; empty for the root.
func (o reviewOptions) folder() string { return strings.Trim(path.Clean("/"+o.path), "/") }

// fleetName is what the fleet's status is called.
func (o reviewOptions) fleetName(target forge.Target) string {
	last := path.Base(cmp.Or(o.folder(), target.Repository))
	return cmp.Or(o.name, strings.Trim(last, "./"), "fleet")
}

// tell sets the status of the head.
func (o reviewOptions) tell(ctx context.Context, p *printer, client *forge.Client, target forge.Target, state forge.State, text string) error {
	commit, err := commitOf(target.Head)
	if err != nil {
		return err
	}
	status := forge.Status{Context: forge.Context(o.fleetName(target), ""), State: state, Description: text, URL: target.Run}
	outcome, err := client.Status(ctx, commit, status)
	if err != nil {
		return err
	}
	p.note("status %s is %s: %s", status.Context, strings.ToLower(string(state)), strings.ToLower(string(outcome)))
	return nil
}

// broken returns an error, after it has told the forge that there is no verdict.
func (o reviewOptions) broken(ctx context.Context, p *printer, client *forge.Client, target forge.Target, err error, text string) error {
	if statusErr := o.tell(ctx, p, client, target, forge.Broken, text); statusErr != nil {
		return fmt.Errorf("%w; and the status does not say so: %w", err, statusErr)
	}
	return err
}

// commitOf is the whole hash of a revision.
func commitOf(revision string) (string, error) {
	if len(revision) >= 40 && strings.Trim(revision, "0123456789abcdef") == "" {
		return revision, nil // also where there is no copy of it
	}
	local, err := source.OpenLocal(".")
	if err != nil {
		return "", explained(err)
	}
	commit, err := local.MergeBase(revision, revision)
	return commit, explained(err)
}

// verdict is what a review comes to.
type verdict struct {
	state    forge.State
	headline string
	// text for a terminal, and markdown for a comment of at most so many characters.
	text     string
	markdown func(limit int) string
	// sides that were compared, as people call them.
	base, head string
	// nothing says that there is no difference.
	nothing bool
}

// err ends the command: a change that something stops is a problem.
func (v verdict) err() error {
	if v.state == forge.Success {
		return nil
	}
	return errProblems
}

// comment is the whole comment.
func (v verdict) comment(target forge.Target, folder string, limit int) string {
	foot := "\n<sub>"
	if folder != "" {
		foot += fmt.Sprintf("fleet `%s`, ", strings.ReplaceAll(folder, "`", "'"))
	}
	foot += fmt.Sprintf("`%s` to `%s`", shortRevision(v.base), shortRevision(v.head))
	if target.Run != "" {
		foot += fmt.Sprintf(", [whole report](%s)", target.Run)
	}
	foot += "</sub>\n"
	limit -= len(foot)
	return forge.Fit(v.markdown(limit), limit, target.Run) + foot
}

// shortRevision is a revision as people read it.
func shortRevision(revision string) string {
	if len(revision) >= 40 && strings.Trim(revision, "0123456789abcdef") == "" {
		return revision[:8]
	}
	return strings.ReplaceAll(revision, "`", "'")
}

// judge renders and compares both sides. A head that does not render is a verdict,
// not an error. A fleet that is not touched is not rendered: it is as good as it
// was, and holds up no change of another.
func (o reviewOptions) judge(ctx context.Context, p *printer, target forge.Target) (verdict, error) {
	base, err := mergeBase([2]string{target.Base, target.Head})
	if err != nil {
		return verdict{}, err
	}
	v := verdict{state: forge.Success, base: base, head: target.Head}
	same, err := sameFolder(base, target.Head, o.path)
	if err != nil {
		return verdict{}, err
	}
	if same {
		nothing := func(name string) diff.Side { return diff.Side{Name: name, Fleet: &fleet.Fleet{}} }
		return o.report(v, judged(nothing(base), nothing(target.Head)))
	}
	r := sideRenderer{p: p, from: o.fetch}
	before, baseErr := o.side(ctx, &r, base, plan.Observed{})
	observed := plan.Observed{}
	switch {
	case baseErr == nil:
		observed = runs(before)
	case isNew(before, baseErr):
		before, baseErr = diff.Side{Name: before.Name, Fleet: &fleet.Fleet{}}, nil
	case !invalid(before):
		return verdict{}, baseErr
	}
	after, err := o.side(ctx, &r, target.Head, observed)
	switch {
	case err == nil && baseErr == nil:
		return o.report(v, judged(before, after))
	case err == nil:
		v.say("🟢", "valid again", "The fleet was not valid before this change, so there is nothing to compare with:", before.Problems.Errors())
	case invalid(after):
		v.state = forge.Failure
		v.say("⛔", counted(len(after.Problems.Errors()), "problem"), "The fleet is not valid after this change, so nothing of it would be delivered:", after.Problems.Errors())
	default:
		return verdict{}, err
	}
	return v, nil
}

// side loads and renders the fleet at a revision. A folder that is not there is a
// problem like others.
func (o reviewOptions) side(ctx context.Context, r *sideRenderer, revision string, observed plan.Observed) (diff.Side, error) {
	loaded, err := loadSide(revision, o.path)
	if source.ReasonOf(err) == source.ReasonPathNotFound {
		problem := fleet.Problem{Severity: fleet.SeverityError, Message: err.Error(), Hint: "is --path right?"}
		return diff.Side{Name: loaded.name, Problems: fleet.Problems{problem}}, err
	}
	if err != nil {
		return diff.Side{}, err
	}
	return r.render(ctx, loaded, observed)
}

// invalid tells a side with problems from one that could not be looked at.
func invalid(side diff.Side) bool { return len(side.Problems.Errors()) > 0 }

// isNew tells of a side that it has no fleet yet.
func isNew(side diff.Side, err error) bool {
	found := side.Problems.Errors()
	return source.ReasonOf(err) == source.ReasonPathNotFound || len(found) == 1 && found[0].Reason == fleet.ReasonEmptyFleet
}

// report is the verdict of a change that could be compared.
func (o reviewOptions) report(v verdict, r diff.Report) (verdict, error) {
	v.text = r.Text(diff.TextOptions{})
	v.headline, _, _ = strings.Cut(v.text, "\n")
	v.markdown, v.nothing = r.Markdown, r.Empty()
	if r.Blocked() {
		v.state = forge.Failure
		v.headline += ": a policy is violated"
	}
	if o.htmlFile == "" {
		return v, nil
	}
	page, err := r.HTML()
	if err != nil {
		return v, err
	}
	return v, os.WriteFile(o.htmlFile, []byte(page), 0o644)
}

// say makes a verdict of problems: they are code to a forge, so that what they quote
// is shown and not acted on.
func (v *verdict) say(mark, headline, why string, problems fleet.Problems) {
	v.headline, v.text = headline, headline+"\n"
	var b strings.Builder
	for _, problem := range problems {
		b.WriteString(problemText(problem, false) + "\n")
		if problem.Hint != "" {
			b.WriteString("  hint: " + escape(problem.Hint) + "\n")
		}
	}
	const fence = "````"
	v.markdown = func(int) string {
		return fmt.Sprintf("### %s isthmus: %s\n\n%s\n\n%stext\n%s%s\n", mark, headline, why, fence, strings.ReplaceAll(b.String(), fence, "'''"), fence)
	}
}
