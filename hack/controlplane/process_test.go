package controlplane_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// Programs that tests start are this test binary again, told by a variable.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("HARNESS_TO_BE_KILLED") != "":
		harnessToBeKilled()
	case os.Getenv("STAND_IN_FOR_ISTIOD") != "":
		standInForIstiod()
	default:
		os.Exit(m.Run())
	}
}

// harnessToBeKilled starts a control plane, prints the ids of its processes, and waits.
func harnessToBeKilled() {
	cp, err := controlplane.Start(context.Background(), controlplane.Options{})
	if err == nil {
		_, err = cp.Cluster(context.Background(), "one", controlplane.ClusterOptions{Nodes: 1})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(strings.Trim(fmt.Sprint(cp.Pids()), "[]"))
	select {}
}

// Nothing survives a harness that had no chance to clean up.
func TestProcessesDieWithTheHarness(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills the children of a process that was killed")
	}
	state := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HARNESS_TO_BE_KILLED=1", "TMPDIR="+state) // what it leaves goes with the test
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if killErr := cmd.Process.Kill(); err != nil || killErr != nil {
		t.Fatalf("read ids: %v, kill: %v", err, killErr)
	}
	_ = cmd.Wait() // killed, as it should be
	var pids []int
	for _, field := range strings.Fields(line) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 5 {
		t.Errorf("%d processes, want etcd, API server, controller manager, scheduler and kwok", len(pids))
	}
	expectGone(t, pids)
}

func expectGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, func() error {
			if alive(pid) {
				return fmt.Errorf("process %d runs on", pid)
			}
			return nil
		})
	}
}

// alive is false for a process that has ended and that nobody has waited for.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}
