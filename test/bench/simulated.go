package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// simulated is what fleets of played members took, by their size.
type simulated struct {
	sizes []size

	nothing, change, drift, idle, writes, perMember, heapPerMember, goroutines *Row
}

// size is what a fleet of so many members needs when it is idle, in MiB.
type size struct {
	members      int
	first        time.Duration
	memory, heap float64
	goroutines   float64
}

func newSimulated() *simulated {
	s := &simulated{
		nothing:       newRow("a commit that changes no member, until all have settled"),
		change:        newRow("a commit that changes one object of one member"),
		drift:         newRow("an edit on one member, until it is corrected"),
		idle:          &Row{Name: "idle: requests per member", Unit: "/min", AtMost: 2},
		writes:        &Row{Name: "idle: writes to all members", Unit: "writes"},
		perMember:     &Row{Name: "memory per idle member, resident", Unit: "MiB", AtMost: 1},
		heapPerMember: &Row{Name: "  of which live on the heap", Unit: "MiB"},
		goroutines:    &Row{Name: "goroutines per idle member", Unit: ""},
	}
	s.nothing.AtMost = 10
	return s
}

// benchSimulated delivers to members that package apisim plays, more and more of
// them, makes commits and an edit, and leaves the fleet alone for a while.
func benchSimulated(ctx context.Context, s settings) ([]Table, error) {
	players, err := startPlayers(ctx, s.self)
	if err != nil {
		return nil, err
	}
	defer players.stop()
	metrics, err := freeAddress()
	if err != nil {
		return nil, err
	}
	return onGround(ctx, s, nil, controlplane.ClusterOptions{}, func(r *reconciler) ([]Table, error) {
		b := &simulatedBench{settings: s, ground: r.ground, reconciler: r, players: players, metrics: metrics, took: newSimulated()}
		if err := b.run(ctx); err != nil {
			return nil, err
		}
		return []Table{b.took.table(s)}, b.took.draw(s.plotMembers)
	}, "--metrics-address="+metrics)
}

// simulatedBench is one run with all that takes part.
type simulatedBench struct {
	settings   settings
	ground     *ground
	reconciler *reconciler
	players    *players
	metrics    string
	took       *simulated
}

func (b *simulatedBench) run(ctx context.Context) error {
	if err := b.look(ctx, size{}); err != nil {
		return err
	}
	for _, part := range []int{4, 2, 1} {
		if members := b.settings.members / part; members > 0 {
			if err := b.grow(ctx, members); err != nil {
				return err
			}
		}
	}
	b.took.slopes()
	if err := b.commits(ctx); err != nil {
		return err
	}
	if err := b.drift(ctx); err != nil {
		return err
	}
	return b.rest(ctx)
}

// grow the fleet to so many members, and see what it needs when it is idle.
func (b *simulatedBench) grow(ctx context.Context, members int) error {
	fmt.Fprintf(b.settings.progress, "bench: deliver to %d members, %d of them new\n", members, members-len(b.ground.members))
	if err := b.ground.grow(ctx, members, b.players.add); err != nil {
		return err
	}
	files, err := realFleet(b.ground.members)
	if err != nil {
		return err
	}
	first, err := b.reconciler.deliver(ctx, files)
	if err != nil {
		return err
	}
	return b.look(ctx, size{members: members, first: first})
}

// look waits until the reconciler is idle and reads what it needs.
func (b *simulatedBench) look(ctx context.Context, s size) error {
	if err := pauseFor(ctx, b.settings.settle); err != nil {
		return err
	}
	var err error
	if s.memory, _, err = b.reconciler.memory(); err != nil {
		return err
	}
	found, err := readMetrics(ctx, b.metrics, "go_memstats_heap_inuse_bytes", "go_goroutines")
	if err != nil {
		return err
	}
	s.heap, s.goroutines = found[0]/(1<<20), found[1]
	fmt.Fprintf(b.settings.progress, "bench: %d members: %.0f MiB resident, %.0f MiB on the heap, %.0f goroutines; first delivery %.1fs\n",
		s.members, s.memory, s.heap, s.goroutines, s.first.Seconds())
	b.took.sizes = append(b.took.sizes, s)
	return nil
}

// commits of both kinds in turn.
func (b *simulatedBench) commits(ctx context.Context) error {
	files, err := realFleet(b.ground.members)
	if err != nil {
		return err
	}
	plain := string(files[example+".yaml"].Data)
	for i := range commits {
		files["README.md"] = &fstest.MapFile{Data: fmt.Appendf(nil, "commit %d\n", i)}
		if err := b.measure(ctx, b.took.nothing, files); err != nil {
			return err
		}
		patch := strings.ReplaceAll(oneObject, "second", fmt.Sprintf("change-%d", i))
		files[example+".yaml"] = &fstest.MapFile{Data: []byte(plain + patch)}
		if err := b.measure(ctx, b.took.change, files); err != nil {
			return err
		}
	}
	return nil
}

// measure one commit, and what it asks of the members.
func (b *simulatedBench) measure(ctx context.Context, row *Row, files fstest.MapFS) error {
	if err := pauseFor(ctx, pause); err != nil {
		return err
	}
	before, err := b.players.counts()
	if err != nil {
		return err
	}
	took, err := b.reconciler.deliver(ctx, files)
	if err != nil {
		return err
	}
	after, err := b.players.counts()
	if err != nil {
		return err
	}
	fmt.Fprintf(b.settings.progress, "bench: %s: %.2fs, %+v\n", row.Name, took.Seconds(), after.Minus(before))
	row.add(took)
	row.Counts = countsOf(after.Minus(before), len(b.ground.members))
	return nil
}

// rest leaves the fleet alone and counts what is asked nevertheless.
func (b *simulatedBench) rest(ctx context.Context) error {
	if err := pauseFor(ctx, b.settings.settle); err != nil {
		return err
	}
	fmt.Fprintf(b.settings.progress, "bench: leave %d members alone for %s\n", len(b.ground.members), b.settings.idle)
	before, err := b.players.counts()
	if err != nil {
		return err
	}
	if err := pauseFor(ctx, b.settings.idle); err != nil {
		return err
	}
	after, err := b.players.counts()
	if err != nil {
		return err
	}
	asked, members := after.Minus(before), len(b.ground.members)
	b.took.idle.Values = []float64{float64(asked.Total()) / float64(members) / b.settings.idle.Minutes()}
	b.took.idle.Counts = countsOf(asked, members)
	b.took.writes.Values = []float64{float64(asked.Writes)}
	return nil
}

// slopes are what the members of the largest fleet need beyond a smaller one: the
// first member of all brings the charts of its release, which are held once.
func (s *simulated) slopes() {
	few, most := s.sizes[max(0, len(s.sizes)-3)], s.sizes[len(s.sizes)-1]
	n := float64(most.members - few.members)
	s.perMember.Values = []float64{(most.memory - few.memory) / n}
	s.heapPerMember.Values = []float64{(most.heap - few.heap) / n}
	s.goroutines.Values = []float64{(most.goroutines - few.goroutines) / n}
}

func (s *simulated) table(o settings) Table {
	t := Table{
		Title:   fmt.Sprintf("%d simulated members", o.members),
		Counted: append([]string{"members", "memory MiB", "heap MiB", "goroutines"}, countedPlayed...),
		Notes: []string{
			"Members are played by package apisim, in a process of its own on the same cores; the hub is real, and so is the reconciler: isthmus run.",
			"Playing leaves out much of what a real API server does. Latencies are those of this machine; requests and memory are what they would be.",
			"From the commit being there until the hub says that every member has it whole and is healthy; a larger fleet is the smaller one grown.",
			fmt.Sprintf("Memory is read %s after a delivery. Idle: %s, with all settings at their defaults; watches that are opened again count.", o.settle, o.idle),
		},
	}
	for _, size := range s.sizes[1:] {
		row := newRow("first delivery, until %d members have it", size.members)
		row.add(size.first)
		row.Counts = map[string]int{
			"members": size.members, "memory MiB": int(size.memory), "heap MiB": int(size.heap), "goroutines": int(size.goroutines),
		}
		t.Rows = append(t.Rows, row)
	}
	t.Rows = append(t.Rows, s.nothing, s.change, s.drift, s.idle, s.writes, s.perMember, s.heapPerMember, s.goroutines)
	return t
}

// draw the plot of the memory over the members, if a path is given.
func (s *simulated) draw(path string) error {
	if path == "" {
		return nil
	}
	points := make([]point, 0, len(s.sizes))
	for _, size := range s.sizes {
		points = append(points, point{float64(size.members), size.memory, fmt.Sprintf("%d: %.0f MiB", size.members, size.memory)})
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, plotLine(labels{
		title: "Resident memory of an idle reconciler, by members", about: "memory over the number of members", unit: "MiB",
	}, points), 0o644)
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
