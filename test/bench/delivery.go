package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// deliverer brings the objects of one member to its cluster.
type deliverer interface {
	// first delivers to a cluster that has nothing, and returns when the
	// workloads are ready.
	first(context.Context, *controlplane.Cluster) (delivery, error)
	// again delivers the same once more, as a process that knows nothing.
	again(context.Context, *controlplane.Cluster) (delivery, error)
}

// delivery is what one delivery took.
type delivery struct {
	total time.Duration
	// waiting is the part of total that was spent waiting for health.
	waiting time.Duration
	// requests by what they do: "reads", "writes", "dry runs".
	requests map[string]int
}

// contender is a deliverer and what it took.
type contender struct {
	deliverer
	ready, busy, repeat *Row
}

func newContender(name string, d deliverer) contender {
	return contender{d, newRow("%s, until workloads are ready", name), newRow("%s, without the waiting", name), newRow("%s", name)}
}

// run delivers to a fresh cluster, lets it come to rest, and delivers again.
func (c contender) run(ctx context.Context, controlPlane *controlplane.ControlPlane, name string) error {
	cluster, err := controlPlane.Cluster(ctx, name, controlplane.ClusterOptions{ShippedGC: true})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	if err := cluster.InstallGatewayAPI(ctx, rig.GatewayAPI); err != nil {
		return err
	}
	time.Sleep(pause)
	first, err := c.first(ctx, cluster)
	if err != nil {
		return err
	}
	time.Sleep(pause)
	again, err := c.again(ctx, cluster)
	if err != nil {
		return err
	}
	c.ready.add(first.total)
	c.busy.add(first.total - first.waiting)
	c.repeat.add(again.total)
	c.ready.Counts, c.repeat.Counts = first.requests, again.requests
	return nil
}

// pause lets the controllers of a cluster finish what they were given.
const pause = 2 * time.Second

// benchDelivery compares delivery with kubectl.
func benchDelivery(ctx context.Context, s settings) ([]Table, error) {
	set, err := exampleSet()
	if err != nil {
		return nil, err
	}
	controlPlane, err := controlplane.Start(ctx, controlplane.Options{Progress: s.progress})
	if err != nil {
		return nil, err
	}
	defer controlPlane.Stop()
	dir, err := os.MkdirTemp("", "isthmus-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	client, err := newKubectl(controlPlane.Binaries().Kubectl, dir, set)
	if err != nil {
		return nil, err
	}
	ours, theirs := newContender("isthmus", isthmus{set}), newContender("kubectl apply --server-side", client)
	clusters := 0
	turn := func(c contender) func() error {
		return func() error {
			clusters++
			fmt.Fprintf(s.progress, "bench: deliver to a fresh cluster, %d of %d\n", clusters, 2*s.pairs)
			return c.run(ctx, controlPlane, fmt.Sprintf("bench-%d", clusters))
		}
	}
	if err := alternate(s.pairs, turn(ours), turn(theirs)); err != nil {
		return nil, err
	}
	start := newRow("kubectl version --client: one start of kubectl")
	for range s.pairs {
		if _, err := runProcess(start, client.command(ctx, "none", "version", "--client")); err != nil {
			return nil, err
		}
	}
	return deliveryTables(len(set.Objects), ours, theirs, start), nil
}

func deliveryTables(objects int, ours, theirs contender, start *Row) []Table {
	counted := []string{"reads", "writes", "dry runs"}
	return []Table{{
		Title:   fmt.Sprintf("Delivery of member %s to a fresh cluster: %d objects, Istio %s", example, objects, delivered),
		Counted: counted,
		Rows: []*Row{theirs.ready, theirs.busy, ours.ready, ours.busy, start,
			ratio("kubectl : isthmus, until ready", theirs.ready, ours.ready),
			ratio("kubectl : isthmus, without the waiting", theirs.busy, ours.busy)},
		Notes: []string{
			"Real API servers, a fresh one for each delivery; pods are played, and ready after a moment.",
			"Left out for both: ValidatingWebhookConfigurations, because no istiod is there to answer, and the CA's Secret.",
			"No istiod means that Gateways are never programmed: isthmus looks at them once and goes on, kubectl does not look.",
			"isthmus: all stages with their gates; two of its writes are the inventory.",
			"kubectl: apply namespaces and CRDs, wait for CRDs, apply the rest, rollout status: the least that works on a fresh cluster.",
			"kubectl starts four processes for that; isthmus is a process that runs already, as the reconciler does.",
		},
	}, {
		Title:   "The same delivery again, nothing to change",
		Counted: counted,
		Rows:    []*Row{theirs.repeat, ours.repeat, start, ratio("kubectl : isthmus", theirs.repeat, ours.repeat)},
		Notes: []string{
			"isthmus as after a restart: a new connection, nothing known of the member. A running reconciler has its watches and asks less.",
			"kubectl: all files in one call, with its discovery cache of the first time.",
		},
	}}
}

// exampleSet is the bundle of the example, without what would refuse objects as
// long as no istiod runs.
func exampleSet() (apply.Set, error) {
	files, err := exampleFleet(delivered, example)
	if err != nil {
		return apply.Set{}, err
	}
	bundles, _, _, err := render(renderer.New(catalog.Builtin()), files)
	if err != nil {
		return apply.Set{}, err
	}
	b := bundles[0]
	return apply.Set{
		Mesh:    apply.Mesh{Network: b.Network, SystemNamespace: b.SystemNamespace},
		Release: b.Release, Commit: "bench", Digest: b.Digest,
		Objects: slices.DeleteFunc(slices.Clone(b.Objects), func(o bundle.Object) bool {
			return o.Object.GetKind() == "ValidatingWebhookConfiguration"
		}),
	}, nil
}

// isthmus delivers as the reconciler does.
type isthmus struct{ set apply.Set }

func (i isthmus) first(ctx context.Context, cluster *controlplane.Cluster) (delivery, error) {
	return i.deliver(ctx, cluster, len(i.set.Objects))
}

func (i isthmus) again(ctx context.Context, cluster *controlplane.Cluster) (delivery, error) {
	return i.deliver(ctx, cluster, 0)
}

// deliver applies the set; it is an error if not just so many objects change.
func (i isthmus) deliver(ctx context.Context, cluster *controlplane.Cluster, changes int) (delivery, error) {
	var gates gates
	wire := &membertest.Wire{}
	wire.Rule(func(c membertest.Call) membertest.Fate {
		if c.Write() {
			gates.open()
		}
		return membertest.Pass
	})
	start := time.Now()
	config, err := member.Config(cluster.Kubeconfig(), member.Options{})
	if err != nil {
		return delivery{}, err
	}
	reached, err := member.Connect(wire.Into(config))
	if err != nil {
		return delivery{}, err
	}
	defer reached.Close()
	result, err := apply.Apply(ctx, apply.NewTarget(reached), i.set, apply.Options{
		GatewayTimeout: time.Millisecond,
		Progress: func(p apply.Progress) {
			if len(p.Waiting) > 0 {
				gates.shut()
			}
		},
	})
	if err != nil {
		return delivery{}, err
	}
	d := delivery{total: time.Since(start), waiting: gates.waited, requests: map[string]int{"writes": len(wire.Writes()), "dry runs": 0}}
	for _, c := range wire.Calls() {
		if c.DryRun() {
			d.requests["dry runs"]++
		}
	}
	d.requests["reads"] = len(wire.Calls()) - d.requests["writes"] - d.requests["dry runs"]
	changed := slices.DeleteFunc(result.Changes, func(c apply.Change) bool { return c.Action == apply.Unchanged })
	if len(changed) != changes {
		return d, fmt.Errorf("isthmus changed %d objects, not %d", len(changed), changes)
	}
	return d, nil
}

// gates adds up the time between a first look that finds something not healthy
// and the next write.
type gates struct {
	mu     sync.Mutex
	since  time.Time // zero while open
	waited time.Duration
}

func (g *gates) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		g.since = time.Now()
	}
}

func (g *gates) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.since.IsZero() {
		g.waited, g.since = g.waited+time.Since(g.since), time.Time{}
	}
}
