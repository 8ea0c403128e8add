package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

const (
	// fluxRounds are run by each side, for each number of members.
	fluxRounds = 3
	// noChange is the interval of both at which nothing has changed, and
	// noChangeSpan how long requests are counted.
	noChange, noChangeSpan = 20 * time.Second, time.Minute
)

// fluxMembers is how many members take part: one, where the waits of both sides
// show; and several, whose API servers share this machine and become what both
// sides wait for.
var fluxMembers = []int{1, 5}

// fleetDeliverer brings a fleet to all its members.
type fleetDeliverer interface {
	deliver(context.Context, fstest.MapFS) (time.Duration, error)
	// cpu is what its process has computed so far.
	cpu() (time.Duration, error)
	// explain adds what its process has logged to an error.
	explain(error) error
	stop()
}

// racer is one side of the race and what it took.
type racer struct {
	members                int
	start                  func(context.Context, *ground) (fleetDeliverer, error)
	first, change, nothing *Row
}

func newRacer(name string, members int, start func(context.Context, *ground) (fleetDeliverer, error)) *racer {
	r := &racer{members, start, newRow("%s, first delivery", name), newRow("%s, one object of one member changed", name), newRow("%s", name)}
	r.nothing.Unit = "requests"
	return r
}

// benchFlux compares delivery to a fleet with Flux.
func benchFlux(ctx context.Context, s settings) ([]Table, error) {
	controller, err := controlplane.KustomizeController(ctx, s.progress)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	isthmus, err := buildIsthmus(ctx, dir)
	if err != nil {
		return nil, err
	}
	startOurs := func(ctx context.Context, g *ground) (fleetDeliverer, error) {
		return startIsthmus(ctx, g, isthmus, fmt.Sprintf("--concurrency=%d", membersAtOnce), "--full-compare="+noChange.String())
	}
	startTheirs := func(ctx context.Context, g *ground) (fleetDeliverer, error) {
		return startFlux(ctx, g, controller, noChange.String())
	}
	var tables []Table
	for _, members := range fluxMembers {
		ours, theirs := newRacer("isthmus", members, startOurs), newRacer("kustomize-controller", members, startTheirs)
		if err := race(ctx, s, ours, theirs); err != nil {
			return nil, err
		}
		tables = append(tables, raceTable(ours, theirs))
		if members == fluxMembers[len(fluxMembers)-1] {
			tables = append(tables, intervalTable(ours, theirs))
		}
	}
	return tables, nil
}

// race lets both run in turn.
func race(ctx context.Context, s settings, ours, theirs *racer) error {
	rounds, run := min(s.pairs, fluxRounds), 0
	turn := func(r *racer) func() error {
		return func() error {
			run++
			fmt.Fprintf(s.progress, "bench: deliver to %d members, run %d of %d\n", r.members, run, 2*rounds)
			return r.run(ctx, s)
		}
	}
	return alternate(rounds, turn(ours), turn(theirs))
}

// run delivers to fresh members, waits for intervals, and delivers a change.
func (r *racer) run(ctx context.Context, s settings) error {
	members := memberNames(r.members)
	files, err := realFleet(members)
	if err != nil {
		return err
	}
	g, err := newGround(ctx, s.progress, members, controlplane.ClusterOptions{ShippedGC: true})
	if err != nil {
		return err
	}
	defer g.Stop()
	side, err := r.start(ctx, g)
	if err != nil {
		return err
	}
	defer side.stop()
	return side.explain(r.deliveries(ctx, g, side, files))
}

func (r *racer) deliveries(ctx context.Context, g *ground, side fleetDeliverer, files fstest.MapFS) error {
	time.Sleep(pause)
	if err := g.measure(ctx, r.first, side, files); err != nil {
		return err
	}
	time.Sleep(pause)
	if len(r.nothing.Values) == 0 && r.members == fluxMembers[len(fluxMembers)-1] { // it is the same in each run
		if err := r.wait(ctx, g); err != nil {
			return err
		}
	}
	edited := files[example+".yaml"]
	edited.Data = append(edited.Data, oneObject...)
	return g.measure(ctx, r.change, side, files)
}

// measure delivers, and adds the time and the requests to a row.
func (g *ground) measure(ctx context.Context, row *Row, side fleetDeliverer, files fstest.MapFS) error {
	since := time.Now()
	before, err := g.cpu(side)
	if err != nil {
		return err
	}
	took, err := side.deliver(ctx, files)
	if err != nil {
		return err
	}
	after, err := g.cpu(side)
	if err != nil {
		return err
	}
	asked, err := g.asked(since, time.Now())
	if err != nil {
		return err
	}
	row.add(took)
	row.Counts = asked.counts(len(g.members))
	for i, of := range countedCPU {
		row.Counts[of] = int((after[i] - before[i]).Milliseconds())
	}
	return nil
}

// countedCPU are columns with what the contender has computed, and the members.
var countedCPU = []string{"CPU ms", "members' CPU ms"}

// cpu is what has been computed so far, in the order of countedCPU.
func (g *ground) cpu(side fleetDeliverer) ([]time.Duration, error) {
	own, err := side.cpu()
	if err != nil {
		return nil, err
	}
	members := time.Duration(0)
	for _, name := range g.members {
		for _, pid := range g.Members[name].Pids() {
			used, err := cpuOf(pid)
			if err != nil {
				return nil, err
			}
			members += used
		}
	}
	return []time.Duration{own, members}, nil
}

// wait counts the requests of intervals without a change.
func (r *racer) wait(ctx context.Context, g *ground) error {
	since := time.Now()
	select {
	case <-time.After(noChangeSpan):
	case <-ctx.Done():
		return ctx.Err()
	}
	asked, err := g.asked(since, time.Now())
	if err != nil {
		return err
	}
	intervals := float64(noChangeSpan / noChange)
	r.nothing.Values = []float64{float64(asked.total()) / intervals / float64(len(g.members))}
	r.nothing.Counts = asked.counts(len(g.members))
	return nil
}

func raceTable(ours, theirs *racer) Table {
	bar := ratio("kustomize-controller : isthmus, first delivery", theirs.first, ours.first)
	bar.AtLeast = 3
	return Table{
		Title:   fmt.Sprintf("Delivery to fresh members, %d of them: isthmus and Flux's kustomize-controller %s", ours.members, controlplane.KustomizeControllerVersion),
		Counted: append(slices.Clone(countedRequests), countedCPU...),
		Rows: []*Row{theirs.first, ours.first, bar, theirs.change, ours.change,
			ratio("kustomize-controller : isthmus, one object changed", theirs.change, ours.change)},
		Notes: []string{
			"Real API servers and controllers, fresh ones for each run; nodes, readiness of pods, and what istiod writes into Gateways are played.",
			"The same bundles; isthmus delivers one Secret more, the CA's. istiod's webhook for policy matches nothing, because no istiod answers.",
			"From the commit (isthmus) or the artifact (Flux) being there until the hub says that every member has it whole and is healthy: spec.wait is on.",
			"isthmus's time includes reading Git and rendering; Flux's, fetching the artifact and building. Making the artifact is not counted.",
			fmt.Sprintf("Both: %d members at once, %d applies in flight to each, no client-side rate limit.", membersAtOnce, requestsAtOnce),
			"Requests are counted on the API servers, those of all members together; hub: those to the hub.",
			"CPU is that of the contender's process, and that of the members' API servers and controllers while it delivers; both wait for the latter.",
		},
	}
}

func intervalTable(ours, theirs *racer) Table {
	return Table{
		Title:   fmt.Sprintf("Requests per member and interval of %s, nothing changed, %d members", noChange, ours.members),
		Counted: countedRequests,
		Rows:    []*Row{theirs.nothing, ours.nothing, ratio("kustomize-controller : isthmus", theirs.nothing, ours.nothing)},
		Notes: []string{
			fmt.Sprintf("Counts are of %s and all members. Both make sure of every object once per interval: Flux by a dry run of each, isthmus by lists.", noChangeSpan),
			"isthmus also watches, and its interval is 20 minutes by default.",
		},
	}
}
