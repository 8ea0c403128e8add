package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/test/faultproxy"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// leastKills is in how many moments TestKilled must have ended a process.
const leastKills = 50

// TestKilled ends the reconciler with kill -9: at every stage of a delivery and
// of a leave, before the stage's first write arrives and after, and at random
// calls of a delivery, of a change and of a leave. Each next process goes on, and
// in the end nothing is orphaned: what a member has after it has left is what it
// had before it joined.
func TestKilled(t *testing.T) {
	t.Parallel()
	k := newKills(t)
	before := objects(t, k.rig)
	t.Run("at every stage of a delivery", func(t *testing.T) {
		check(t, k.rig.Follow(t.Context(), time.Second))
		k.atEach(t, east, deliveryStages)
		k.converge(t, k.commit)
	})
	t.Run("at random moments of a change", func(t *testing.T) {
		check(t, k.rig.Repository.Replace(network, "  # The release of members", "  resources: [{path: many}]\n\n  # The release of members"))
		check(t, k.rig.Repository.Write("networks/prod/many/all.yaml", configMaps(0, 30)))
		k.commit = push(t, k.rig, "Thirty more objects")
		k.atRandom(t, 6)
		check(t, k.rig.Repository.Write("networks/prod/many/all.yaml", configMaps(10, 32)))
		k.commit = push(t, k.rig, "Ten less, two more: as many as the guard lets pass")
		k.atRandom(t, 6)
		k.converge(t, k.commit)
	})
	t.Run("at every stage of a leave", func(t *testing.T) {
		check(t, k.rig.Repository.Remove(memberFile(east)))
		k.commit = push(t, k.rig, "Remove "+east)
		k.atEach(t, east, leaveStages)
		k.gone(t, east)
	})
	t.Run("at random moments of a leave", func(t *testing.T) {
		// The guard lets the last member go by name only.
		check(t, k.rig.Repository.Replace(network, "  # The release of members", "  deletionGuard: {allow: ["+west+"]}\n\n  # The release of members"))
		check(t, k.rig.Repository.Remove(memberFile(west)))
		k.commit = push(t, k.rig, "Remove "+west)
		k.atRandom(t, 8)
		k.gone(t, west)
	})
	t.Run("nothing is orphaned", func(t *testing.T) {
		for _, name := range names(k.rig) {
			assertNoOrphans(t, k.rig, name, before[name])
		}
	})
	t.Logf("killed %d times", k.count)
	if k.count < leastKills {
		t.Errorf("killed %d times, want at least %d", k.count, leastKills)
	}
}

// stage is the write by which a stage is known.
type stage struct {
	name  string
	write faultproxy.Match
}

var deliveryStages = []stage{
	{"the system namespace", writes(http.MethodPatch, "/namespaces/"+system)},
	{"the inventory, ahead", writes(http.MethodPost, "/namespaces/"+system+"/configmaps")},
	{"CRDs", writes(http.MethodPatch, "/customresourcedefinitions/")},
	{"the CA", writes(http.MethodPatch, "/secrets/cacerts")},
	{"istiod", writes(http.MethodPatch, "/deployments/istiod")},
	{"webhooks", writes(http.MethodPatch, "/validatingwebhookconfigurations/")},
	{"CNI", writes(http.MethodPatch, "/daemonsets/istio-cni-node")},
	{"ztunnel", writes(http.MethodPatch, "/daemonsets/ztunnel")},
	{"gateways", writes(http.MethodPatch, "/gateways/istio-eastwestgateway")},
	{"the final inventory", writes(http.MethodPut, "/configmaps/isthmus-inventory")},
}

var leaveStages = []stage{
	{"gateways", writes(http.MethodDelete, "/gateways/")},
	{"ztunnel", writes(http.MethodDelete, "/daemonsets/ztunnel")},
	{"CNI", writes(http.MethodDelete, "/daemonsets/istio-cni-node")},
	{"webhooks", writes(http.MethodDelete, "/validatingwebhookconfigurations/")},
	{"istiod", writes(http.MethodDelete, "/deployments/istiod")},
	{"what istiod left", writes(http.MethodDelete, "/gatewayclasses/")},
	{"CRDs", writes(http.MethodDelete, "/customresourcedefinitions/")},
	{"the system namespace", writes(http.MethodDelete, "/namespaces/"+system)},
}

func writes(method, path string) faultproxy.Match {
	on := faultproxy.On(method, path)
	return func(c membertest.Call) bool { return c.Write() && on(c) }
}

// kills is a fleet whose reconciler is killed.
type kills struct {
	rig     *rig.Rig
	proxies map[string]*faultproxy.Proxy
	commit  string
	random  *rand.Rand
	count   int
}

func newKills(t *testing.T) *kills {
	t.Helper()
	r, commit := newRig(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &kills{rig: r, proxies: proxied(t, r), commit: commit, random: rand.New(rand.NewPCG(seed, 0))}
}

// proxied puts a proxy before the API server of every member.
func proxied(t *testing.T, r *rig.Rig) map[string]*faultproxy.Proxy {
	t.Helper()
	proxies := map[string]*faultproxy.Proxy{}
	for name, cluster := range r.Members {
		p, err := faultproxy.Start(faultproxy.Options{Upstream: cluster.Kubeconfig()})
		check(t, err)
		t.Cleanup(p.Close)
		t.Logf("seed of the proxy of %s: %d", name, p.Seed())
		check(t, r.SetKubeconfig(t.Context(), name, p.Kubeconfig()))
		proxies[name] = p
	}
	return proxies
}

// atEach kills a process at the first write of each stage on one member: once
// before it arrives, once after.
func (k *kills) atEach(t *testing.T, name string, stages []stage) {
	t.Helper()
	for _, s := range stages {
		for _, fault := range []func(func()) faultproxy.Fault{faultproxy.Before, faultproxy.After} {
			if !k.one(t, name, faultproxy.Rule{Match: s.write, Times: 1}, fault, 2*time.Minute) {
				t.Fatalf("no process came as far as: %s", s.name)
			}
		}
	}
}

// atRandom kills processes at random calls to any member; some at writes, some
// at reads. One that has nothing left to do is killed after a while.
func (k *kills) atRandom(t *testing.T, times int) {
	t.Helper()
	for range times {
		rule := faultproxy.Rule{Match: faultproxy.Writes, After: k.random.IntN(6), Times: 1}
		if k.random.IntN(4) == 0 {
			rule = faultproxy.Rule{Match: faultproxy.Calls, After: k.random.IntN(60), Times: 1}
		}
		fault := faultproxy.Before
		if k.random.IntN(2) == 0 {
			fault = faultproxy.After
		}
		k.one(t, "", rule, fault, 3*time.Second)
	}
}

// one runs a process until a call that the rule hits, on one member or on any,
// and kills it there. It reports whether that was before the time was over.
func (k *kills) one(t *testing.T, name string, rule faultproxy.Rule, fault func(func()) faultproxy.Fault, most time.Duration) bool {
	t.Helper()
	came := make(chan struct{}, len(k.proxies))
	rule.Do = fault(func() { came <- struct{}{} })
	for other, p := range k.proxies {
		if name == "" || name == other {
			p.Inject(rule)
		}
	}
	process := start(t, k.rig, nil)
	hit := false
	select {
	case <-came:
		hit = true
	case <-time.After(most):
	}
	process.kill()
	k.count++
	for _, p := range k.proxies {
		p.Heal()
	}
	return hit
}

// converge runs a process that nobody kills until a commit is applied.
func (k *kills) converge(t *testing.T, commit string) {
	t.Helper()
	process := start(t, k.rig, nil)
	check(t, k.rig.WaitApplied(t.Context(), commit, 3*time.Minute))
	process.kill()
}

// gone runs a process that nobody kills until a member has left.
func (k *kills) gone(t *testing.T, name string) {
	t.Helper()
	process := start(t, k.rig, nil)
	waitGone(t, k.rig, name)
	process.kill()
}

// waitGone waits until a member has left.
func waitGone(t *testing.T, r *rig.Rig, name string) {
	t.Helper()
	check(t, rig.Eventually(t.Context(), 3*time.Minute, func() error {
		m, err := r.Member(t.Context(), name)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is still there: %s", name, rig.Condition(m.Status.Conditions, "Ready"))
	}))
}

// assertNoOrphans compares what a member has after it has left with what it had
// before it joined. A workload's namespace stays: it may hold what is not ours.
func assertNoOrphans(t *testing.T, r *rig.Rig, name string, before []string) {
	t.Helper()
	after, err := r.Members[name].Objects(t.Context())
	check(t, err)
	for _, object := range added(before, after) {
		if !slices.Contains([]string{"namespaces /shop", "serviceaccounts shop/default", "configmaps shop/kube-root-ca.crt"}, object) {
			t.Errorf("orphaned on %s: %s", name, object)
		}
	}
}

// configMaps are manifests of some ConfigMaps.
func configMaps(from, to int) string {
	var out strings.Builder
	for i := from; i < to; i++ {
		_, _ = fmt.Fprintf(&out, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: many-%d, namespace: shop}\ndata: {number: \"%d\"}\n", i, i)
	}
	return out.String()
}
