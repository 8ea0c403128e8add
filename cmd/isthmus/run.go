package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/fluxcd/pkg/runtime/logger"
	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/reconciler"
)

type runOptions struct {
	hub        hubFlags
	log        logger.Options
	fetch      fetchFlags
	reconciler reconciler.Options
}

func newRun() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the reconciler",
		Long: `Run the reconciler: follow the repositories of the fleets in one namespace of
the hub, deliver what they say to their members, and put drift back. It writes
a log to stderr and ends on SIGTERM or ctrl-C, after what is under way. Several
replicas share the members; one that is lost is replaced within half a minute.`,
		Example: "  isthmus run --vault /var/lib/isthmus/vault\n  isthmus run --kubeconfig hub.yaml --vault ./vault --leader-elect=false",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runReconciler(cmd.Context(), opts)
		},
	}
	opts.hub.add(cmd)
	opts.log.BindFlags(cmd.Flags())
	r, flags := &opts.reconciler, cmd.Flags()
	flags.StringVar(&r.VaultDirectory, "vault", "", "folder with the CA keys of networks whose vault is a Directory; without it there may be none")
	flags.StringVar(&r.VaultIdentity, "vault-identity", "", "file with the age identity that the folder of --vault is encrypted by (default: it is not)")
	flags.StringVar(&r.CacheDirectory, "cache", defaultCache(), "folder for copies of repositories, charts and CRDs; may be lost at any time")
	opts.fetch.addProxy(cmd)
	flags.StringVar(&r.RegistryConfig, "registry-config", "", "docker config.json with credentials for registries of charts (default: anonymous)")
	flags.StringVar(&r.MetricsAddress, "metrics-address", ":8080", "address of the metrics; 0 for none")
	flags.StringVar(&r.WebhookAddress, "webhook-address", "0", "address for webhooks of repositories, such as :9292; 0 for none")
	flags.StringVar(&r.HealthAddress, "health-address", ":8081", "address of the health probes; 0 for none")
	flags.BoolVar(&r.LeaderElection, "leader-elect", true, "share the work with other replicas by Leases on the hub; without it no other may run")
	flags.StringVar(&r.Replica, "replica", "", "name of this replica in Leases and in members' audit logs, such as its pod's")
	flags.IntVar(&r.Concurrency, "concurrency", 0, "members worked on at once; of those that take long four times as many (default 16)")
	flags.DurationVar(&r.FullCompare, "full-compare", 0, "interval at which every object is compared, below the watches (default 20m)")
	flags.BoolVar(&r.Member.AllowInsecureTLS, "allow-insecure-tls", false, "accept kubeconfigs that do not verify their API server")
	flags.BoolVar(&r.Member.AllowProxy, "allow-proxy", false, "accept kubeconfigs that name a proxy")
	_ = cmd.MarkFlagDirname("vault")
	_ = cmd.MarkFlagDirname("cache")
	_ = cmd.MarkFlagFilename("registry-config", "json")
	return cmd
}

func runReconciler(ctx context.Context, opts runOptions) error {
	if err := limitMemory(); err != nil {
		return err
	}
	config, err := opts.hub.config()
	if err != nil {
		return err
	}
	opts.reconciler.Namespace = opts.hub.namespace
	opts.reconciler.ModuleProxy = opts.fetch.proxy()
	opts.reconciler.Version = currentVersion().Version
	opts.reconciler.Log = logger.NewLogger(opts.log)
	logger.SetLogger(opts.reconciler.Log)
	return reconciler.Run(ctx, config, opts.reconciler)
}

// defaultCache is a folder of this user's, or one below the temporary folder.
func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "isthmus")
}
