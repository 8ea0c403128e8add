package conformity

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/renderer"
)

var (
	plane    *controlplane.ControlPlane
	releases = catalog.Builtin().Releases()
	// shared renders for all tests: charts are run once.
	shared = renderer.New(catalog.Builtin())
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	var err error
	if plane, err = controlplane.Start(ctx, controlplane.Options{Progress: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Stop()
	return m.Run()
}

// TestKubernetes submits every object of every release and combination.
func TestKubernetes(t *testing.T) {
	for _, release := range releases {
		t.Run(release.Version, func(t *testing.T) {
			objects := samples(t, release)
			s := start(t, release)
			began := time.Now()
			lines := append(s.serve(t, objects), s.check(t.Context(), objects)...)
			for _, fault := range faults(lines, acceptedWarnings, release) {
				t.Error(fault)
			}
			testFaults(t, s, release, objects)
			t.Logf("%d objects in %s", len(objects), time.Since(began).Round(time.Millisecond))
		})
	}
}

// start starts a cluster with the release's version of the Gateway API.
func start(t *testing.T, release catalog.Release) *server {
	t.Helper()
	name := "istio-" + strings.ReplaceAll(release.Version, ".", "-")
	cluster, err := plane.Cluster(t.Context(), name, controlplane.ClusterOptions{APIServerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	if err := cluster.InstallGatewayAPI(t.Context(), release.GatewayAPI); err != nil {
		t.Fatal(err)
	}
	return newServer(t, cluster)
}

// samples returns the objects of a release's combinations, equal ones once.
func samples(t *testing.T, release catalog.Release) []sample {
	t.Helper()
	seen := map[string]bool{}
	var out []sample
	for _, c := range enough(combinations(release)) {
		for _, b := range c.render(t, release.Version) {
			for _, o := range b.Objects {
				if !seen[o.Digest] {
					seen[o.Digest] = true
					out = append(out, sample{object: o.Object, from: c.name + " of " + b.Member})
				}
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("nothing was rendered")
	}
	return out
}
