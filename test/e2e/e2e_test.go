// Package e2e proves isthmus against real control planes: a hub, members, a Git
// repository. Its tests are the issue list of what must hold end to end; parts
// are proven beside their packages.
package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	system  = "applink-system"
	network = "networks/prod/network.yaml"
	east    = "eastus-1"
	west    = "westus-1"
)

// metricsAddress is where the reconciler of the running test has its metrics.
var metricsAddress string

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(asReconciler); ok {
		if err := reconcile(text); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The reconciler gets a logger of its own in each test; what client-go logs
	// besides is not wanted.
	log.SetLogger(logr.Discard())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	metricsAddress = listener.Addr().String()
	_ = listener.Close()
	os.Exit(m.Run())
}

func memberFile(name string) string { return "networks/prod/members/" + name + ".yaml" }

// newRig starts a hub and two members that run the real istiod of fleet-example's
// release, and pushes fleet-example.
func newRig(t *testing.T) (*rig.Rig, string) {
	t.Helper()
	// The context of the test ends before its cleanups: the hub must outlive the
	// reconciler.
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east, west}, Istiods: []string{"1.30.4"}, LogDir: logDir(t), Progress: os.Stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	check(t, r.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	return r, push(t, r, "Two members")
}

// logDir keeps the logs of a test that fails.
func logDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-e2e-")
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs of all processes are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

// run starts a reconciler in this process; the returned function stops it and
// waits until it has stopped.
func run(t *testing.T, r *rig.Rig) (stop func()) {
	t.Helper()
	return runWith(t, r, reconciler.Options{VaultDirectory: r.Vault(), MetricsAddress: metricsAddress, LeaderElection: true})
}

func runWith(t *testing.T, r *rig.Rig, o reconciler.Options) (stop func()) {
	t.Helper()
	hub, err := r.RESTConfig()
	check(t, err)
	o.Namespace, o.CacheDirectory, o.Log = rig.Namespace, r.Cache(), logger(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- reconciler.Run(ctx, hub, o) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("reconciler ended: %v", err)
			}
		case <-time.After(40 * time.Second):
			t.Error("reconciler did not stop in 40 s")
		}
	}
	t.Cleanup(stop)
	return stop
}

// logger writes the reconciler's log to a file that is shown when a test fails.
func logger(t *testing.T) logr.Logger {
	t.Helper()
	file, err := os.CreateTemp("", "isthmus-log-")
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			data, _ := os.ReadFile(file.Name())
			t.Logf("log of the reconciler:\n%s", data[max(0, len(data)-8000):])
		}
		_ = file.Close()
		_ = os.Remove(file.Name())
	})
	return funcr.New(func(prefix, args string) {
		_, _ = fmt.Fprintf(file, "%s %s %s\n", time.Now().Format("15:04:05.000"), prefix, args)
	}, funcr.Options{})
}

// settled starts a reconciler and waits until fleet-example is applied, and its
// members discover each other: then nothing more is written.
func settled(t *testing.T, r *rig.Rig, commit string) (stop func()) {
	t.Helper()
	stop = run(t, r)
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, 2*time.Minute))
	for _, name := range names(r) {
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			m, err := r.Member(t.Context(), name)
			if apierrors.IsNotFound(err) {
				return nil // of another hub
			}
			if err != nil {
				return err
			}
			peers := apimeta.FindStatusCondition(m.Status.Conditions, status.PeersReady)
			if peers == nil || peers.Reason != status.ReasonPeersSynced && peers.Reason != status.ReasonPeersElsewhere {
				return fmt.Errorf("%s: %s", name, rig.Condition(m.Status.Conditions, status.PeersReady))
			}
			return nil
		}))
	}
	waitIdle(t, r)
	return stop
}

func push(t *testing.T, r *rig.Rig, message string) string {
	t.Helper()
	commit, err := r.Repository.Push(t.Context(), message)
	check(t, err)
	return commit
}

// ours counts the writes of isthmus to a member since a time; dry runs write
// nothing.
func ours(t *testing.T, c *controlplane.Cluster, since time.Time) []controlplane.Write {
	t.Helper()
	writes, err := c.Writes(func(w controlplane.Write) bool {
		return w.UserAgent == "isthmus" && !w.DryRun && w.Time.After(since) && w.Verb != "get"
	})
	check(t, err)
	return writes
}

// objects returns the objects of all members.
func objects(t *testing.T, r *rig.Rig) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, cluster := range r.Members {
		list, err := cluster.Objects(t.Context())
		check(t, err)
		out[name] = list
	}
	return out
}

// added returns what is in after and not in before.
func added(before, after []string) []string {
	var out []string
	for _, object := range after {
		if !slices.Contains(before, object) {
			out = append(out, object)
		}
	}
	return out
}

func names(r *rig.Rig) []string { return slices.Sorted(maps.Keys(r.Members)) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
