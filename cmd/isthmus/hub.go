package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// hubTimeout bounds one answer of the hub.
const hubTimeout = 20 * time.Second

// hubFlags say how to reach the hub.
type hubFlags struct {
	kubeconfig, context, namespace string
}

func (f *hubFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the hub (default: KUBECONFIG, ~/.kube/config, or the pod's service account)")
	cmd.Flags().StringVar(&f.context, "context", "", "context in the kubeconfig (default: its current one)")
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "isthmus-system", "namespace of the fleet on the hub")
}

// config returns how to reach the hub. The hub's kubeconfig belongs to the
// person who runs the command, so credential plugins are allowed in it.
func (f *hubFlags) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, withHint(fmt.Errorf("read the hub's kubeconfig: %w", err), "name it with --kubeconfig and --context")
	}
	config.UserAgent = "isthmus/" + currentVersion().Version
	return config, nil
}

// connect returns a client for a command that reads the hub.
func (f *hubFlags) connect() (dynamic.Interface, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	config.Timeout = hubTimeout
	hub, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the hub: %w", err)
	}
	return hub, nil
}

// hubAnswer is what a command tells of the hub; as JSON, it is itself.
type hubAnswer interface {
	print(p *printer, namespace string)
	// fine says that nothing is left for a person to see to.
	fine() bool
}

// hubCommand makes a command that reads the hub, prints what it found, and exits with
// 1 unless that is fine.
func hubCommand(p *printer, cmd *cobra.Command, read func(ctx context.Context, hub dynamic.Interface, namespace string) (hubAnswer, error)) *cobra.Command {
	var flags hubFlags
	var format string
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(format); err != nil {
			return err
		}
		hub, err := flags.connect()
		if err != nil {
			return err
		}
		answer, err := read(cmd.Context(), hub, flags.namespace)
		if err != nil {
			return err
		}
		if format == formatJSON {
			if err := p.json(answer); err != nil {
				return err
			}
		} else {
			answer.print(p, flags.namespace)
		}
		if !answer.fine() {
			return errProblems
		}
		return nil
	}
	flags.add(cmd)
	formatFlag(cmd, &format)
	return cmd
}
