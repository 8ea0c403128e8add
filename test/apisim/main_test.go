package apisim_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/test/apisim"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// kubeconfigs of a real cluster and of a played one.
var kubeconfigs = map[string][]byte{}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	plane, err := controlplane.Start(ctx, controlplane.Options{Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Stop()
	simulator, err := apisim.New()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer simulator.Close()
	if err := start(ctx, plane, simulator); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func start(ctx context.Context, plane *controlplane.ControlPlane, simulator *apisim.Simulator) error {
	cluster, err := plane.Cluster(ctx, "member", controlplane.ClusterOptions{})
	if err != nil {
		return err
	}
	if err := cluster.InstallGatewayAPI(ctx, rig.GatewayAPI); err != nil {
		return err
	}
	kubeconfigs["real"] = cluster.Kubeconfig()
	gatewayAPI, err := controlplane.GatewayAPI(ctx, rig.GatewayAPI)
	if err != nil {
		return err
	}
	kubeconfigs["played"], err = simulator.AddMember("member", gatewayAPI...)
	return err
}

func configOf(t testing.TB, which string) *rest.Config {
	t.Helper()
	config, err := member.Config(kubeconfigs[which], member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return config
}
