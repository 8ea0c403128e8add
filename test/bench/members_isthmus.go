package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing/fstest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

var kindMember = v1alpha1.GroupVersion.WithKind("Member")

// realFleet is the example's network with members that are alike. istiod is played and
// answers no webhook, so its own webhook for mesh policy is made to match nothing:
// without that nobody could deliver the policy that comes after it. Nor is there anybody
// to read a peer: members discover nobody.
func realFleet(names []string) (fstest.MapFS, error) {
	files, err := exampleFleet(delivered, names...)
	if err != nil {
		return nil, err
	}
	files["network.yaml"].Data = append(files["network.yaml"].Data, "\n"+discoversNobody+`  patches:
  - target: {kind: ValidatingWebhookConfiguration}
    patch: |
      - {op: add, path: /webhooks/0/objectSelector, value: {matchLabels: {bench.example.com/validated: "true"}}}
`...)
	return files, nil
}

// discoversNobody is in the network whose members do not discover each other.
const discoversNobody = `  discovery: {peers: [{selector: {matchLabels: {bench.example.com/discovers: "true"}}}]}
`

// oneObject is a patch that changes one object of the member whose file it is
// appended to.
const oneObject = `  patches:
  - target: {kind: Service, name: istiod}
    patch: '[{op: add, path: /metadata/annotations, value: {bench.example.com/commit: second}}]'
`

// reconciler is isthmus run, as a process of its own.
type reconciler struct {
	ground *ground
	*program
}

// buildIsthmus builds the command into a folder, as the bench was built: with other
// flags Go would compile all of Kubernetes' and Istio's packages once more.
func buildIsthmus(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "isthmus")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", path, "./cmd/isthmus")
	cmd.Dir = rig.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build isthmus: %w: %s", err, out)
	}
	return path, nil
}

// startIsthmus runs a reconciler on a repository that has no fleet yet, and
// returns when it has read that.
func startIsthmus(ctx context.Context, g *ground, path string, flags ...string) (*reconciler, error) {
	args := append([]string{
		"run", "--kubeconfig", g.Kubeconfig(), "--namespace", rig.Namespace, "--vault", g.Vault(), "--cache", g.Cache(),
		"--leader-elect=false", "--metrics-address=0", "--health-address=0",
	}, flags...)
	p, err := startProgram(g.Dir, "isthmus", exec.Command(path, args...)) //nolint:gosec // G204: the path is of our own build.
	if err != nil {
		return nil, err
	}
	r := &reconciler{g, p}
	if err := r.begin(ctx); err != nil {
		err = p.explain(err)
		p.stop()
		return nil, err
	}
	return r, nil
}

// onGround starts a hub and members, with a reconciler that follows a repository
// without a fleet, and ends all when the measuring is done.
func onGround(ctx context.Context, s settings, members []string, cluster controlplane.ClusterOptions,
	measure func(*reconciler) ([]Table, error), flags ...string) ([]Table, error) {
	dir, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := buildIsthmus(ctx, dir)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.progress, "bench: start a hub and %d members\n", len(members))
	g, err := newGround(ctx, s.progress, members, cluster)
	if err != nil {
		return nil, err
	}
	defer g.Stop()
	r, err := startIsthmus(ctx, g, path, flags...)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	tables, err := measure(r)
	return tables, r.explain(err)
}

func (r *reconciler) begin(ctx context.Context) error {
	if err := r.ground.Repository.Write("README.md", "no fleet yet\n"); err != nil {
		return err
	}
	if _, err := r.ground.Repository.Push(ctx, "Nothing"); err != nil {
		return err
	}
	// So long that nothing but a request makes it look.
	if err := r.ground.Follow(ctx, time.Hour); err != nil {
		return err
	}
	return r.ground.await(ctx, v1alpha1.GroupVersion.WithKind("Fleet"), []string{rig.FleetName}, func(fleet *unstructured.Unstructured) bool {
		revision, _, _ := unstructured.NestedString(fleet.Object, "status", "attemptedRevision")
		return revision != ""
	})
}

// deliver pushes a fleet and returns when all its members have it whole and are
// healthy; the time is that since the commit was there.
func (r *reconciler) deliver(ctx context.Context, files fstest.MapFS) (time.Duration, error) {
	if err := r.ground.Repository.Copy(files); err != nil {
		return 0, err
	}
	commit, err := r.ground.Repository.Push(ctx, "A fleet")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := r.ground.Request(ctx); err != nil {
		return 0, err
	}
	err = r.ground.await(ctx, kindMember, r.ground.members, func(member *unstructured.Unstructured) bool {
		revision, _, _ := unstructured.NestedString(member.Object, "status", "appliedRevision")
		return revision == "main@sha1:"+commit && isReady(member)
	})
	return time.Since(start), err
}
