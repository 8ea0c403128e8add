package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
	"github.com/isthmus-mesh/isthmus/test/xds"
)

const (
	north = "northus-1"
	// rounds of changes whose latencies are measured.
	rounds = 5
)

// TestDiscovery proves by what real istiods of two releases tell their data planes
// that services of one member are found from all others, also after a credential was
// deleted, until the member leaves; and how, with and without gateways.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	p := newPeers(t, map[string]string{east: oneRelease, west: otherRelease, north: oneRelease})
	for _, name := range names(p.rig) {
		check(t, install(t.Context(), p.clients[name], "cart", global, map[string]int32{east: 2}[name]))
		check(t, install(t.Context(), p.clients[name], "pay", global, map[string]int32{west: 1}[name]))
		check(t, install(t.Context(), p.clients[name], "stock", nil, 1))
	}
	t.Run("a service is found through its member's gateway", func(t *testing.T) { testFound(t, p) })
	t.Run("it comes and goes", func(t *testing.T) { testComesAndGoes(t, p) })
	t.Run("many come and go at once", func(t *testing.T) { testManyServices(t, p) })
	t.Run("services are exported by the fleet", func(t *testing.T) { testExports(t, p) })
	t.Run("a credential that was deleted is put back", func(t *testing.T) { testCredentialPutBack(t, p) })
	t.Run("a credential that was edited is put back", func(t *testing.T) { testCredentialEdited(t, p) })
	t.Run("a member leaves", func(t *testing.T) { testLeaves(t, p, east) })
	t.Run("on one L3 network pods are found directly", func(t *testing.T) { testFlat(t, p) })
}

// behind is how cart is reached by others: so many pods on east.
func (p *peers) behind(t *testing.T, pods uint32) map[string]far {
	t.Helper()
	if pods == 0 {
		return map[string]far{}
	}
	return map[string]far{p.networks[east]: {p.gateway(t, east), 15008, pods}}
}

// toAll makes one condition that of all readers.
func toAll(readers []string, condition func(*xds.State) error) map[string]func(*xds.State) error {
	all := map[string]func(*xds.State) error{}
	for _, reader := range readers {
		all[reader] = condition
	}
	return all
}

func testFound(t *testing.T, p *peers) {
	const san = "spiffe://cluster.local/ns/shop/sa/cart"
	cart := hostname("cart")
	for _, reader := range p.others(east) {
		p.wait(t, reader, reaches(cart, p.behind(t, 2)))
		p.wait(t, reader, func(s *xds.State) error {
			if sans := s.Services[cart].GetSubjectAltNames(); !slices.Equal(sans, []string{san}) {
				return fmt.Errorf("%s has the names %q, want %q", cart, sans, san)
			}
			for _, w := range s.Of(cart) {
				if w.GetClusterId() == east && w.GetNetworkGateway() == nil {
					return fmt.Errorf("pod %s of another network is told", w.GetUid())
				}
			}
			return nil
		})
		// What people look at says the same.
		want := []debugWorkload{{Network: p.networks[east], ClusterID: east, Capacity: 2}}
		want[0].NetworkGateway.Port, want[0].Services = 15008, nil
		if diff := cmp.Diff(want, debugFar(t, p, reader, cart)); diff != "" {
			t.Errorf("/debug/ambientz of %s (-want +got):\n%s", reader, diff)
		}
	}
	p.wait(t, east, reaches(cart, map[string]far{}))
	p.wait(t, east, reaches(hostname("pay"), map[string]far{p.networks[west]: {p.gateway(t, west), 15008, 1}}))
	for _, name := range names(p.rig) {
		p.wait(t, name, reaches(hostname("stock"), map[string]far{}))
	}
}

// debugWorkload is what is compared of a workload of /debug/ambientz.
type debugWorkload struct {
	Network        string
	ClusterID      string `json:"clusterId"`
	Capacity       int
	NetworkGateway struct {
		Port int `json:"hboneMtlsPort"`
	} `json:"networkGateway"`
	Services map[string]any `json:"services"`
}

// debugFar are the workloads of a service that are reached through gateways.
func debugFar(t *testing.T, p *peers, name, service string) []debugWorkload {
	t.Helper()
	istiod, err := p.rig.Members[name].WaitIstiod(t.Context(), system, p.releases[name])
	check(t, err)
	response, err := http.Get(istiod.HTTP + "/debug/ambientz")
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	var page struct{ Workloads []debugWorkload }
	check(t, json.Unmarshal(body, &page))
	out := slices.DeleteFunc(page.Workloads, func(w debugWorkload) bool {
		_, of := w.Services[service]
		return !of || w.NetworkGateway.Port == 0
	})
	for i := range out {
		out[i].Services = nil
	}
	return out
}

// testComesAndGoes prints how long after a change on one member the istiods of the
// others have told their data planes. No latency is asserted: machines differ.
func testComesAndGoes(t *testing.T, p *peers) {
	cart, readers, owner := hostname("cart"), p.others(east), p.clients[east]
	none, two := toAll(readers, reaches(cart, p.behind(t, 0))), toAll(readers, reaches(cart, p.behind(t, 2)))
	took := map[string][]time.Duration{}
	for range rounds {
		for _, step := range []struct {
			name   string
			change func(context.Context) error
			after  map[string]func(*xds.State) error
		}{
			{"scaled to nothing", func(ctx context.Context) error { return scale(ctx, owner, "cart", 0) }, none},
			{"scaled to two pods", func(ctx context.Context) error { return scale(ctx, owner, "cart", 2) }, two},
			{"unlabelled", func(ctx context.Context) error { return label(ctx, owner, "cart", false) }, none},
			{"labelled", func(ctx context.Context) error { return label(ctx, owner, "cart", true) }, two},
		} {
			took[step.name] = append(took[step.name], p.timed(t, step.change, step.after)...)
		}
	}
	for _, name := range []string{"scaled to nothing", "scaled to two pods", "unlabelled", "labelled"} {
		t.Logf("%s, until the others' istiods told: %s", name, quantiles(took[name]))
	}
}

// manyServices on each member: ISTHMUS_SERVICES, else as many as a run of all tests has
// time for.
var manyServices = func() int {
	if n, err := strconv.Atoi(os.Getenv("ISTHMUS_SERVICES")); err == nil && n > 0 {
		return n
	}
	return 50
}()

// testManyServices prints how long it takes from the first of many services on all
// members until every istiod tells how each of them is reached in both other
// networks.
func testManyServices(t *testing.T, p *peers) {
	all, none := map[string]func(*xds.State) error{}, map[string]func(*xds.State) error{}
	for _, reader := range names(p.rig) {
		all[reader], none[reader] = manyFar(p.others(reader), manyServices), manyFar(p.others(reader), 0)
	}
	var made time.Duration
	took := p.timed(t, func(ctx context.Context) error {
		start := time.Now()
		err := p.forMany(func(c client.Client, i int) error {
			return c.Create(ctx, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("many-%d", i), Labels: global},
				Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "stock"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
			})
		})
		made = time.Since(start)
		return err
	}, all)
	t.Logf("%d services on each of %d members, made in %s, until all istiods told all: %s", manyServices, len(all), made.Round(time.Millisecond), quantiles(took))
	took = p.timed(t, func(ctx context.Context) error {
		return p.forMany(func(c client.Client, i int) error {
			return c.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("many-%d", i)}})
		})
	}, none)
	t.Logf("deleted, until all istiods told: %s", quantiles(took))
}

// forMany does something for each of many services on each member.
func (p *peers) forMany(do func(client.Client, int) error) error {
	var group errgroup.Group
	group.SetLimit(24)
	for i := range manyServices {
		for _, c := range p.clients {
			group.Go(func() error { return do(c, i) })
		}
	}
	return group.Wait()
}

// manyFar is a condition: so many services, with one pod in each of others' networks.
func manyFar(others []string, want int) func(*xds.State) error {
	return func(s *xds.State) error {
		got := 0
		for _, w := range s.Workloads {
			if w.GetNetworkGateway() == nil || w.GetCapacity().GetValue() != 1 {
				continue
			}
			for service := range w.GetServices() {
				if strings.HasPrefix(service, "shop/many-") {
					got++
				}
			}
		}
		if got != want*len(others) {
			return fmt.Errorf("%d services in %d networks are told, want %d", got, len(others), want*len(others))
		}
		return nil
	}
}

// testExports: what the fleet exports is found without a label, and no longer when
// it does not.
func testExports(t *testing.T, p *peers) {
	stock := hostname("stock")
	found, none := map[string]func(*xds.State) error{}, toAll(names(p.rig), reaches(stock, map[string]far{}))
	for _, reader := range names(p.rig) {
		want := map[string]far{}
		for _, other := range p.others(reader) {
			want[p.networks[other]] = far{p.gateway(t, other), 15008, 1}
		}
		found[reader] = reaches(stock, want)
	}
	for _, name := range names(p.rig) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "stock"}}
		check(t, p.clients[name].Patch(t.Context(), s, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"tier":"backend"}}}`))))
	}
	took := p.timed(t, func(context.Context) error {
		p.discover(t, "exports: [{namespace: shop, selector: {matchLabels: {tier: backend}}}]")
		return nil
	}, found)
	t.Logf("exported by a commit, until all istiods told: %s", quantiles(took))
	took = p.timed(t, func(context.Context) error { p.discover(t, ""); return nil }, none)
	t.Logf("no longer exported, until all istiods told: %s", quantiles(took))
}

// testCredentialPutBack: what was there comes back, the pair goes on, and no other
// pair notices.
func testCredentialPutBack(t *testing.T, p *peers) {
	before, err := p.credential(t, west, east)
	check(t, err)
	lost := p.losses(t, north, hostname("cart"))
	start := time.Now()
	check(t, p.clients[west].Delete(t.Context(), before))
	check(t, rig.Eventually(t.Context(), 30*time.Second, func() error {
		now, err := p.credential(t, west, east)
		if err == nil && !cmp.Equal(now.Data, before.Data) {
			err = errors.New("it is not what it was")
		}
		return err
	}))
	t.Logf("back after %s", time.Since(start).Round(time.Millisecond))
	p.scaleBoth(t, 3)
	p.scaleBoth(t, 2)
	p.allFound(t, time.Minute)
	if n := lost(); n > 0 {
		t.Errorf("another pair lost the service %d times", n)
	}
}

// testCredentialEdited has somebody lead a credential of each release's istiod to
// nowhere. It comes anew, the condition tells of it, the service is found again by what is
// there then, and the other reader does not notice.
func testCredentialEdited(t *testing.T, p *peers) {
	for reader, other := range map[string]string{west: north, north: west} {
		lost := p.losses(t, other, hostname("cart"))
		secret, err := p.credential(t, reader, east)
		check(t, err)
		before, is := secret.UID, secret.Data[east]
		address := strings.TrimPrefix(p.rig.Members[east].Server(), "https://")
		secret.Data[east] = []byte(strings.ReplaceAll(string(is), address, "127.0.0.1:1"))
		start := time.Now()
		check(t, p.clients[reader].Update(t.Context(), secret, client.FieldOwner("somebody")))
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			m, err := p.rig.Member(t.Context(), reader)
			if err == nil && apimeta.IsStatusConditionTrue(m.Status.Conditions, status.PeersReady) {
				err = errors.New("PeersReady does not tell of it")
			}
			return err
		}))
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			now, err := p.credential(t, reader, east)
			if err == nil && (now.UID == before || !bytes.Equal(now.Data[east], is)) {
				err = errors.New("it did not come anew")
			}
			return err
		}))
		p.allFound(t, time.Minute, reader)
		t.Logf("%s: read again after %s", p.releases[reader], time.Since(start).Round(time.Millisecond))
		p.scaleBoth(t, 3)
		p.scaleBoth(t, 2)
		if n := lost(); n > 0 {
			t.Errorf("another pair lost the service %d times", n)
		}
	}
}

// scaleBoth scales cart on east, and waits until all others have seen it.
func (p *peers) scaleBoth(t *testing.T, pods int32) {
	t.Helper()
	check(t, scale(t.Context(), p.clients[east], "cart", pods))
	for _, reader := range p.others(east) {
		p.wait(t, reader, reaches(hostname("cart"), p.behind(t, uint32(pods))))
	}
}

// losses watches a reader from now on, and tells how often a service had no pods
// in other networks.
func (p *peers) losses(t *testing.T, reader, service string) func() int {
	t.Helper()
	lost := 0
	p.watch(t, reader, func(_ time.Time, s *xds.State) {
		if len(farOf(s, service)) == 0 {
			lost++
		}
	})
	return func() int {
		p.watch(t, reader, nil) // closes the other one
		return lost
	}
}
