package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestDemo runs the demo, which checks everything that it prints: with the real
// istiods of two releases that start from what was applied.
func TestDemo(t *testing.T) {
	binary := build(t)
	cmd := exec.CommandContext(t.Context(), "go", "run", "./test/demo", "-isthmus", binary)
	cmd.Dir = rig.Root()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"eastus-1: version 1.30.4", "westus-1: version 1.30.4", "the istiod of westus-1 leads to it by",
		"DaemonSet applink-system/ztunnel deleted",
		"ConfigMap applink-system/istio edited", "eastus-1: version 1.31.0", "0 objects are left", "done",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not say %q", want)
		}
	}
}
