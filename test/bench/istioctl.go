package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// further members are rendered one by one to see what one more takes.
const further = 200

// benchRendering compares rendering with istioctl.
func benchRendering(ctx context.Context, s settings) ([]Table, error) {
	istioctl, err := controlplane.Istioctl(ctx, s.progress)
	if err != nil {
		return nil, err
	}
	theirs, first := newRow("istioctl manifest generate, process"), newRow("isthmus, one member from nothing, process")
	one, all := newRow("isthmus, one more member, in process"), newRow("isthmus, %d members from nothing, process", s.members)
	load, charts, files := newRow("  of that: load YAML"), newRow("  of that: render bundles"), newRow("  of that: encode files")
	peak := &Row{Name: "  peak memory", Unit: "MiB", AtMost: 500}
	all.AtMost = 5
	err = alternate(s.pairs, func() error {
		fmt.Fprintf(s.progress, "bench: render one member, pair %d of %d\n", len(first.Values)+1, s.pairs)
		if _, err := s.render(ctx, first, 1, 0); err != nil {
			return err
		}
		return s.renderOneMore(ctx, one)
	}, func() error {
		stdout, err := runProcess(theirs, exec.CommandContext(ctx, istioctl, istioctlArgs()...))
		theirs.Counts["objects"] = bytes.Count(stdout, []byte("\nkind: "))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range s.pairs {
		fmt.Fprintf(s.progress, "bench: render %d members, run %d of %d\n", s.members, i+1, s.pairs)
		took, err := s.render(ctx, all, s.members, 0)
		if err != nil {
			return nil, err
		}
		load.add(took.Load)
		charts.add(took.Render)
		files.add(took.Files)
		peak.Values = append(peak.Values, float64(all.Counts["peak MiB"]))
	}
	bar := ratio("istioctl : one more member", theirs, one)
	bar.AtLeast = 100
	return []Table{{
		Title:   fmt.Sprintf("Rendering member %s, Istio %s", example, compared),
		Counted: []string{"objects", "peak MiB"},
		Rows:    []*Row{theirs, first, one, all, load, charts, files, peak, ratio("istioctl : one member from nothing", theirs, first), bar},
		Notes: []string{
			"Both get the same profile, hub, tag, namespace, cluster name, network, mesh ID, trust domain and multi-network flags.",
			"A process is measured from start to end; it ends with the YAML in memory (isthmus) or on a pipe (istioctl).",
			fmt.Sprintf("One more member: the median of %d that a warm renderer had not seen, rendered to objects, not written as YAML.", further),
			"isthmus renders more: namespaces, the east-west gateway, a waypoint, mesh-wide mTLS.",
		},
	}}, nil
}

// istioctlArgs ask for what isthmus renders for the same member.
func istioctlArgs() []string {
	release, _ := catalog.Builtin().Release(compared)
	args := []string{"manifest", "generate", "--istioNamespace", system}
	for _, set := range []string{
		"profile=ambient", "hub=" + release.Hub, "tag=" + release.Tag,
		"meshConfig.trustDomain=" + domain,
		"values.global.meshID=" + network,
		"values.global.network=" + region,
		"values.global.multiCluster.clusterName=" + example,
		"values.pilot.env.AMBIENT_ENABLE_MULTI_NETWORK=true",
		"values.pilot.env.AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT=true",
		"values.pilot.env.AMBIENT_ENABLE_MULTI_NETWORK_INGRESS=true",
		"values.pilot.env.AMBIENT_ENABLE_BAGGAGE=true",
		"values.pilot.env.ISTIO_MULTIROOT_MESH=true",
	} {
		args = append(args, "--set", set)
	}
	return args
}

// render runs renderAlone in a process of its own, so that its memory can be told.
func (s settings) render(ctx context.Context, row *Row, members, more int) (rendering, error) {
	var took rendering
	stdout, err := runProcess(row, exec.CommandContext(ctx, s.self, "-render", strconv.Itoa(members), "-more", strconv.Itoa(more)))
	if err != nil {
		return took, err
	}
	err = json.Unmarshal(stdout, &took)
	row.Counts["objects"] = took.Objects
	return took, err
}

// renderOneMore adds the median time of further members to a row.
func (s settings) renderOneMore(ctx context.Context, row *Row) error {
	took, err := s.render(ctx, newRow("all of it"), 1, further)
	if err != nil {
		return err
	}
	each := newRow("each of them")
	for _, t := range took.More {
		each.add(t)
	}
	_, median, _ := spread(each.Values)
	row.Values, row.Counts["objects"] = append(row.Values, median), took.Objects
	return nil
}

// runProcess adds the time and the peak memory of a process to a row and returns
// what it wrote.
func runProcess(row *Row, cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(stderr.String()))
	}
	row.add(time.Since(start))
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		row.Counts["peak MiB"] = int(usage.Maxrss >> 10)
	}
	return stdout.Bytes(), nil
}
