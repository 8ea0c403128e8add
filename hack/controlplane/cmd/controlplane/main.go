// Command controlplane starts Kubernetes control planes on this machine for
// people, until ctrl-C.
//
//	go run ./cmd/controlplane up --members 2 --hub --istiod
//
// It prints a table of clusters and their kubeconfigs on stdout, all else on
// stderr. Exit status: 0 after ctrl-C, 2 when something could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

const usage = `usage: controlplane <verb> [flags]

  up      start clusters and keep them until ctrl-C
  build   build all programs into the cache and print their paths
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "up":
		return up(ctx, args[1:], stdout, stderr)
	case "build":
		return build(ctx, stdout, stderr)
	case "-h", "--help", "help":
		fmt.Fprint(stderr, usage)
		return nil
	default:
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("no verb %q", verb)
	}
}

// settings are the flags of up.
type settings struct {
	members    int
	nodes      int
	hub        bool
	istiod     bool
	gatewayAPI string
	logs       string
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&s.members, "members", 2, "how many member clusters")
	flags.IntVar(&s.nodes, "nodes", 2, "nodes of each member")
	flags.BoolVar(&s.hub, "hub", false, "also start a hub, an API server alone")
	flags.BoolVar(&s.istiod, "istiod", false, "run pods of istiod "+strings.Join(controlplane.IstiodReleases(), " and ")+" as processes")
	flags.StringVar(&s.gatewayAPI, "gateway-api", "v1.5.1", "version of the Gateway API on members, empty for none")
	flags.StringVar(&s.logs, "logs", "", "folder for logs, kept afterwards")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.members < 0 || s.members+1 > 100 || s.nodes < 1 || flags.NArg() > 0 {
		return s, errors.New("up takes 0 to 99 members with 1 or more nodes, and no arguments")
	}
	return s, nil
}

func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	options := controlplane.Options{LogDir: s.logs, Progress: stderr}
	if s.istiod {
		options.IstiodReleases = controlplane.IstiodReleases()
	}
	cp, err := controlplane.Start(ctx, options)
	if err != nil {
		return err
	}
	defer cp.Stop()
	if err := startClusters(ctx, cp, s, stderr); err != nil {
		return err
	}
	if err := table(stdout, cp); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "logs in %s; kubectl is %s; ctrl-C ends everything\n", cp.LogDir(), cp.Binaries().Kubectl)
	<-ctx.Done()
	fmt.Fprintln(stderr, "stopping")
	return nil
}

func startClusters(ctx context.Context, cp *controlplane.ControlPlane, s settings, stderr io.Writer) error {
	if s.hub {
		if err := startCluster(ctx, cp, "hub", controlplane.ClusterOptions{APIServerOnly: true}, stderr); err != nil {
			return err
		}
	}
	for i := range s.members {
		name := fmt.Sprintf("member-%d", i+1)
		options := controlplane.ClusterOptions{Nodes: s.nodes, Istiod: s.istiod}
		if err := startCluster(ctx, cp, name, options, stderr); err != nil {
			return err
		}
		if s.gatewayAPI == "" {
			continue
		}
		clusters := cp.Clusters()
		if err := clusters[len(clusters)-1].InstallGatewayAPI(ctx, s.gatewayAPI); err != nil {
			return err
		}
	}
	return nil
}

func startCluster(ctx context.Context, cp *controlplane.ControlPlane, name string, options controlplane.ClusterOptions, stderr io.Writer) error {
	start := time.Now()
	if _, err := cp.Cluster(ctx, name, options); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s ready in %s\n", name, time.Since(start).Round(100*time.Millisecond))
	return nil
}

func table(stdout io.Writer, cp *controlplane.ControlPlane) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CLUSTER\tSERVER\tKUBECONFIG")
	for _, c := range cp.Clusters() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name(), c.Server(), c.KubeconfigPath())
	}
	return w.Flush()
}

func build(ctx context.Context, stdout, stderr io.Writer) error {
	binaries, err := controlplane.Build(ctx, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, binaries.Kube)
	fmt.Fprintln(stdout, binaries.Kubectl)
	for _, release := range controlplane.IstiodReleases() {
		path, err := controlplane.Istiod(ctx, release, stderr)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
	}
	istioctl, err := controlplane.Istioctl(ctx, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, istioctl)
	gitea, err := controlplane.Gitea(ctx, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, gitea)
	return nil
}
