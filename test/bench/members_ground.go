package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// ground is a hub and members, all fresh and real, on which one contender is
// measured. What no process is there for is played, see play.
type ground struct {
	*rig.Rig
	// members by name, in order.
	members []string
	// patience is how long await waits; zero means ten minutes.
	patience time.Duration

	progress io.Writer
	playing  sync.WaitGroup
	stop     context.CancelFunc
}

// grow has so many members that are played: play begins one and returns its
// kubeconfig.
func (g *ground) grow(ctx context.Context, members int, play func(name string) ([]byte, error)) error {
	for i := len(g.members); i < members; i++ {
		name := example
		if i > 0 {
			name = fmt.Sprintf("member-%04d", i)
		}
		kubeconfig, err := play(name)
		if err != nil {
			return err
		}
		if err := g.SetKubeconfig(ctx, name, kubeconfig); err != nil {
			return err
		}
		g.members = append(g.members, name)
	}
	return nil
}

// newGround starts a hub and members of the given kind. Stop must be called.
func newGround(ctx context.Context, progress io.Writer, members []string, cluster controlplane.ClusterOptions) (*ground, error) {
	cluster.AuditReads = true
	r, err := rig.Start(ctx, rig.Options{Members: members, Cluster: cluster, Progress: progress})
	if err != nil {
		return nil, err
	}
	g := &ground{Rig: r, members: members, progress: progress}
	ctx, g.stop = context.WithCancel(ctx)
	for _, name := range members {
		if err := g.play(ctx, r.Members[name], cluster.APIServerOnly); err != nil {
			g.Stop()
			return nil, err
		}
	}
	return g, nil
}

// Stop ends everything that was started.
func (g *ground) Stop() {
	g.stop()
	g.playing.Wait()
	g.Rig.Stop()
}

// memberNames are names for n members, the example first.
func memberNames(n int) []string {
	names := []string{example}
	for i := 1; i < n; i++ {
		names = append(names, fmt.Sprintf("member-%02d", i))
	}
	return names
}

// requests counts what others than this program asked of the members, and of the
// hub, in a span of time.
type requests struct {
	reads, writes, dryRuns int
	hub                    int
}

func (r requests) counts(members int) map[string]int {
	return map[string]int{
		"reads": r.reads, "writes": r.writes, "dry runs": r.dryRuns, "hub": r.hub,
		"per member": (r.reads + r.writes + r.dryRuns + members/2) / members,
	}
}

func (r requests) total() int { return r.reads + r.writes + r.dryRuns }

// countedRequests are the columns of requests.counts.
var countedRequests = []string{"reads", "writes", "dry runs", "per member", "hub"}

// asked counts the requests between two moments, by the audit logs.
func (g *ground) asked(since, until time.Time) (requests, error) {
	var all requests
	for _, name := range g.members {
		found, err := g.Members[name].Requests(contenders(since, until))
		if err != nil {
			return all, err
		}
		for _, request := range found {
			switch {
			case request.DryRun:
				all.dryRuns++
			case request.Verb == "get" || request.Verb == "list" || request.Verb == "watch":
				all.reads++
			default:
				all.writes++
			}
		}
	}
	found, err := g.Hub.Requests(contenders(since, until))
	all.hub = len(found)
	return all, err
}

// contenders matches requests that are neither the clusters' own nor ours.
func contenders(since, until time.Time) func(controlplane.Request) bool {
	ours := rest.DefaultKubernetesUserAgent()
	return func(r controlplane.Request) bool {
		own := strings.HasPrefix(r.User, "kube-") || r.User == "kwok" || r.User == "harness" || r.User == "system:apiserver" ||
			strings.HasPrefix(r.User, "system:serviceaccount:kube-system:")
		return !own && r.UserAgent != ours && r.Time.After(since) && r.Time.Before(until)
	}
}

// await returns when every one of the named objects on the hub is as done says. It
// tells once a minute which are not.
func (g *ground) await(ctx context.Context, kind schema.GroupVersionKind, names []string, done func(*unstructured.Unstructured) bool) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(g.patience, 10*time.Minute))
	defer cancel()
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	open := map[string]string{} // what each that is not done says of itself
	for _, name := range names {
		open[name] = "not there"
	}
	for len(open) > 0 {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		events, err := g.HubClient.Watch(ctx, list, client.InNamespace(rig.Namespace))
		if err != nil {
			return fmt.Errorf("watch %s: %w", kind.Kind, err)
		}
		for len(open) > 0 {
			var event watch.Event
			var ok bool
			select {
			case event, ok = <-events.ResultChan():
			case <-minute.C:
				one := slices.Min(slices.Collect(maps.Keys(open)))
				fmt.Fprintf(g.progress, "bench: wait for %d of %s, such as %s: %s\n", len(open), kind.Kind, one, open[one])
				continue
			}
			object, isObject := event.Object.(*unstructured.Unstructured)
			if !ok || !isObject {
				break // a watch ends now and then
			}
			if _, wanted := open[object.GetName()]; !wanted {
				continue
			}
			if open[object.GetName()] = conditionOf(object, "Ready"); done(object) {
				delete(open, object.GetName())
			}
		}
		events.Stop()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for %s %v: %w", kind.Kind, open, err)
		}
	}
	return nil
}

// conditionOf is a condition's status and message.
func conditionOf(object *unstructured.Unstructured, kind string) string {
	all, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, one := range all {
		if fields, ok := one.(map[string]any); ok && fields["type"] == kind {
			return fmt.Sprintf("%v: %v", fields["status"], fields["message"])
		}
	}
	return "no condition " + kind
}

func isReady(object *unstructured.Unstructured) bool {
	return strings.HasPrefix(conditionOf(object, "Ready"), "True: ")
}

// program is a process that is measured.
type program struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when the process has ended
}

// startProgram starts a process whose output goes to a file in dir.
func startProgram(dir, name string, cmd *exec.Cmd) (*program, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	p := &program{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // its end is an error to whoever waits for what it does
	}()
	return p, nil
}

// stop ends the process, by force after a while.
func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.log.Close()
}

// explain adds the end of the process's log to an error.
func (p *program) explain(err error) error {
	if err == nil {
		return nil
	}
	content, _ := os.ReadFile(p.log.Name())
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	return fmt.Errorf("%s: %w; its log ends with:\n%s", p.name, err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
}

// memory is what the process holds now, and the most that it ever held, in MiB.
func (p *program) memory() (now, peak float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(status)) {
		field, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch field {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak, nil
}

// cpu is what the process has computed so far, on all cores.
func (p *program) cpu() (time.Duration, error) { return cpuOf(p.cmd.Process.Pid) }

// cpuOf is what a process has computed so far, on all cores.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time: %w", err)
	}
	return cpuIn(string(stat))
}

// cpuIn reads user and system time, the 14th and 15th field of a stat file, in
// hundredths of a second. The second one, the program's name, is in brackets.
func cpuIn(stat string) (time.Duration, error) {
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("no CPU time in %q", stat)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
