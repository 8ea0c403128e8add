package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/propose"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/renderer/upgrade"
)

func newUpgrade(p *printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Propose other releases for what the fleet writes",
		Args:  cobra.ArbitraryArgs,
		RunE:  helpOnly,
	}
	cmd.AddCommand(newPropose(p))
	return cmd
}

type proposeOptions struct {
	forgeFlags
	path, base, remote string
	author, network    string
	format             string
	days               int
	again, dryRun      bool
	fetch              fetchFlags
}

func newPropose(p *printer) *cobra.Command {
	var opts proposeOptions
	cmd := &cobra.Command{
		Use:   "propose",
		Short: "Open pull requests for new releases, and for those that end",
		Long: `Open a pull request for each version that the fleet writes and that has a newer
patch, has reached its end of life or is about to, or has known faults that the next
minor lacks. One line changes in each, and its text is what "isthmus diff" says of it.

In a CI job, or with --forge, --api-url and --repository, the fleet is read from the
base branch on the forge, whatever is checked out here. Run it again, on a schedule:
pull requests are brought up to date, and closed when nothing of them is left. A branch
that a person committed to is left alone, and a pull request that was closed is not
opened again for the same version. The token is read from ISTHMUS_FORGE_TOKEN or the CI
system's own variable; it has to be allowed to push branches and open pull requests.

Without a forge, what would be proposed for the folder here is printed, and no more.`,
		Example: "  isthmus upgrade propose\n  isthmus upgrade propose --path fleets/prod --days 60 --dry-run",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(opts.format); err != nil {
				return err
			}
			return proposeUpgrades(cmd.Context(), p, opts)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.path, "path", ".", "folder of the fleet in the repository; with a slash in front from its root, else from here")
	flags.StringVar(&opts.base, "base", "", "branch that pull requests go to (default: the repository's)")
	flags.StringVar(&opts.remote, "remote", "", "https:// URL of the repository for Git, where it is not that of the API's host")
	flags.StringVar(&opts.author, "author", "isthmus <noreply@isthmus.dev>", "who commits")
	flags.StringVar(&opts.network, "network", "", "propose for this network alone")
	flags.IntVar(&opts.days, "days", 30, "propose the next minor so many days before a release's end of life")
	flags.BoolVar(&opts.again, "again", false, "propose again what people have closed")
	flags.BoolVar(&opts.dryRun, "dry-run", false, "print what would be written, and write nothing")
	formatFlag(cmd, &opts.format)
	opts.forgeFlags.add(cmd)
	opts.fetch.add(cmd)
	return cmd
}

// proposalList is the JSON form of what is proposed.
type proposalList struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Items      []proposalReport `json:"items"`
}

type proposalReport struct {
	upgrade.Proposal
	// Risk that the diff tells.
	Risk string `json:"risk,omitempty"`
	// Branch, PullRequest and URL are where it is proposed; Outcome is what was done
	// there, or with --dry-run would be, and Note why nothing was.
	Branch      string          `json:"branch,omitempty"`
	PullRequest int             `json:"pullRequest,omitempty"`
	URL         string          `json:"url,omitempty"`
	Outcome     propose.Outcome `json:"outcome,omitempty"`
	Note        string          `json:"note,omitempty"`
	// Body of the pull request; with --dry-run alone.
	Body string `json:"body,omitempty"`
}

// proposeUpgrades proposes on a forge, or only says what it would.
func proposeUpgrades(ctx context.Context, p *printer, opts proposeOptions) error {
	target, remote, err := opts.detect()
	if err != nil {
		return err
	}
	if !remote {
		return opts.local(ctx, p)
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return opts.onForge(ctx, p, target)
}

// proposeTimeout is how long all of it may take.
const proposeTimeout = 15 * time.Minute

// detect says where to propose; remote is false if only the folder here is looked at.
func (o proposeOptions) detect() (target forge.Target, remote bool, err error) {
	given, env := o.given(), environment()
	if given.Forge == "" && !env.CI() {
		return target, false, nil
	}
	given.Head = "HEAD" // nothing of it is looked at
	target, err = forge.Detect(env, given)
	if err != nil && o.dryRun {
		return target, false, nil // no token, say: then the folder has to do
	}
	return target, err == nil, withHint(err, "see isthmus upgrade propose --help for the flags that say it; --dry-run needs none")
}

// local prints what would be proposed for the folder here.
func (o proposeOptions) local(ctx context.Context, p *printer) error {
	folder, err := o.here()
	if err != nil {
		return err
	}
	root, err := openFleet(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	found, err := o.find(ctx, p, root.FS(), folder)
	if err != nil {
		return err
	}
	reports := make([]proposalReport, len(found))
	for i, f := range found {
		reports[i] = f.describe(o.dryRun)
	}
	if err := o.print(p, reports, false); err != nil {
		return err
	}
	if !o.dryRun {
		p.note("nothing is opened: no forge was found; run this in a CI job, or name one by --forge, --api-url and --repository")
	}
	return nil
}

// here is the folder of the fleet, from where the command runs.
func (o proposeOptions) here() (string, error) {
	if !strings.HasPrefix(o.path, "/") {
		return o.path, nil
	}
	local, err := source.OpenLocal(".")
	if err != nil {
		return "", explained(err)
	}
	up := "."
	if depth := local.Folder(); depth != "" {
		up = strings.Repeat("../", strings.Count(depth, "/")+1)
	}
	return filepath.Join(up, filepath.FromSlash(path.Clean(o.path)[1:])), nil
}

// folder of the fleet in the repository; empty for its root.
func (o proposeOptions) folder() string {
	folder := o.path
	if local, err := source.OpenLocal("."); err == nil && !strings.HasPrefix(folder, "/") {
		folder = path.Join(local.Folder(), folder)
	}
	return path.Clean("/" + folder)[1:]
}

// print writes a table, or JSON.
func (o proposeOptions) print(p *printer, reports []proposalReport, forged bool) error {
	if o.format == formatJSON {
		return p.json(proposalList{APIVersion: v1alpha1.GroupVersion.String(), Kind: "UpgradeProposalList", Items: reports})
	}
	if len(reports) == 0 {
		p.note("nothing to propose")
		return nil
	}
	rows := [][]string{{"WHERE", "FROM", "TO", "WHY"}}
	if forged {
		rows[0] = append(rows[0], "PULL REQUEST")
	}
	for _, r := range reports {
		for _, d := range r.Documents {
			row := []string{d.String(), r.From, r.To, strings.TrimSuffix(r.Why[0], ".")}
			if forged {
				row = append(row, r.pullRequest(o.dryRun))
			}
			rows = append(rows, row)
		}
	}
	p.table(rows)
	for _, r := range reports {
		if r.Held != "" {
			p.note("%s to %s is held: %s", r.Documents[0], r.To, r.Held)
		}
		if r.Note != "" {
			p.note("%s", r.Note)
		}
		if r.Body != "" {
			p.answer("")
			p.answer("%s", r.Title())
			p.answer("")
			p.write(r.Body)
		}
	}
	return nil
}

// pullRequest says in few words what became of it.
func (r proposalReport) pullRequest(dryRun bool) string {
	if r.Held != "" {
		return "held"
	}
	words := strings.ToLower(string(r.Outcome))
	switch {
	case r.Outcome == propose.LeftAlone:
		words = "left alone"
	case dryRun && (r.Outcome == propose.Created || r.Outcome == propose.Updated):
		words = "would be " + words
	}
	if r.PullRequest != 0 {
		words = fmt.Sprintf("%d %s", r.PullRequest, words)
	}
	return words
}

// onForge proposes for the base branch on a forge.
func (o proposeOptions) onForge(ctx context.Context, p *printer, target forge.Target) error {
	by, err := mail.ParseAddress(o.author)
	if err != nil || by.Name == "" {
		return withHint(fmt.Errorf("--author %q is not a name and an address", o.author), `write --author "NAME <MAIL>"`)
	}
	client, err := o.client(target)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "isthmus-propose-")
	if err != nil {
		return fmt.Errorf("make a folder for a copy of the repository: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r, err := o.open(ctx, target, dir)
	if err != nil {
		return err
	}
	r.session.Forge = client
	r.session.By = source.Person{Name: by.Name, Email: by.Address, When: time.Now().UTC().Truncate(time.Second)}
	where := cmp.Or(r.session.Folder, "the root")
	p.note("reading %s of branch %s at %s from %s", where, r.session.Base, shortRevision(r.session.Commit), r.access.URL)
	found, err := o.find(ctx, p, r.fleet, fmt.Sprintf("%s (%s)", r.session.Base, r.session.Commit[:8]))
	if err != nil {
		return err
	}
	reports, err := r.proposeAll(ctx, found, o.dryRun)
	if err != nil {
		return errors.Join(o.print(p, reports, true), r.explained(err))
	}
	if err := o.print(p, reports, true); err != nil || o.network != "" {
		return err
	}
	return o.withdraw(ctx, p, r, found)
}

// withdraw closes what is not proposed any more. With --network the others are not
// known, and stay.
func (o proposeOptions) withdraw(ctx context.Context, p *printer, r remoteFleet, found []foundUpgrade) error {
	var keep []string
	for _, f := range found {
		keep = append(keep, f.ID())
	}
	gone, err := r.session.Withdraw(ctx, keep)
	for _, each := range gone {
		switch {
		case each.Why != "":
			p.note("pull request %d: %s", each.Pull, each.Why)
		case o.dryRun:
			p.note("pull request %d would be closed: nothing of it is left to propose", each.Pull)
		default:
			p.note("pull request %d is closed: nothing of it is left to propose", each.Pull)
		}
	}
	return r.explained(err)
}

// remoteFleet is a fleet on the base branch of a forge.
type remoteFleet struct {
	session propose.Session
	access  forge.GitAccess
	fleet   fs.FS
}

// open fetches the base branch, and looks which others there are.
func (o proposeOptions) open(ctx context.Context, target forge.Target, dir string) (remoteFleet, error) {
	var r remoteFleet
	var err error
	if r.access, err = forge.Git(target, forge.Token(os.Getenv(target.TokenVariable)), o.remote); err != nil {
		return r, err
	}
	ca, err := o.ca()
	if err != nil {
		return r, err
	}
	open := func(branch string) (*source.Repository, error) {
		return source.Open(dir, source.Options{
			Key: branch, URL: r.access.URL, Path: o.folder(), Reference: source.Reference{Branch: branch},
			Credentials: source.Credentials{Username: r.access.Username, Password: string(r.access.Password), BearerToken: string(r.access.Bearer), CA: ca},
		})
	}
	any, err := open("")
	if err != nil {
		return r, r.explained(err)
	}
	branches, err := any.Branches(ctx)
	if err != nil {
		return r, r.explained(err)
	}
	s := &r.session
	s.Folder, s.Heads, s.Again, s.DryRun = o.folder(), branches.Heads, o.again, o.dryRun
	s.Base = cmp.Or(o.base, branches.Default, "main")
	if s.Copy, err = open(s.Base); err != nil {
		return r, r.explained(err)
	}
	head, err := s.Copy.Fetch(ctx, "")
	if err != nil {
		return r, r.explained(err)
	}
	s.Commit = head.Commit
	snapshot, err := s.Copy.Snapshot(head.Commit)
	if err != nil {
		return r, r.explained(err)
	}
	r.fleet = snapshot.FS
	s.Head = func(ctx context.Context, branch string) (source.Commit, error) {
		copied, err := open(branch)
		if err != nil {
			return source.Commit{}, err
		}
		head, err := copied.Fetch(ctx, "")
		if err != nil {
			return source.Commit{}, err
		}
		return copied.Commit(head.Commit)
	}
	return r, nil
}

// explained gives an error of Git the hint that fits a command: what the package says
// is about objects of the hub.
func (r remoteFleet) explained(err error) error {
	var e *source.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Reason {
	case source.ReasonCredentialsRejected, source.ReasonNotFound:
		return withHint(err, "is the token of this forge, and not expired? It needs "+r.access.Needs)
	case source.ReasonPathNotFound:
		return withHint(err, "is --path right?")
	case source.ReasonBranchNotFound:
		return withHint(err, "is --base right?")
	case source.ReasonBranchMoved, source.ReasonPushRejected, source.ReasonEmpty:
		return explained(err)
	}
	return withHint(err, "look whether Git reaches it: git ls-remote "+r.access.URL)
}

// proposeAll brings proposals to the forge, one after another.
func (r remoteFleet) proposeAll(ctx context.Context, found []foundUpgrade, dryRun bool) ([]proposalReport, error) {
	var out []proposalReport
	for _, f := range found {
		report := f.describe(false)
		report.Branch = r.session.Branch(f.ID())
		if f.Held == "" {
			text := f.text(r.session.Base, r.session.Commit)
			result, err := r.session.Propose(ctx, propose.Proposal{
				ID: f.ID(), Version: f.To, Title: f.Title(), Text: strings.Join(f.Why, "\n"), Files: f.files,
				Body: text.body, Report: text.fitted,
			})
			if err != nil {
				return out, fmt.Errorf("propose %s for %s: %w", f.ToRelease, f.Documents[0], err)
			}
			report.PullRequest, report.URL, report.Outcome, report.Note = result.Pull, result.URL, result.Outcome, result.Why
			if stopped := slices.Contains([]propose.Outcome{propose.Declined, propose.LeftAlone}, result.Outcome); dryRun && !stopped {
				report.Body = text.body(r.session.Forge.PullLimit(), false)
			}
		}
		out = append(out, report)
	}
	return out, nil
}
