package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	fluxlogger "github.com/fluxcd/pkg/runtime/logger"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// asReconciler is the variable by which this test binary is the reconciler
// instead of the tests: a process that can be killed, and needs no build.
const asReconciler = "ISTHMUS_E2E_RECONCILER"

// settings of a reconciler in a process of its own. Without leader election: a
// killed leader's lease would only make the test wait.
type settings struct {
	Hub          string // path of a kubeconfig
	Vault, Cache string
	Metrics      string        // address
	Timeout      time.Duration // of a call to a member
	FullCompare  time.Duration
	LeafLife     time.Duration // of workloads' certificates, for rotations
	Replica      string        // name of one of several; empty for one that is alone
}

func (s settings) options() reconciler.Options {
	o := reconciler.Options{
		Namespace: rig.Namespace, VaultDirectory: s.Vault, CacheDirectory: s.Cache,
		MetricsAddress: s.Metrics, FullCompare: s.FullCompare, LeafLife: s.LeafLife,
		LeaderElection: s.Replica != "", Replica: s.Replica,
	}
	o.Member.Timeout = s.Timeout
	return o
}

// reconcile is what the process does.
func reconcile(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	// A write beyond the limit on the size of files is to fail, as on a full disk,
	// and not to end the process.
	signal.Ignore(syscall.SIGXFSZ)
	hub, err := clientcmd.BuildConfigFromFlags("", s.Hub)
	if err != nil {
		return err
	}
	log := fluxlogger.NewLogger(fluxlogger.Options{LogEncoding: "json", LogLevel: "trace"})
	fluxlogger.SetLogger(log)
	options := s.options()
	options.Log = log
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return reconciler.Run(ctx, hub, options)
}

// process is a running reconciler.
type process struct {
	*exec.Cmd
	killed bool
}

// start runs a reconciler as a process of its own, with what differs from the
// defaults of a test set by change.
func start(t *testing.T, r *rig.Rig, change func(*settings)) *process {
	t.Helper()
	s := settings{Hub: r.Kubeconfig(), Vault: r.Vault(), Cache: r.Cache(), Metrics: "0"}
	if change != nil {
		change(&s)
	}
	text, err := json.Marshal(s)
	check(t, err)
	log, err := os.OpenFile(processLog(r), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	check(t, err)
	defer log.Close()
	p := &process{Cmd: exec.CommandContext(context.Background(), os.Args[0])}
	p.Env = append(os.Environ(), fmt.Sprintf("%s=%s", asReconciler, text))
	p.Stdout, p.Stderr = log, log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(t, p.Start())
	t.Cleanup(p.kill)
	return p
}

// processLog is where the processes of a rig log, one after another.
func processLog(r *rig.Rig) string { return filepath.Join(r.Logs(), "isthmus.log") }

// kill is kill -9.
func (p *process) kill() {
	if p.killed {
		return
	}
	p.killed = true
	_ = p.Process.Kill()
	_ = p.Wait()
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
