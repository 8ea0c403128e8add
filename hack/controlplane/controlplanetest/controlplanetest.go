// Package controlplanetest starts control planes that end with the test.
//
// Everything stops in a cleanup, in any way that a test ends. Logs are kept, and
// their folder is named, only if the test fails. A helper that cannot do its work
// fails the test. Tests that use it are skipped in -short mode. The first build of
// the programs can take longer than go test's default timeout: build them before.
package controlplanetest

import (
	"context"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// Start starts a control plane without clusters. Progress of builds goes to
// stderr unless options say otherwise.
func Start(t testing.TB, options controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	if options.Progress == nil {
		options.Progress = os.Stderr
	}
	if options.LogDir == "" {
		options.LogDir = logDir(t)
	}
	// Not the test's own context: it ends before cleanups, which may need clusters.
	cp, err := controlplane.Start(context.WithoutCancel(t.Context()), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	return cp
}

// Cluster starts a cluster.
func Cluster(t testing.TB, cp *controlplane.ControlPlane, name string, options controlplane.ClusterOptions) *controlplane.Cluster {
	t.Helper()
	c, err := cp.Cluster(t.Context(), name, options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func logDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-logs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs of the control plane: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}
