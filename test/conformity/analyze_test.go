package conformity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// TestIstio analyses bundles of every release. A process for each bundle of each
// combination would take many minutes, so every pair of choices is in one at
// least. From files, istioctl looks at Istio's kinds and leaves out what it takes
// to be a cluster's own; test/e2e has it look at whole members.
func TestIstio(t *testing.T) {
	program := istioctl(t)
	for _, release := range releases {
		t.Run(release.Version, func(t *testing.T) {
			began := time.Now()
			lines, runs := analyzeAll(t, program, release)
			for _, fault := range faults(lines, nil, release) {
				t.Error(fault)
			}
			t.Logf("%d bundles in %s", runs, time.Since(began).Round(time.Millisecond))
		})
	}
}

func istioctl(t *testing.T) string {
	t.Helper()
	program, err := controlplane.Istioctl(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func analyzeAll(t *testing.T, program string, release catalog.Release) (lines []string, runs int) {
	t.Helper()
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range pairs(combinations(release)) {
		for _, b := range c.render(t, release.Version) {
			runs++
			group.Go(func() error {
				found, err := analyze(t.Context(), program, t.TempDir(), b)
				mu.Lock()
				defer mu.Unlock()
				for _, line := range found {
					lines = append(lines, fmt.Sprintf("%s of %s: %s", c.name, b.Member, line))
				}
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines, runs
}

// message is what istioctl analyze says with -o json.
type message struct{ Code, Level, Message, Origin string }

// analyze returns a line for each warning and error that istioctl has about a
// bundle as the whole of a cluster.
func analyze(ctx context.Context, program, dir string, b bundle.Bundle) ([]string, error) {
	args := []string{
		"analyze", "--use-kube=false", "--output", "json", "--output-threshold", "Warning",
		// Without it, istioctl leaves out what it finds in all but one namespace.
		"--all-namespaces",
	}
	objects, mesh, err := manifests(b)
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"objects.yaml": objects, "mesh.yaml": mesh} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	args = append(args, "--meshConfigFile", filepath.Join(dir, "mesh.yaml"), filepath.Join(dir, "objects.yaml"))
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// It ends with an error when it finds one, and prints what it found.
	runErr := cmd.Run()
	// It logs what it cannot read, before its answer, and goes on without it.
	logged := stdout.String()[:max(0, strings.Index("\n"+stdout.String(), "\n["))]
	var messages []message
	if err := json.Unmarshal(stdout.Bytes()[len(logged):], &messages); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: %s%s", cmd, err, stdout.Bytes(), stderr.Bytes()), runErr)
	}
	var lines []string
	for _, m := range messages {
		lines = append(lines, fmt.Sprintf("%s %s: %s: %s", m.Level, m.Code, m.Origin, m.Message))
	}
	return append(lines, complaints(logged+stderr.String())...), nil
}

// manifests returns the objects of a bundle as YAML, without CRDs, and the mesh
// config among them.
func manifests(b bundle.Bundle) (objects, mesh []byte, err error) {
	var all bytes.Buffer
	for _, o := range b.Objects {
		if o.Object.GetKind() == "CustomResourceDefinition" {
			continue // large, and of no interest to istioctl but for the Gateway API's
		}
		data, err := yaml.Marshal(o.Object.Object)
		if err != nil {
			return nil, nil, err
		}
		all.WriteString("---\n")
		all.Write(data)
		if o.Object.GetKind() == "ConfigMap" && o.Object.GetName() == "istio" {
			text, _, _ := unstructured.NestedString(o.Object.Object, "data", "mesh")
			mesh = []byte(text)
		}
	}
	return all.Bytes(), mesh, nil
}

// complaints are the lines that istioctl writes beside its answer, but for the
// one that says that there is nothing.
func complaints(stderr string) []string {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "No validation issues found") {
			lines = append(lines, line)
		}
	}
	return lines
}
