package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/reconciler/rights"
)

func newMember(p *printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: "Prepare a cluster to be a member",
		Args:  cobra.ArbitraryArgs,
		RunE:  helpOnly,
	}
	cmd.AddCommand(newMemberRBAC(p))
	return cmd
}

type rbacOptions struct {
	namespace string
	fetch     fetchFlags
}

func newMemberRBAC(p *printer) *cobra.Command {
	var opts rbacOptions
	cmd := &cobra.Command{
		Use:   "rbac NAME [PATH]",
		Short: "Print the rights that isthmus needs on a member",
		Long: `Render the member NAME of the fleet in the folder PATH (here, without one) and
print, as YAML for its admin, a ServiceAccount with the rights that isthmus
needs on it and no others, and how to give its token to the hub.

The rights follow the member's bundle. Apply them again before a change that
brings another namespace, gateway or cluster-wide object.`,
		Example: "  isthmus member rbac eastus-1 fleet-example | kubectl --context eastus-1 apply -f -",
		Args:    hintArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "."
			if len(args) == 2 {
				path = args[1]
			}
			return memberRBAC(cmd.Context(), p, args[0], path, opts)
		},
	}
	cmd.Flags().StringVar(&opts.namespace, "namespace", "isthmus-access", "namespace of the ServiceAccount on the member")
	opts.fetch.add(cmd)
	return cmd
}

func memberRBAC(ctx context.Context, p *printer, name, path string, opts rbacOptions) error {
	if faults := validation.IsDNS1123Label(opts.namespace); len(faults) > 0 {
		return withHint(fmt.Errorf("%q cannot be a namespace", opts.namespace), faults[0])
	}
	found, err := renderFolder(ctx, p, path, opts.fetch)
	if err != nil {
		return err
	}
	p.noteProblems(found.problems)
	if len(found.problems.Errors()) > 0 {
		return errProblems
	}
	bundles, err := selectMembers(found.bundles, found.fleet, []string{name})
	if err != nil {
		return err
	}
	if len(bundles) == 0 {
		return withHint(fmt.Errorf("the member %q has no bundle", name), "see isthmus validate "+path)
	}
	manifest, err := rights.Of(bundles[0]).Manifest(name, opts.namespace)
	if err != nil {
		return fmt.Errorf("write the rights: %w", err)
	}
	p.write(manifest)
	return nil
}
