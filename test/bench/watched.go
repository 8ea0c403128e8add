package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// firstWatched members are there before the first look: what all members share
// comes with them.
const firstWatched = 10

// held is what a process holds, in bytes, when it watches so many members.
type held struct {
	Members    int    `json:"members"`
	Resident   uint64 `json:"resident"`
	Heap       uint64 `json:"heap"`
	Live       uint64 `json:"live"`
	Stacks     uint64 `json:"stacks"`
	Goroutines int    `json:"goroutines"`
	// Asked are the requests per member and minute of the last look.
	Asked float64 `json:"asked"`
}

// benchWatched measures what members cost a process that has nothing else: each
// with its connection, what it serves, what it has, and its watches.
func benchWatched(ctx context.Context, s settings) ([]Table, error) {
	cmd := exec.CommandContext(ctx, s.self, "-watch", strconv.Itoa(s.watched), "-settle", s.settle.String(), "-idle", s.idle.String(), "-profile", s.profile)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("watch %d members: %w", s.watched, err)
	}
	var looks [2]held
	if err := json.Unmarshal(out, &looks); err != nil {
		return nil, fmt.Errorf("read what members cost: %w", err)
	}
	return []Table{watchedTable(s, looks[0], looks[1])}, nil
}

func watchedTable(s settings, few, all held) Table {
	n := float64(all.Members - few.Members)
	row := func(name, unit string, value, bar float64) *Row {
		return &Row{Name: name, Unit: unit, Values: []float64{value}, AtMost: bar}
	}
	mib := func(name string, few, all uint64, bar float64) *Row {
		return row(name, "MiB", (float64(all)-float64(few))/n/(1<<20), bar)
	}
	return Table{
		Title: fmt.Sprintf("%d members watched, without the hub", all.Members),
		Rows: []*Row{
			mib("memory per member, resident", few.Resident, all.Resident, 1),
			mib("  of which on the heap, in use", few.Heap, all.Heap, 0),
			mib("  of which on the heap, reachable after a collection", few.Live, all.Live, 0),
			mib("  of which stacks", few.Stacks, all.Stacks, 0),
			row("goroutines per member", "", float64(all.Goroutines-few.Goroutines)/n, 0),
			row("requests per member and minute", "/min", all.Asked, 2),
		},
		Notes: []string{
			"Members are played by package apisim in a process of its own; each has the example's bundle.",
			fmt.Sprintf("What %d members need beyond the first %d, by a process that has applied once and watches; read %s later, without telling Go to collect.",
				all.Members-few.Members, few.Members, s.settle),
		},
	}
}

// watchAlone applies to members and watches them; it looks at what the process
// holds twice.
func watchAlone(ctx context.Context, s settings, out io.Writer, members int) error {
	set, err := exampleSet()
	if err != nil {
		return err
	}
	p, err := startPlayers(ctx, s.self)
	if err != nil {
		return err
	}
	defer p.stop()
	watching, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	w := watchers{players: p, set: set, running: &running}
	var looks []held
	for _, until := range []int{min(firstWatched, members-1), members} {
		fmt.Fprintf(s.progress, "bench: apply to %d members and watch them\n", until)
		for ; w.members < until; w.members++ {
			if err := w.add(watching); err != nil {
				return err
			}
		}
		if err := pauseFor(ctx, s.settle); err != nil {
			return err
		}
		look, err := w.look()
		if err != nil {
			return err
		}
		looks = append(looks, look)
	}
	if err := w.profile(s.profile); err != nil {
		return err
	}
	before, err := p.counts()
	if err != nil {
		return err
	}
	if err := pauseFor(ctx, s.idle); err != nil {
		return err
	}
	after, err := p.counts()
	if err != nil {
		return err
	}
	looks[1].Asked = float64(after.Minus(before).Total()) / float64(members) / s.idle.Minutes()
	return json.NewEncoder(out).Encode(looks)
}

// watchers are the members that are watched.
type watchers struct {
	players *players
	set     apply.Set
	running *sync.WaitGroup
	members int
}

func (w *watchers) add(ctx context.Context) error {
	kubeconfig, err := w.players.add(fmt.Sprintf("member-%04d", w.members))
	if err != nil {
		return err
	}
	config, err := member.Config(kubeconfig, member.Options{})
	if err != nil {
		return err
	}
	reached, err := member.Connect(config)
	if err != nil {
		return err
	}
	target := apply.NewTarget(reached)
	w.running.Go(func() { _ = apply.Watch(ctx, target, w.set.Mesh, func([]apply.Subject) {}) })
	_, err = apply.Apply(ctx, target, w.set, apply.Options{GatewayTimeout: time.Millisecond})
	return err
}

func (w *watchers) look() (held, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return held{}, err
	}
	h := held{Members: w.members, Goroutines: runtime.NumGoroutine()}
	for line := range strings.Lines(string(status)) {
		if field, value, _ := strings.Cut(line, ":"); field == "VmRSS" {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return held{}, fmt.Errorf("read the resident memory: %w", err)
			}
			h.Resident = kib << 10
		}
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	h.Heap, h.Stacks = stats.HeapInuse, stats.StackInuse
	runtime.GC()
	runtime.ReadMemStats(&stats)
	h.Live = stats.HeapAlloc
	return h, nil
}

// profile writes what is held into a folder, unless that is empty.
func (w *watchers) profile(folder string) error {
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"heap", "goroutine"} {
		file, err := os.Create(filepath.Join(folder, name+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.Lookup(name).WriteTo(file, 0); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return nil
}
