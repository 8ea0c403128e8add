package validation_test

import (
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/renderer/validation"
)

const logsAlone = "ISTHMUS_TEST_LOGS"

func TestMain(m *testing.M) {
	if os.Getenv(logsAlone) == "" {
		os.Exit(m.Run())
	}
	log.Print("from Go")
	klog.Info("from Kubernetes")
	klog.Flush()
	validation.CheckMesh("extensionProviders: [{name: a}]") // which Istio logs
}

// Answers are on stdout: no log may be there because Istio's validators are in
// the process.
func TestLogsStayOffStdout(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), logsAlone+"=1")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "" {
		t.Errorf("stdout: %s", stdout.String())
	}
	if !strings.Contains(stderr.String(), "from Kubernetes") {
		t.Errorf("klog is not on stderr: %s", stderr.String())
	}
	if strings.Contains(stderr.String(), "extension provider") {
		t.Errorf("Istio logs: %s", stderr.String())
	}
}
