package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

// kubectl delivers a member's objects from files.
type kubectl struct {
	program string
	// dir holds the files, and kubectl's discovery cache of each cluster.
	dir string
	// workloads to wait for, as arguments of rollout status.
	workloads []string
}

// newKubectl writes the objects of the set to files in dir: namespaces.yaml,
// crds.yaml and rest.yaml.
func newKubectl(program, dir string, set apply.Set) (*kubectl, error) {
	k := &kubectl{program: program, dir: dir}
	files := map[string][]byte{}
	for _, o := range set.Objects {
		data, err := yaml.Marshal(o.Object.Object)
		if err != nil {
			return nil, err
		}
		file := "rest.yaml"
		switch kind := o.Object.GetKind(); kind {
		case "Namespace":
			file = "namespaces.yaml"
		case "CustomResourceDefinition":
			file = "crds.yaml"
		case "Deployment", "DaemonSet":
			k.workloads = append(k.workloads, strings.ToLower(kind)+"/"+o.Object.GetName())
		}
		files[file] = append(append(files[file], "---\n"...), data...)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// first needs two rounds: objects of new kinds are refused in the call that
// brings the kinds.
func (k *kubectl) first(ctx context.Context, cluster *controlplane.Cluster) (delivery, error) {
	d := delivery{requests: map[string]int{}}
	for _, args := range [][]string{
		{"apply", "--server-side", "--filename", "namespaces.yaml,crds.yaml"},
		{"wait", "--for", "condition=Established", "--timeout", "2m", "--filename", "crds.yaml"},
		{"apply", "--server-side", "--filename", "rest.yaml"},
		append([]string{"rollout", "status", "--namespace", system, "--timeout", "2m"}, k.workloads...),
	} {
		took, err := k.run(ctx, cluster, args...)
		if err != nil {
			return d, err
		}
		d.total += took.total
		if args[0] != "apply" {
			d.waiting += took.total
		}
		for what, n := range took.requests {
			d.requests[what] += n
		}
	}
	return d, nil
}

func (k *kubectl) again(ctx context.Context, cluster *controlplane.Cluster) (delivery, error) {
	return k.run(ctx, cluster, "apply", "--server-side", "--filename", "namespaces.yaml,crds.yaml,rest.yaml")
}

func (k *kubectl) run(ctx context.Context, cluster *controlplane.Cluster, args ...string) (delivery, error) {
	cmd := k.command(ctx, cluster.Name(), append(args, "--kubeconfig", cluster.KubeconfigPath(), "-v=6")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	err := cmd.Run()
	d := delivery{total: time.Since(start), requests: requestsIn(stderr.String())}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return d, fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, lines[len(lines)-1])
	}
	return d, nil
}

// command has a discovery cache of its own for each cluster, and no settings of
// the user's.
func (k *kubectl) command(ctx context.Context, cluster string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.program, append(args, "--cache-dir", filepath.Join(k.dir, "cache-"+cluster))...)
	cmd.Dir, cmd.Env = k.dir, append(os.Environ(), "KUBECTL_KUBERC=false")
	return cmd
}

// requestsIn counts the requests in the log that kubectl writes with -v=6: one
// line each, with verb="…" and url="…".
func requestsIn(log string) map[string]int {
	requests := map[string]int{"reads": 0, "writes": 0, "dry runs": 0}
	for line := range strings.Lines(log) {
		_, line, ok := strings.Cut(line, `"Response" verb="`)
		if !ok {
			continue
		}
		verb, line, _ := strings.Cut(line, `" url="`)
		address, _, _ := strings.Cut(line, `"`)
		parsed, err := url.Parse(address)
		switch {
		case verb == "GET":
			requests["reads"]++
		case err == nil && parsed.Query().Has("dryRun"):
			requests["dry runs"]++
		default:
			requests["writes"]++
		}
	}
	return requests
}
