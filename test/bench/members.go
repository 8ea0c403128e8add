package main

import (
	"context"
	"fmt"
	"strings"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// commits of each kind are made after the first delivery.
const commits = 3

// manyMembers is what a fleet of many real members took.
type manyMembers struct {
	first, nothing, change, idle, writes, memory, peak *Row
}

func newManyMembers() *manyMembers {
	m := &manyMembers{
		first:   newRow("first delivery to all"),
		nothing: newRow("a commit that changes no member, until all have settled"),
		change:  newRow("a commit that changes one object of one member"),
		idle:    &Row{Name: "idle: requests per member", Unit: "/min", AtMost: 2},
		writes:  &Row{Name: "idle: writes to all members", Unit: "writes"},
		memory:  &Row{Name: "memory of the reconciler, idle", Unit: "MiB"},
		peak:    &Row{Name: "  the most that it was", Unit: "MiB"},
	}
	m.nothing.AtMost = 10
	return m
}

// benchMembers delivers to many real API servers, makes commits, and leaves the
// fleet alone for a while.
func benchMembers(ctx context.Context, s settings) ([]Table, error) {
	return onGround(ctx, s, memberNames(s.real), controlplane.ClusterOptions{APIServerOnly: true}, func(r *reconciler) ([]Table, error) {
		took := newManyMembers()
		if err := took.deliveries(ctx, s, r.ground, r); err != nil {
			return nil, err
		}
		if err := took.rest(ctx, s, r.ground, r); err != nil {
			return nil, err
		}
		return []Table{took.table(s)}, nil
	})
}

// deliveries makes the first delivery and then commits of both kinds in turn.
func (m *manyMembers) deliveries(ctx context.Context, s settings, g *ground, r *reconciler) error {
	files, err := realFleet(g.members)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.progress, "bench: deliver to %d members\n", s.real)
	if err := g.measure(ctx, m.first, r, files); err != nil {
		return err
	}
	plain := string(files[example+".yaml"].Data)
	for i := range commits {
		time.Sleep(pause)
		files["README.md"] = &fstest.MapFile{Data: fmt.Appendf(nil, "commit %d\n", i)}
		if err := g.measure(ctx, m.nothing, r, files); err != nil {
			return err
		}
		time.Sleep(pause)
		patch := strings.ReplaceAll(oneObject, "second", fmt.Sprintf("change-%d", i))
		files[example+".yaml"] = &fstest.MapFile{Data: []byte(plain + patch)}
		if err := g.measure(ctx, m.change, r, files); err != nil {
			return err
		}
	}
	return nil
}

// rest leaves the fleet alone and looks at what is done nevertheless.
func (m *manyMembers) rest(ctx context.Context, s settings, g *ground, r *reconciler) error {
	time.Sleep(5 * pause)
	fmt.Fprintf(s.progress, "bench: leave %d members alone for %s\n", s.real, s.idle)
	since := time.Now()
	select {
	case <-time.After(s.idle):
	case <-r.done:
		return fmt.Errorf("ended after %s", time.Since(since))
	case <-ctx.Done():
		return ctx.Err()
	}
	asked, err := g.asked(since, time.Now())
	if err != nil {
		return err
	}
	m.idle.Values = []float64{float64(asked.total()) / float64(s.real) / s.idle.Minutes()}
	m.idle.Counts = asked.counts(s.real)
	m.writes.Values = []float64{float64(asked.writes)}
	now, peak, err := r.memory()
	m.memory.Values, m.peak.Values = []float64{now}, []float64{peak}
	return err
}

func (m *manyMembers) table(s settings) Table {
	return Table{
		Title:   fmt.Sprintf("%d real members", s.real),
		Counted: countedRequests,
		Rows:    []*Row{m.first, m.nothing, m.change, m.idle, m.writes, m.memory, m.peak},
		Notes: []string{
			"A real API server each, on one etcd; rollouts and what istiod writes into Gateways are played, without nodes and pods.",
			"From the commit being there until the hub says that every member has it whole and is healthy.",
			fmt.Sprintf("Idle: %s with all settings at their defaults, beginning %s after the last commit; counts are of all members.", s.idle, 5*pause),
			"Requests are counted on the API servers, those of all members together; hub: those to the hub.",
			"The memory is the process's: isthmus run.",
		},
	}
}
