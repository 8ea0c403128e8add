package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

func newTrust(p *printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Look at the CAs of networks, and have roots signed by your PKI",
		Args:  cobra.ArbitraryArgs,
		RunE:  helpOnly,
	}
	cmd.AddCommand(newTrustShow(p), newTrustCSR(p), newTrustImport(p))
	return cmd
}

// maxImport bounds a file of certificates, in bytes.
const maxImport = 256 << 10

// vaultFlags say where the vault is.
type vaultFlags struct{ directory, identity string }

func (f *vaultFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.directory, "vault", "", "folder of the vault of networks whose vault is a Directory")
	cmd.Flags().StringVar(&f.identity, "vault-identity", "", "file with the age identity that the folder is encrypted by")
	_ = cmd.MarkFlagDirname("vault")
}

// open returns the CAs of a network of the fleet in a folder, and what Git says of
// them.
func (f *vaultFlags) open(ctx context.Context, p *printer, name, path string) (*trust.Authority, trust.Policy, error) {
	loaded, problems, err := loadFolder(path)
	if err != nil {
		return nil, trust.Policy{}, err
	}
	if len(problems.Errors()) > 0 {
		p.noteProblems(problems)
		return nil, trust.Policy{}, errProblems
	}
	var network *v1alpha1.ApplicationNetwork
	for _, each := range loaded.Networks {
		if each.Name == name {
			network = each
		}
	}
	if network == nil {
		return nil, trust.Policy{}, withHint(fmt.Errorf("no network %q in the fleet", name), "see the names in "+path)
	}
	if f.directory != "" {
		// The vault of a typing error would be a new one, with a key of its own.
		if _, err := os.Stat(f.directory); err != nil {
			return nil, trust.Policy{}, withHint(fmt.Errorf("open vault: %w", err), "name the folder that the reconciler has with --vault")
		}
	}
	authority, err := reconciler.OpenTrust(ctx, network, f.directory, f.identity)
	if err != nil {
		return nil, trust.Policy{}, err
	}
	return authority, reconciler.TrustPolicy(network), nil
}

func newTrustCSR(p *printer) *cobra.Command {
	var vault vaultFlags
	cmd := &cobra.Command{
		Use:   "csr NETWORK [PATH]",
		Short: "Print a request for the network's next root CA",
		Long: `Print, as PEM, the request for the next root CA of a network whose roots your own
PKI signs (spec.trust.root.issuer is External), of the fleet in the folder PATH
(here, without one). Its key is made in the vault by the first request and never
leaves it. A vault in Azure is logged in to as the fleet says.`,
		Example: "  isthmus trust csr prod fleet-example > prod.csr",
		Args:    hintArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			authority, policy, err := vault.open(cmd.Context(), p, args[0], pathOf(args[1:]))
			if err != nil {
				return err
			}
			request, err := authority.CSR(cmd.Context(), policy)
			if err != nil {
				return err
			}
			p.note("request for generation %d of the root CA of network %s", request.Generation, args[0])
			p.write(string(request.PEM))
			return nil
		},
	}
	vault.add(cmd)
	return cmd
}

func newTrustImport(p *printer) *cobra.Command {
	var vault vaultFlags
	cmd := &cobra.Command{
		Use:   "import NETWORK FILE [PATH]",
		Short: "Take the certificate of a root CA that your PKI has signed",
		Long: `Take the answer to a request of isthmus trust csr: FILE has the certificate of the
network's root CA and those of all CAs above it, as PEM in any order; "-" is stdin.
It is checked and becomes the network's next root, which members change over to
step by step. Importing it again changes nothing.`,
		Example: "  isthmus trust import prod chain.pem fleet-example",
		Args:    hintArgs(cobra.RangeArgs(2, 3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readImport(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			authority, policy, err := vault.open(cmd.Context(), p, args[0], pathOf(args[2:]))
			if err != nil {
				return err
			}
			root, err := authority.Import(cmd.Context(), policy, data)
			if err != nil {
				return err
			}
			p.answer("%s is generation %d of the root CA of network %s, until %s",
				root.Certificate.Subject, root.Generation, args[0], root.Certificate.NotAfter.UTC().Format(time.RFC3339))
			return nil
		},
	}
	vault.add(cmd)
	return cmd
}

func readImport(stdin io.Reader, file string) ([]byte, error) {
	from := stdin
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the certificates: %w", err)
		}
		defer opened.Close()
		from = opened
	}
	data, err := io.ReadAll(io.LimitReader(from, maxImport+1))
	if err != nil {
		return nil, fmt.Errorf("read the certificates: %w", err)
	}
	if len(data) > maxImport {
		return nil, fmt.Errorf("read the certificates: %q is larger than %d bytes", file, maxImport)
	}
	return data, nil
}

func pathOf(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}
