package main

import (
	"context"
	"fmt"
	"os"
	"testing/fstest"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

const (
	// fluxMembers take part in the race, fluxRounds are run by each side.
	fluxMembers, fluxRounds = 5, 3
	// noChange is the interval of both at which nothing has changed, and
	// noChangeSpan how long requests are counted.
	noChange, noChangeSpan = 20 * time.Second, time.Minute
)

// fleetDeliverer brings a fleet to all its members.
type fleetDeliverer interface {
	deliver(context.Context, fstest.MapFS) (time.Duration, error)
	stop()
}

// racer is one side of the race and what it took.
type racer struct {
	start                  func(context.Context, *ground) (fleetDeliverer, error)
	first, change, nothing *Row
}

func newRacer(name string, start func(context.Context, *ground) (fleetDeliverer, error)) *racer {
	r := &racer{start, newRow("%s, first delivery", name), newRow("%s, one object of one member changed", name), newRow("%s", name)}
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
	ours := newRacer("isthmus", func(ctx context.Context, g *ground) (fleetDeliverer, error) {
		return startIsthmus(ctx, g, isthmus, fmt.Sprintf("--concurrency=%d", membersAtOnce), "--full-compare="+noChange.String())
	})
	theirs := newRacer("kustomize-controller", func(ctx context.Context, g *ground) (fleetDeliverer, error) {
		return startFlux(ctx, g, controller, noChange.String())
	})
	rounds := min(s.pairs, fluxRounds)
	run := 0
	turn := func(r *racer) func() error {
		return func() error {
			run++
			fmt.Fprintf(s.progress, "bench: deliver to %d members, run %d of %d\n", fluxMembers, run, 2*rounds)
			return r.run(ctx, s)
		}
	}
	if err := alternate(rounds, turn(ours), turn(theirs)); err != nil {
		return nil, err
	}
	return fluxTables(ours, theirs), nil
}

// run delivers to fresh members, waits for intervals, and delivers a change.
func (r *racer) run(ctx context.Context, s settings) error {
	members := memberNames(fluxMembers)
	files, err := realFleet(members)
	if err != nil {
		return err
	}
	g, err := newGround(ctx, s.progress, members, controlplane.ClusterOptions{})
	if err != nil {
		return err
	}
	defer g.Stop()
	side, err := r.start(ctx, g)
	if err != nil {
		return err
	}
	defer side.stop()
	time.Sleep(pause)
	if err := g.measure(ctx, r.first, side, files); err != nil {
		return err
	}
	time.Sleep(pause)
	if len(r.nothing.Values) == 0 { // it is the same in each run
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
	took, err := side.deliver(ctx, files)
	if err != nil {
		return err
	}
	asked, err := g.asked(since, time.Now())
	if err != nil {
		return err
	}
	row.add(took)
	row.Counts = asked.counts(len(g.members))
	return nil
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

func fluxTables(ours, theirs *racer) []Table {
	bar := ratio("kustomize-controller : isthmus, first delivery", theirs.first, ours.first)
	bar.AtLeast = 3
	return []Table{{
		Title:   fmt.Sprintf("Delivery to %d fresh members: isthmus and Flux's kustomize-controller %s", fluxMembers, controlplane.KustomizeControllerVersion),
		Counted: countedRequests,
		Rows: []*Row{theirs.first, ours.first, bar, theirs.change, ours.change,
			ratio("kustomize-controller : isthmus, one object changed", theirs.change, ours.change)},
		Notes: []string{
			"Real API servers and controllers, fresh ones for each run; nodes, readiness of pods, and what istiod writes into Gateways are played.",
			"The same bundles; isthmus delivers one Secret more, the CA's. istiod's webhook for policy matches nothing, because no istiod answers.",
			"From the commit (isthmus) or the artifact (Flux) being there until the hub says that every member has it whole and is healthy: spec.wait is on.",
			"isthmus's time includes reading Git and rendering; Flux's, fetching the artifact and building. Making the artifact is not counted.",
			fmt.Sprintf("Both: %d members at once, %d applies in flight to each, no client-side rate limit.", membersAtOnce, requestsAtOnce),
			"Requests are counted on the API servers, those of all members together; hub: those to the hub.",
		},
	}, {
		Title:   fmt.Sprintf("Requests per member and interval of %s, nothing changed", noChange),
		Counted: countedRequests,
		Rows:    []*Row{theirs.nothing, ours.nothing, ratio("kustomize-controller : isthmus", theirs.nothing, ours.nothing)},
		Notes: []string{
			fmt.Sprintf("Counts are of %s and all members. Both compare every object once per interval; isthmus also watches, and its default interval is 10 minutes.", noChangeSpan),
		},
	}}
}
