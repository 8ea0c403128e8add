package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitFine      = 0
	exitProblems  = 1
	exitCannotRun = 2
)

// errProblems ends a command whose answer, already printed, is that there are
// problems or a difference.
var errProblems = errors.New("problems found")

// hinted is an error with advice on what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// withHint adds advice to an error; a nil error stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return hinted{error: err, hint: hint}
}

// Main runs the command line and returns its exit code.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := newPrinter(stdout, stderr)
	root := newRoot(p)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case p.broken != nil:
		// Whoever reads the answer has gone; there is nobody to tell.
		return exitCannotRun
	case err == nil:
		return exitFine
	case errors.Is(err, errProblems):
		return exitProblems
	}
	p.note("%s", err.Error())
	var h hinted
	if errors.As(err, &h) {
		p.note("hint: %s", h.hint)
	}
	return exitCannotRun
}

func newRoot(p *printer) *cobra.Command {
	root := &cobra.Command{
		Use:   "isthmus",
		Short: "Join Kubernetes clusters into one Istio ambient mesh from Git",
		Long: `Join Kubernetes clusters into one Istio ambient mesh from Git.

The network and its member clusters are YAML in a Git repository. isthmus
checks it, renders one Kustomize bundle per member, applies the bundles and
corrects drift.

Exit codes: 0 fine, 1 problems or a difference, 2 could not run.`,
		Args:          cobra.ArbitraryArgs,
		RunE:          helpOnly,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(err, "see "+cmd.CommandPath()+" --help")
	})
	root.AddCommand(
		newInit(p),
		newValidate(p),
		newRender(p),
		newDiff(p),
		newReview(p),
		newUpgrade(p),
		newMember(p),
		newTrust(p),
		newRun(),
		newServices(p),
		newPeers(p),
		newStatus(p),
		newCatalog(p),
		newSchema(p),
		newVersion(p),
	)
	return root
}
