package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

type renderOptions struct {
	output  string
	members []string
	fetch   fetchFlags
}

func newRender(p *printer) *cobra.Command {
	var opts renderOptions
	cmd := &cobra.Command{
		Use:   "render PATH -o DIR",
		Short: "Write one Kustomize bundle per member",
		Long: `Render the fleet in the folder PATH and write the bundles to DIR:

  releases/<release>/   what is the same for every member on that release
  members/<member>/     what one member runs; kustomize build gives its objects

The same fleet gives the same bytes. A fleet with a problem writes nothing.
DIR must be empty or hold an earlier render; files of an earlier render that
are no longer part of the fleet are removed, other files are left alone.`,
		Example: "  isthmus render fleet-example -o out\n  isthmus render . -o out --member eastus-1",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			return render(cmd.Context(), p, args[0], opts)
		},
	}
	cmd.Flags().StringVarP(&opts.output, "output", "o", "", "folder to write the bundles to (required)")
	cmd.Flags().StringSliceVar(&opts.members, "member", nil, "write only this member; may be repeated")
	_ = cmd.MarkFlagDirname("output")
	opts.fetch.add(cmd)
	return cmd
}

func render(ctx context.Context, p *printer, path string, opts renderOptions) error {
	if opts.output == "" {
		return withHint(fmt.Errorf("no output folder given"), "name it with -o DIR")
	}
	found, err := renderFolder(ctx, p, path, opts.fetch)
	if err != nil {
		return err
	}
	p.noteProblems(found.problems)
	if n := len(found.problems.Errors()); n > 0 {
		p.note("nothing rendered: %s", counted(n, "problem"))
		return errProblems
	}
	bundles, err := selectMembers(found.bundles, found.fleet, opts.members)
	if err != nil {
		return err
	}
	return writeBundles(p, bundles, opts)
}

// selectMembers keeps the bundles of the named members; without names, all.
func selectMembers(bundles []bundle.Bundle, loaded *fleet.Fleet, names []string) ([]bundle.Bundle, error) {
	if len(names) == 0 {
		return bundles, nil
	}
	for _, name := range names {
		if loaded.Member(name) == nil {
			return nil, withHint(fmt.Errorf("no member %q in the fleet", name), "the fleet has "+memberNames(loaded))
		}
	}
	return slices.DeleteFunc(slices.Clone(bundles), func(b bundle.Bundle) bool {
		return !slices.Contains(names, b.Member)
	}), nil
}

// memberNames lists the first members of a fleet.
func memberNames(loaded *fleet.Fleet) string {
	const shown = 10
	if len(loaded.Members) == 0 {
		return "no members"
	}
	var names []string
	for _, member := range loaded.Members[:min(shown, len(loaded.Members))] {
		names = append(names, member.Name)
	}
	if more := len(loaded.Members) - shown; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func writeBundles(p *printer, bundles []bundle.Bundle, opts renderOptions) error {
	files, err := bundle.Files(bundles)
	if err != nil {
		return fmt.Errorf("lay out the bundles: %w", err)
	}
	folder, err := openOutput(opts.output)
	if err != nil {
		return err
	}
	defer folder.close()
	edit, err := folder.edit(files, renderScope(bundles, len(opts.members) > 0))
	if err != nil {
		return err
	}
	if err := folder.apply(edit); err != nil {
		return err
	}
	rows := make([][]string, 0, len(bundles))
	for _, b := range bundles {
		rows = append(rows, []string{b.Member, counted(len(b.Objects), "object"), shortDigest(b.Digest), edit.state(b)})
	}
	p.table(rows)
	for _, member := range edit.removedMembers(bundles) {
		p.note("removed members/%s", member)
	}
	p.note("rendered %s to %s", counted(len(bundles), "member"), opts.output)
	return nil
}

// renderScope says which files a render may remove: all of an earlier render,
// or, when only some members are written, those of these members.
func renderScope(bundles []bundle.Bundle, partial bool) func(path string) bool {
	if !partial {
		return func(string) bool { return true }
	}
	return func(path string) bool {
		return slices.ContainsFunc(bundles, func(b bundle.Bundle) bool {
			return strings.HasPrefix(path, memberFolder(b.Member))
		})
	}
}

// shortDigest is the algorithm and the first eight characters.
func shortDigest(digest string) string {
	algorithm, sum, found := strings.Cut(digest, ":")
	if !found || len(sum) < 8 {
		return digest
	}
	return algorithm + ":" + sum[:8]
}
