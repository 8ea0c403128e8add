package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet"
)

func newValidate(p *printer) *cobra.Command {
	var (
		format string
		strict bool
		from   fetchFlags
	)
	cmd := &cobra.Command{
		Use:   "validate PATH",
		Short: "Print every problem of a fleet",
		Long: `Print every problem of the fleet in the folder PATH, one per line:

  file:line: path: message
    hint: what to do

Files are named relative to PATH. The fleet is also rendered, in memory, so
that what only shows then is found too. Warnings alone exit with 0, or with 1
when --strict is set.`,
		Example: "  isthmus validate fleet-example\n  isthmus validate . --strict -o json",
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			found, err := validate(cmd.Context(), p, args[0], format, from)
			if err == nil && strict && len(found) > 0 {
				return errProblems
			}
			return err
		},
	}
	formatFlag(cmd, &format)
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 for warnings too")
	from.add(cmd)
	return cmd
}

// validate prints every problem of a fleet and returns them.
func validate(ctx context.Context, p *printer, path, format string, from fetchFlags) (fleet.Problems, error) {
	found, err := renderFolder(ctx, p, path, from)
	if err != nil {
		return nil, err
	}
	if format == formatJSON {
		if err := p.json(newProblemList(found.problems)); err != nil {
			return nil, err
		}
	} else {
		p.problems(found.problems)
	}
	p.note("%s", summary(found.fleet, found.problems))
	if len(found.problems.Errors()) > 0 {
		return found.problems, errProblems
	}
	return found.problems, nil
}

// summary says in one line what was looked at and how many problems it has.
func summary(loaded *fleet.Fleet, problems fleet.Problems) string {
	found := counted(len(problems.Errors()), "problem")
	if n := len(problems.Warnings()); n > 0 {
		found += " and " + counted(n, "warning")
	}
	if loaded == nil {
		return found
	}
	return fmt.Sprintf("%s in %s: %s",
		counted(len(loaded.Members), "member"), counted(len(loaded.Networks), "network"), found)
}

// counted is "no problems", "1 problem", "2 problems".
func counted(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
