package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestKilled ends the reconciler with kill -9 at random moments of a delivery
// and of a leave. The next start goes on, and in the end nothing is orphaned:
// what a member has after it has left is what it had before it joined.
func TestKilled(t *testing.T) {
	binary := build(t)
	r, commit := newRig(t)
	before := objects(t, r)
	check(t, r.Follow(t.Context(), time.Second))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 5 {
		killed(t, r, binary, time.Duration(200+random.IntN(2500))*time.Millisecond)
	}
	process := start(t, r, binary)
	check(t, r.WaitApplied(t.Context(), commit, 2*time.Minute))
	kill(process)

	check(t, r.Repository.Remove(memberFile(west)))
	push(t, r, "Remove "+west)
	for range 3 {
		killed(t, r, binary, time.Duration(1000+random.IntN(3000))*time.Millisecond)
	}
	start(t, r, binary)
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		_, err := r.Member(t.Context(), west)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s is still there: %w", west, err)
	}))
	after, err := r.Members[west].Objects(t.Context())
	check(t, err)
	for _, object := range added(before[west], after) {
		if !slices.Contains([]string{"namespaces /shop", "serviceaccounts shop/default", "configmaps shop/kube-root-ca.crt"}, object) {
			t.Errorf("orphaned: %s", object)
		}
	}
}

// build compiles the command.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "isthmus")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/isthmus")
	cmd.Dir = rig.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// start runs the command as a process of its own, without leader election: a
// killed leader's lease would only make the test wait.
func start(t *testing.T, r *rig.Rig, binary string) *exec.Cmd {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(r.Logs(), "isthmus.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	check(t, err)
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), binary, "run", "--kubeconfig", r.Kubeconfig(),
		"--vault", r.Vault(), "--cache", r.Cache(), "--metrics-address", "0", "--health-address", "0", "--leader-elect=false")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

// killed runs the command for a while and ends it with kill -9.
func killed(t *testing.T, r *rig.Rig, binary string, after time.Duration) {
	t.Helper()
	cmd := start(t, r, binary)
	time.Sleep(after)
	kill(cmd)
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
