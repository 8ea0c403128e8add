package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
	"github.com/isthmus-mesh/isthmus/test/xds"
)

// testLeaves removes a member from the fleet: what the others' istiods tell of it goes,
// all of it. Its cluster is no member any more afterwards.
func testLeaves(t *testing.T, p *peers, name string) {
	readers := p.others(name)
	gone := func(s *xds.State) error {
		for _, w := range s.Workloads {
			if w.GetNetwork() == p.networks[name] || w.GetClusterId() == name {
				return fmt.Errorf("%s of %s is told", w.GetUid(), name)
			}
		}
		return nil
	}
	check(t, p.rig.Repository.Remove(memberFile(name)))
	took := p.timed(t, func(context.Context) error { push(t, p.rig, "Remove "+name); return nil }, toAll(readers, gone))
	t.Logf("a member leaves by a commit, until the others' istiods told nothing of it: %s", quantiles(took))
	waitGone(t, p.rig, name)
	for _, reader := range readers {
		p.wait(t, reader, gone)
	}
	delete(p.rig.Members, name) // the cluster goes on, and nobody asks it any more
}

// flatNetwork is the L3 network on which pods of several members reach each other.
const flatNetwork = "net-flat"

// testFlat puts all members on one L3 network: each istiod then tells the pods of the
// others by their own addresses, and of no gateway.
func testFlat(t *testing.T, p *peers) {
	for _, name := range names(p.rig) {
		p.networks[name] = flatNetwork
		p.writeMember(t, name)
	}
	commit := push(t, p.rig, "One L3 network")
	check(t, p.rig.WaitApplied(t.Context(), commit, 3*time.Minute))
	p.allFound(t, time.Minute)
	reader, owner, pay := north, west, hostname("pay")
	p.eventually(t, reader, 2*time.Minute, direct(pay, owner, 1))
	took := map[string][]time.Duration{}
	for range rounds {
		for _, step := range []struct {
			name string
			pods int32
		}{{"scaled to three pods", 3}, {"scaled to one", 1}} {
			took[step.name] = append(took[step.name], p.timed(t,
				func(ctx context.Context) error { return scale(ctx, p.clients[owner], "pay", step.pods) },
				map[string]func(*xds.State) error{reader: direct(pay, owner, int(step.pods))})...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(took)) {
		t.Logf("%s on one L3 network, until the other's istiod told: %s", name, quantiles(took[name]))
	}
	p.wait(t, reader, func(s *xds.State) error {
		var told []string
		for _, w := range s.Of(pay) {
			for _, address := range w.GetAddresses() {
				told = append(told, addressOf(address))
			}
		}
		if diff := cmp.Diff(podAddresses(t, p, owner, "pay"), told); diff != "" {
			return fmt.Errorf("addresses of the pods (-are +told):\n%s", diff)
		}
		return nil
	})
}

// podAddresses of a service of shop on a member, sorted.
func podAddresses(t *testing.T, p *peers, name, app string) []string {
	t.Helper()
	var pods corev1.PodList
	check(t, p.clients[name].List(t.Context(), &pods, client.InNamespace("shop"), client.MatchingLabels{"app": app}))
	var out []string
	for _, pod := range pods.Items {
		out = append(out, pod.Status.PodIP)
	}
	slices.Sort(out)
	return out
}

// direct is a condition: a service has so many pods of a member, each reached by itself.
func direct(service, member string, pods int) func(*xds.State) error {
	return func(s *xds.State) error {
		n := 0
		for _, w := range s.Of(service) {
			if w.GetNetworkGateway() != nil {
				return fmt.Errorf("%s is reached through a gateway", w.GetUid())
			}
			if w.GetClusterId() == member {
				n++
			}
		}
		if n != pods {
			return fmt.Errorf("%s has %d pods of %s, want %d", service, n, member, pods)
		}
		return nil
	}
}

// eventually waits until what a member's istiod tells is so, also when that istiod ends
// meanwhile and another one follows.
func (p *peers) eventually(t *testing.T, name string, timeout time.Duration, condition func(*xds.State) error) {
	t.Helper()
	check(t, rig.Eventually(t.Context(), timeout, func() error {
		p.watch(t, name, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := p.watches[name].Wait(ctx, condition)
		return err
	}))
}
