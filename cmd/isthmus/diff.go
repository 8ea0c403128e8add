package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/renderer/policy"
)

// The forms of a difference, beside text and JSON.
const (
	formatMarkdown = "markdown"
	formatHTML     = "html"
)

type diffOptions struct {
	format        string
	objects, yaml bool
	mergeBase     bool
	running       bool
	path          string
	hub           hubFlags
	fetch         fetchFlags
}

func newDiff(p *printer) *cobra.Command {
	opts := diffOptions{format: formatText}
	cmd := &cobra.Command{
		Use:   "diff [BASE] [HEAD]",
		Short: "Show what a change of the fleet does to each member",
		Long: `Show what the change from BASE to HEAD does to each member: what restarts, what
breaks, who is concerned, and how risky it is.

BASE and HEAD are folders, or revisions of the Git repository around the current
folder: a branch, a tag, HEAD~1, a hash. Without HEAD, BASE is compared with the
folder as it is now, changes that are not committed included. A name that is a
folder and a branch is the folder.

With --running, BASE is not given: it is the commit that the hub has accepted last,
which the repository here must have. The hub is read, no member is asked.

Otherwise no cluster is asked and no secret is needed. Exit codes as those of kubectl diff: 0
no difference, 1 a difference, 2 could not compare.`,
		Example: "  isthmus diff main\n  isthmus diff main HEAD --path fleets/prod -o markdown\n  isthmus diff before/ after/ --yaml",
		Args:    hintArgs(func(cmd *cobra.Command, args []string) error { return opts.checkArgs(cmd, args) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return showDiff(cmd.Context(), p, args, opts)
		},
	}
	cmd.Flags().StringVarP(&opts.format, "output", "o", formatText, "form of the answer: text, markdown, html or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{formatText, formatMarkdown, formatHTML, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&opts.path, "path", ".", "folder of the fleet in the repository; with a slash in front from its root, else from here")
	cmd.Flags().BoolVar(&opts.objects, "objects", false, "list the objects that change, too; text only")
	cmd.Flags().BoolVar(&opts.yaml, "yaml", false, "show them as YAML, too; text only")
	cmd.Flags().BoolVar(&opts.mergeBase, "merge-base", false, "compare with where HEAD began from BASE, as a pull request does")
	cmd.Flags().BoolVar(&opts.running, "running", false, "compare with what the hub has accepted, and say which members do not run it yet")
	opts.hub.add(cmd)
	opts.fetch.add(cmd)
	return cmd
}

// checkArgs: what runs stands for BASE.
func (o diffOptions) checkArgs(cmd *cobra.Command, args []string) error {
	if o.running {
		return cobra.MaximumNArgs(1)(cmd, args)
	}
	return cobra.RangeArgs(1, 2)(cmd, args)
}

func showDiff(ctx context.Context, p *printer, args []string, opts diffOptions) error {
	write, err := opts.writer(p)
	if err != nil {
		return err
	}
	report, err := compare(ctx, p, args, opts)
	if err != nil {
		return err
	}
	if err := write(report); err != nil {
		return err
	}
	if !report.Empty() {
		return errProblems
	}
	return nil
}

// writer is how a report is written.
func (o diffOptions) writer(p *printer) (func(diff.Report) error, error) {
	switch o.format {
	case formatText:
		return func(r diff.Report) error {
			p.lines(r.Text(diff.TextOptions{Objects: o.objects, YAML: o.yaml}))
			return nil
		}, nil
	case formatMarkdown:
		return func(r diff.Report) error { p.write(r.Markdown(0)); return nil }, nil
	case formatHTML:
		return func(r diff.Report) error {
			page, err := r.HTML()
			p.write(page)
			return err
		}, nil
	case formatJSON:
		return func(r diff.Report) error { return p.json(r) }, nil
	}
	return nil, withHint(fmt.Errorf("unknown output format %q", o.format), "use -o text, markdown, html or json")
}

// compare loads, renders and compares both sides.
func compare(ctx context.Context, p *printer, args []string, opts diffOptions) (diff.Report, error) {
	var now running
	if opts.running {
		var err error
		if now, err = readRunning(ctx, opts.hub); err != nil {
			return diff.Report{}, err
		}
		args = append([]string{now.commit}, args...)
	}
	base, head, err := sides(args, opts)
	if err != nil {
		return diff.Report{}, err
	}
	r := sideRenderer{p: p, from: opts.fetch}
	before, err := r.render(ctx, base, now.observed)
	if err != nil {
		return diff.Report{}, err
	}
	after, err := r.render(ctx, head, now.over(runs(before)))
	if err != nil {
		return diff.Report{}, err
	}
	report := judged(before, after)
	report.Behind = now.behind(before)
	report.OnNodes(now.nodes())
	return report, nil
}

// judged is what a change does, and which policies it violates.
func judged(before, after diff.Side) diff.Report {
	report := diff.Compare(before, after)
	report.Findings = policy.Check(before, after, report)
	return report
}

// runs is what members run before the change: the rules for steps between releases
// hold from there, and a member without a version keeps it.
func runs(before diff.Side) plan.Observed {
	observed := plan.Observed{Members: map[string]plan.Seen{}, TrustDomains: map[string]string{}}
	for _, d := range before.Decisions {
		observed.Members[d.Member.Name] = plan.Seen{Release: d.Release.Version}
		observed.TrustDomains[d.Network.Name] = d.Network.Spec.Trust.Domain
	}
	return observed
}

// loadedSide is a fleet as loaded.
type loadedSide struct {
	name     string
	fleet    *fleet.Fleet
	problems fleet.Problems
}

// sides loads what the arguments name.
func sides(args []string, opts diffOptions) (base, head loadedSide, err error) {
	names := [2]string{args[0], ""}
	if len(args) > 1 {
		names[1] = args[1]
	}
	if opts.mergeBase {
		if names[0], err = mergeBase(names); err != nil {
			return base, head, err
		}
	}
	if names[1] == "" {
		names[1] = "./" + strings.TrimPrefix(opts.path, "./")
	}
	if base, err = loadSide(names[0], opts.path); err != nil {
		return base, head, err
	}
	head, err = loadSide(names[1], opts.path)
	return base, head, err
}

func mergeBase(names [2]string) (string, error) {
	local, err := source.OpenLocal(".")
	if err != nil {
		return "", explained(err)
	}
	if names[1] == "" {
		names[1] = "HEAD"
	}
	commit, err := local.MergeBase(names[0], names[1])
	return commit, explained(err)
}

// sameFolder says whether two revisions have the same fleet, file by file.
func sameFolder(before, after, path string) (bool, error) {
	local, err := source.OpenLocal(".")
	if err != nil {
		return false, explained(err)
	}
	same, err := local.Same(before, after, path)
	return same, explained(err)
}

// loadSide loads a folder, or a revision.
func loadSide(name, path string) (loadedSide, error) {
	side := loadedSide{name: name}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		side.fleet, side.problems, err = loadFolder(name)
		return side, err
	}
	local, err := source.OpenLocal(".")
	if err != nil {
		return side, withHint(fmt.Errorf("%q is no folder, and there is no Git repository here to look it up in", name), "name a folder, or run this in a checkout")
	}
	snapshot, err := local.Snapshot(name, path)
	if err != nil {
		return side, explained(err)
	}
	if short := snapshot.Commit[:8]; !strings.HasPrefix(name, short) {
		side.name = name + " (" + short + ")"
	}
	side.fleet, side.problems = fleet.Load(snapshot.FS)
	return side, nil
}

// explained has the hint of an error of a repository shown as ours are.
func explained(err error) error {
	var e *source.Error
	if errors.As(err, &e) && e.Hint != "" {
		return withHint(err, e.Hint)
	}
	return err
}

// sideRenderer renders sides; those of one catalog share what they have in common.
type sideRenderer struct {
	p        *printer
	from     fetchFlags
	renderer *renderer.Renderer
	// needs of the fleet, beyond the built-in catalog, that the renderer has.
	needs string
}

func (r *sideRenderer) render(ctx context.Context, side loadedSide, observed plan.Observed) (diff.Side, error) {
	out := diff.Side{Name: side.name, Fleet: side.fleet, Problems: side.problems}
	if side.fleet != nil {
		complete, problems, err := r.from.complete(ctx, r.p, side.fleet)
		if err != nil {
			return out, err
		}
		out.Problems = append(out.Problems, problems...)
		if complete != nil {
			needs := plan.Needs(side.fleet, catalog.Builtin(), plan.Observed{}).Key()
			if r.renderer == nil || r.needs != needs {
				r.needs, r.renderer = needs, renderer.New(complete)
			}
			result, err := r.renderer.Render(side.fleet, observed)
			if err != nil {
				return out, fmt.Errorf("render %q: %w", side.name, err)
			}
			out.Decisions, out.Bundles = result.Decisions, result.Bundles
			out.Problems = append(out.Problems, result.Problems...)
		}
	}
	out.Problems.Sort()
	if n := len(out.Problems.Errors()); n > 0 {
		r.p.noteProblems(out.Problems.Errors())
		return out, fmt.Errorf("%q has %s: nothing to compare", side.name, counted(n, "problem"))
	}
	return out, nil
}
