package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	system  = "applink-system"
	stays   = "eastus-1"
	leaves  = "westus-1"
	oldOne  = "1.30.4"
	newOne  = "1.31.0"
	network = "networks/prod/network.yaml"
)

// demo is the state between its acts.
type demo struct {
	out    io.Writer
	binary string
	began  time.Time

	rig        *rig.Rig
	reconciler *exec.Cmd
	log        string
	// before is what a member's cluster had before it joined.
	before []string
}

func newDemo(out io.Writer, binary string) *demo {
	return &demo{out: out, binary: binary, began: time.Now()}
}

// say prints one line of the transcript.
func (d *demo) say(act, format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1fs  %-8s %s\n", time.Since(d.began).Seconds(), act, fmt.Sprintf(format, args...))
}

// show prints the output of the isthmus command, indented.
func (d *demo) show(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.out, "\n         $ isthmus %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.binary, append(args, "--kubeconfig", d.rig.Hub.KubeconfigPath())...)
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		fmt.Fprint(d.out, "         "+line)
	}
	fmt.Fprintln(d.out)
	return err
}

// start brings up the clusters, the repository and the reconciler.
func (d *demo) start(ctx context.Context) error {
	d.say("start", "a hub and the members %s and %s: real API servers, no containers", stays, leaves)
	var err error
	d.rig, err = rig.Start(ctx, rig.Options{Members: []string{stays, leaves}, Istiods: []string{oldOne, newOne}, Progress: os.Stderr})
	if err != nil {
		return err
	}
	d.say("start", "3 control planes are ready")
	if d.before, err = d.rig.Members[leaves].Objects(ctx); err != nil {
		return err
	}
	d.log = filepath.Join(d.rig.Dir, "isthmus.log")
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	d.reconciler = exec.CommandContext(ctx, d.binary, "run", "--kubeconfig", d.rig.Kubeconfig(),
		"--vault", d.rig.Vault(), "--cache", d.rig.Cache(), "--metrics-address", "0", "--health-address", "0", "--leader-elect=false")
	d.reconciler.Stdout, d.reconciler.Stderr = log, log
	d.reconciler.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.reconciler.Cancel = func() error { return d.reconciler.Process.Signal(syscall.SIGTERM) }
	return d.reconciler.Start()
}

// push brings fleet-example to the members by a commit.
func (d *demo) push(ctx context.Context) error {
	if err := d.rig.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))); err != nil {
		return err
	}
	commit, err := d.rig.Repository.Push(ctx, "Two members")
	if err != nil {
		return err
	}
	d.say("push", "fleet-example as commit %.7s; the hub's Fleet follows the repository", commit)
	start := time.Now()
	if err := d.rig.Follow(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := d.rig.WaitApplied(ctx, commit, 3*time.Minute); err != nil {
		return err
	}
	d.say("ready", "both members, %.1f s after the push", time.Since(start).Seconds())
	if err := d.show(ctx, "status"); err != nil {
		return err
	}
	for _, name := range []string{stays, leaves} {
		if err := d.checkIstiod(ctx, name, oldOne); err != nil {
			return err
		}
	}
	return nil
}

// upgrade changes the release by a commit.
func (d *demo) upgrade(ctx context.Context) error {
	if err := d.rig.Repository.Replace(network, oldOne, newOne); err != nil {
		return err
	}
	commit, err := d.rig.Repository.Push(ctx, "Istio "+newOne)
	if err != nil {
		return err
	}
	d.say("upgrade", "commit %.7s changes one line: version %s to %s", commit, oldOne, newOne)
	start := time.Now()
	if err := d.rig.WaitApplied(ctx, commit, 3*time.Minute); err != nil {
		return err
	}
	d.say("upgrade", "both members run it, %.1f s after the push", time.Since(start).Seconds())
	for _, name := range []string{stays, leaves} {
		if err := d.checkIstiod(ctx, name, newOne); err != nil {
			return err
		}
	}
	return nil
}

// leave removes a member by a commit.
func (d *demo) leave(ctx context.Context) error {
	if err := d.rig.Repository.Remove("networks/prod/members/" + leaves + ".yaml"); err != nil {
		return err
	}
	commit, err := d.rig.Repository.Push(ctx, "Remove "+leaves)
	if err != nil {
		return err
	}
	d.say("leave", "commit %.7s deletes the file of %s", commit, leaves)
	start := time.Now()
	err = rig.Eventually(ctx, 3*time.Minute, func() error {
		if m, err := d.rig.Member(ctx, leaves); err == nil {
			return fmt.Errorf("member %s: %s", leaves, rig.Condition(m.Status.Conditions, "Ready"))
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := d.rig.Members[leaves].Objects(ctx)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(after, func(object string) bool {
		_, was := slices.BinarySearch(d.before, object)
		return was || isUsers(object)
	})
	if len(left) > 0 {
		return fmt.Errorf("left behind on %s: %s", leaves, strings.Join(left, ", "))
	}
	d.say("leave", "%s has left after %.1f s; of isthmus and Istio 0 objects are left there", leaves, time.Since(start).Seconds())
	return d.show(ctx, "status")
}

// isUsers tells what stays on purpose: the enrolled namespace may hold the
// user's workloads, and Kubernetes puts its own objects into it.
func isUsers(object string) bool {
	return slices.Contains([]string{
		"namespaces /shop", "serviceaccounts shop/default", "configmaps shop/kube-root-ca.crt",
	}, object)
}

// explain prints what helps when something went wrong.
func (d *demo) explain() {
	if d.rig == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "demo: the end of the reconciler's log:")
	data, _ := os.ReadFile(d.log)
	lines := strings.Split(string(data), "\n")
	fmt.Fprintln(os.Stderr, strings.Join(lines[max(0, len(lines)-30):], "\n"))
}

// invite says how to look around in what is left running.
func (d *demo) invite() {
	fmt.Fprintf(d.out, "\nEverything is still running. In another terminal:\n\n  KUBECTL=%s\n", d.rig.Kubectl())
	fmt.Fprintf(d.out, "  $KUBECTL --kubeconfig %s -n %s get fleets,members\n", d.rig.Hub.KubeconfigPath(), rig.Namespace)
	for _, name := range []string{stays, leaves} {
		fmt.Fprintf(d.out, "  $KUBECTL --kubeconfig %s -n %s get pods,gateways   # %s\n", d.rig.Members[name].KubeconfigPath(), system, name)
	}
	fmt.Fprintf(d.out, "  cd %s   # the fleet: edit, commit, push\n  tail -f %s\n\nctrl-C ends it all.\n", d.rig.Repository.Work, d.log)
}

// stop ends the reconciler, which gives up its lead, and all clusters.
func (d *demo) stop() {
	if d.reconciler != nil && d.reconciler.Process != nil {
		_ = d.reconciler.Process.Signal(syscall.SIGTERM)
		_ = d.reconciler.Wait()
	}
	if d.rig != nil {
		d.rig.Stop()
	}
}
