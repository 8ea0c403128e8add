package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/renderer"
)

const (
	// driftMembers are disturbed side by side, each by changes one after another.
	driftMembers = 5
	// driftPause is the most that passes between two changes of one member.
	driftPause = 200 * time.Millisecond
)

// corrections are the times from changes to their corrections.
type corrections struct {
	mu  sync.Mutex
	all []float64            // seconds
	by  map[string][]float64 // by kind of change
}

// benchDrift changes objects of members at random, and waits for each to be put back.
func benchDrift(ctx context.Context, s settings) ([]Table, error) {
	return onGround(ctx, s, memberNames(driftMembers), controlplane.ClusterOptions{ShippedGC: true}, func(r *reconciler) ([]Table, error) {
		return r.drift(ctx, s)
	})
}

func (r *reconciler) drift(ctx context.Context, s settings) ([]Table, error) {
	g := r.ground
	files, err := realFleet(g.members)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.progress, "bench: deliver to %d members, to disturb them\n", len(g.members))
	if _, err := r.deliver(ctx, files); err != nil {
		return nil, err
	}
	disturbers, err := g.disturbers(ctx, s.seed)
	if err != nil {
		return nil, err
	}
	time.Sleep(pause)
	since := time.Now()
	all, err := disturb(ctx, s, disturbers)
	if err != nil {
		return nil, err
	}
	asked, err := g.asked(since, time.Now())
	if err != nil {
		return nil, err
	}
	return []Table{driftTable(s, all, asked)}, nil
}

// disturbers are one for each member, with all objects that were delivered to it.
func (g *ground) disturbers(ctx context.Context, seed uint64) ([]*disturber, error) {
	files, err := realFleet(g.members)
	if err != nil {
		return nil, err
	}
	bundles, _, _, err := render(renderer.New(catalog.Builtin()), files)
	if err != nil {
		return nil, err
	}
	var all []*disturber
	for i, b := range bundles {
		client, err := g.ClientOf(b.Member)
		if err != nil {
			return nil, err
		}
		d := &disturber{
			client: client, changes: map[*unstructured.Unstructured][]time.Time{},
			random: rand.New(rand.NewPCG(seed, uint64(i))), //nolint:gosec // G404: no secret, a bench.
		}
		for _, o := range b.Objects {
			d.objects = append(d.objects, o.Object)
		}
		ca := &unstructured.Unstructured{}
		ca.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		if err := client.Get(ctx, types.NamespacedName{Namespace: system, Name: "cacerts"}, ca); err != nil {
			return nil, err
		}
		d.objects = append(d.objects, ca)
		all = append(all, d)
	}
	return all, nil
}

// disturb spreads the changes over the members.
func disturb(ctx context.Context, s settings, disturbers []*disturber) (*corrections, error) {
	all := &corrections{by: map[string][]float64{}}
	var group errgroup.Group
	for i, d := range disturbers {
		changes := s.changes / len(disturbers)
		if i < s.changes%len(disturbers) {
			changes++
		}
		group.Go(func() error {
			for range changes {
				kind, took, err := d.disturb(ctx)
				if err != nil {
					return err
				}
				all.add(s, kind, took)
				time.Sleep(time.Duration(d.random.Int64N(int64(driftPause))))
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil && len(all.all) == 0 {
		err = errors.New("nothing was changed")
	}
	return all, err
}

func (c *corrections) add(s settings, kind string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, took.Seconds())
	c.by[kind] = append(c.by[kind], took.Seconds())
	if len(c.all)%100 == 0 {
		fmt.Fprintf(s.progress, "bench: %d of %d changes put back\n", len(c.all), s.changes)
	}
}

func driftTable(s settings, all *corrections, asked requests) Table {
	every := &Row{Name: "all changes", Unit: "s", Values: all.all, Counts: map[string]int{"changes": len(all.all)}}
	p95 := &Row{Name: "  95 of 100 within", Unit: "s", Values: []float64{percentile(all.all, 95)}, AtMost: 1}
	p99 := &Row{Name: "  99 of 100 within", Unit: "s", Values: []float64{percentile(all.all, 99)}}
	rows := []*Row{every, p95, p99}
	for _, kind := range changeKinds {
		if values := all.by[kind]; len(values) > 0 {
			rows = append(rows, &Row{Name: kind, Unit: "s", Values: values, Counts: map[string]int{"changes": len(values)}},
				&Row{Name: "  95 of 100 within", Unit: "s", Values: []float64{percentile(values, 95)}})
		}
	}
	return Table{
		Title:   fmt.Sprintf("Drift: random changes on %d real members, from the change to its correction", driftMembers),
		Counted: []string{"changes"},
		Rows:    rows,
		Notes: []string{
			"From the answer to whoever made the change until a watch of that object, opened for it alone, shows what was there before.",
			fmt.Sprintf("Any object of the member, any field that isthmus sets, by one of %d field managers; seed %d. Refused changes are tried elsewhere.", len(changers), s.seed),
			"Namespaces and CRDs are changed and not deleted. In CRDs only descriptions are edited.",
			fmt.Sprintf("On each member one change after another, with pauses of up to %s; all members at once; an object at most %d times a minute.", driftPause, changesPerMinute),
			fmt.Sprintf("Requests of isthmus to the members, per change: %.1f.", float64(asked.total())/float64(len(all.all))),
		},
	}
}

// percentile is the value that so many of a hundred do not exceed.
func percentile(values []float64, hundredth int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*hundredth+99)/100-1)]
}
