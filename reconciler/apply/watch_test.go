package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
)

// guarded is a member with a set applied, watched and corrected.
type guarded struct {
	*member.Member
	wire   *membertest.Wire
	target *Target
	set    Set

	mu      sync.Mutex
	reports [][]Subject
	results []Result
	failed  []error
}

func guard(t *testing.T, network string) *guarded {
	m, wire := connected(t)
	g := &guarded{Member: m, wire: wire, target: NewTarget(m), set: small(t, network)}
	mustApply(t, NewTarget(m), g.set)
	mustApply(t, g.target, g.set) // a process that finds all as it should be
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- Watch(ctx, g.target, g.set.Mesh, func(subjects []Subject) {
			result, err := Correct(ctx, g.target, g.set, subjects, quick)
			g.mu.Lock()
			defer g.mu.Unlock()
			g.reports, g.results = append(g.reports, subjects), append(g.results, result)
			if err != nil && ctx.Err() == nil {
				g.failed = append(g.failed, err)
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
		if len(g.failed) > 0 {
			t.Errorf("correct: %v", g.failed[0])
		}
	})
	eventually(t, "the watches to live", func() bool {
		for _, e := range g.target.lastInventory().Entries {
			if _, live := g.target.watched(e.Subject); !live {
				return false
			}
		}
		return true
	})
	return g
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(start) > 15*time.Second {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func (g *guarded) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reports, g.results = nil, nil
	g.wire.Reset()
}

func TestDriftIsPutBack(t *testing.T) {
	t.Parallel()
	g := guard(t, "drift")
	system := "drift-system"
	for _, tt := range []struct {
		reason string
		break_ func(t *testing.T)
		back   func() bool
		by     string
		writes int // the inventory's too, where the object is a new one
	}{
		{"an edited field", func(t *testing.T) {
			patch(t, g.Member, "v1", "ConfigMap", system, "istio", `{"data":{"mesh":"trustDomain: evil"}}`)
		}, func() bool {
			return field(g, "v1", "ConfigMap", "istio", "data", "mesh") == "trustDomain: cluster.local"
		}, "kubectl-edit", 1},
		{"a removed field, of which the API server keeps no author", func(t *testing.T) {
			patch(t, g.Member, "v1", "ConfigMap", system, "istio", `{"data":{"mesh":null}}`)
		}, func() bool {
			return field(g, "v1", "ConfigMap", "istio", "data", "mesh") == "trustDomain: cluster.local"
		}, "", 1},
		{"a deleted object", func(t *testing.T) {
			remove(t, g.Member, "apps/v1", "DaemonSet", system, "ztunnel")
		}, func() bool { return field(g, "apps/v1", "DaemonSet", "ztunnel", "metadata", "name") == "ztunnel" }, "", 2},
		{"our label removed: the object leaves the watch", func(t *testing.T) {
			patch(t, g.Member, "v1", "ConfigMap", system, "istio", `{"metadata":{"labels":{"isthmus.dev/network":null}}}`)
		}, func() bool {
			return field(g, "v1", "ConfigMap", "istio", "metadata", "labels", LabelNetwork) == "drift"
		}, "", 1},
		{"the other label edited", func(t *testing.T) {
			patch(t, g.Member, "v1", "ConfigMap", system, "istio", `{"metadata":{"labels":{"isthmus.dev/component":"mine"}}}`)
		}, func() bool {
			return field(g, "v1", "ConfigMap", "istio", "metadata", "labels", LabelComponent) == "istiod"
		}, "kubectl-edit", 1},
		{"an annotation of ours edited", func(t *testing.T) {
			patch(t, g.Member, "v1", "Namespace", "", "drift-shop", `{"metadata":{"annotations":{"isthmus.dev/prune":"no"}}}`)
		}, func() bool {
			o, err := get(g.Member, "v1", "Namespace", "", "drift-shop")
			return err == nil && o.GetAnnotations()[AnnotationPrune] == PruneRelease
		}, "kubectl-edit", 1},
		{"the CA secret deleted", func(t *testing.T) {
			remove(t, g.Member, "v1", "Secret", system, "cacerts")
		}, func() bool { return field(g, "v1", "Secret", "cacerts", "metadata", "name") == "cacerts" }, "", 2},
		{"the inventory deleted", func(t *testing.T) {
			remove(t, g.Member, "v1", "ConfigMap", system, inventoryName)
		}, func() bool { return field(g, "v1", "ConfigMap", inventoryName, "metadata", "name") == inventoryName }, "", 1},
		{"the inventory edited", func(t *testing.T) {
			patch(t, g.Member, "v1", "ConfigMap", system, inventoryName, `{"data":{"inventory.json":"{}"}}`)
		}, func() bool { return len(field(g, "v1", "ConfigMap", inventoryName, "data", "inventory.json")) > 10 }, "", 1},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			g.reset()
			other, _ := connected(t) // the breaking is not among the calls that are counted
			mine := g.Member
			g.Member = other
			tt.break_(t)
			eventually(t, "it to be put back", tt.back)
			time.Sleep(3 * coalesce) // what follows from our own write would show now
			g.Member = mine
			g.mu.Lock()
			defer g.mu.Unlock()
			writes := slices.DeleteFunc(g.wire.Writes(), func(c membertest.Call) bool { return c.DryRun() })
			if len(writes) != tt.writes {
				t.Errorf("writes: %v", writes)
			}
			if by := authors(g.results); !slices.Contains(by, tt.by) {
				t.Errorf("reports %v, results %+v", g.reports, g.results)
			}
		})
	}
}

// TestWhatOthersChangedOfASecret: its labels are told from what is in it.
func TestWhatOthersChangedOfASecret(t *testing.T) {
	t.Parallel()
	g := guard(t, "labelled")
	for _, tt := range []struct {
		reason, patch string
		want          bool
	}{
		{"a label", `{"metadata":{"labels":{"isthmus.dev/component":"mine"}}}`, false},
		{"an entry", `{"data":{"ca-key.pem":"bWluZQ=="}}`, true},
		{"a label, after that", `{"metadata":{"labels":{"isthmus.dev/component":"mine"}}}`, false},
	} {
		g.reset()
		other, _ := connected(t)
		patch(t, other, "v1", "Secret", "labelled-system", caSecret, tt.patch)
		var got *Change
		eventually(t, tt.reason+" to be put back", func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			for _, r := range g.results {
				for _, c := range r.Changes {
					if c.Action == Configured {
						got = &c
					}
				}
			}
			return got != nil
		})
		if got.Content != tt.want || !got.Trust {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}

// authors are the field managers that made corrections necessary.
func authors(results []Result) []string {
	var by []string
	for _, r := range results {
		by = append(by, "")
		for _, c := range r.Changes {
			by = append(by, c.By)
		}
	}
	return by
}

func field(g *guarded, apiVersion, kind, name string, path ...string) string {
	o, err := get(g.Member, apiVersion, kind, "drift-system", name)
	if err != nil {
		return ""
	}
	text, _, _ := unstructured.NestedString(o.Object, path...)
	return text
}

func TestWhatIsNotOursIsLeftAlone(t *testing.T) {
	t.Parallel()
	g := guard(t, "others")
	for _, tt := range []struct {
		reason, apiVersion, kind, name, patch string
	}{
		{"the CA bundle that istiod writes", "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "others-validator",
			`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"Y2E="}]`},
		{"replicas, which an autoscaler owns", "apps/v1", "Deployment", "istiod", `[{"op":"replace","path":"/spec/replicas","value":2}]`},
		{"an annotation of somebody else", "apps/v1", "DaemonSet", "ztunnel",
			`[{"op":"add","path":"/metadata/annotations/gateway.istio.io~1controller-version","value":"5"}]`},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			namespace := "others-system"
			if tt.kind == "ValidatingWebhookConfiguration" {
				namespace = ""
			}
			other, _ := connected(t)
			g.reset()
			jsonPatch(t, other, tt.apiVersion, tt.kind, namespace, tt.name, tt.patch)
			time.Sleep(6 * coalesce)
			g.mu.Lock()
			defer g.mu.Unlock()
			if writes := g.wire.Writes(); len(writes) > 0 {
				t.Errorf("fought over it: %v", writes)
			}
		})
	}
	g.reset()
	if r := mustApply(t, g.target, g.set); r.Count(Unchanged) != len(r.Changes) || len(g.wire.Writes()) > 0 {
		t.Errorf("the next apply fought: %v", r.Changes)
	}
}

func TestIdleCostsAlmostNothing(t *testing.T) {
	t.Parallel()
	g := guard(t, "idle")
	time.Sleep(time.Second) // controllers finish their first work on the objects
	mustApply(t, g.target, g.set)
	g.reset()
	mustApply(t, g.target, g.set)
	if calls := g.wire.Calls(); len(calls) > 2 { // one look at each workload's health
		t.Errorf("%d calls: %v", len(calls), calls)
	}
	time.Sleep(time.Second)
	if calls := g.wire.Calls(); len(calls) > 2 {
		t.Errorf("calls while nothing happens: %v", calls)
	}
}

// TestMissedWhileAway cuts the watches off, lets something change meanwhile, and
// answers the watch that comes back with 410.
func TestMissedWhileAway(t *testing.T) {
	t.Parallel()
	g := guard(t, "away")
	other, _ := connected(t)
	g.wire.Rule(func(membertest.Call) membertest.Fate { return membertest.Cut })
	g.wire.CutWatches()
	eventually(t, "the watch to know that it is away", func() bool {
		_, live := g.target.watched(InventorySubject(g.set.Mesh))
		return !live
	})
	remove(t, other, "v1", "ConfigMap", "away-system", "istio")
	expired := false
	g.wire.Rule(func(c membertest.Call) membertest.Fate {
		if c.Watch() && strings.Contains(c.Path, "configmaps") && !expired {
			expired = true
			return membertest.Expire
		}
		return membertest.Pass
	})
	eventually(t, "it to be put back", func() bool {
		_, err := get(other, "v1", "ConfigMap", "away-system", "istio")
		return err == nil
	})
	if !expired {
		t.Error("no watch came back")
	}
}

// TestExpiringWatchesAreFew answers every watch with 410, as a server does whose
// history is lost: each kind is asked a few times, and not as fast as it answers.
func TestExpiringWatchesAreFew(t *testing.T) {
	t.Parallel()
	g := guard(t, "expiring")
	g.wire.Reset()
	g.wire.Rule(func(c membertest.Call) membertest.Fate {
		if c.Watch() {
			return membertest.Expire
		}
		return membertest.Pass
	})
	g.wire.CutWatches()
	perKind := map[string]int{}
	eventually(t, "some kind to be asked as often as it may be at once", func() bool {
		clear(perKind)
		for _, c := range g.wire.Calls() {
			if c.Watch() {
				perKind[c.Path]++
			}
		}
		for _, n := range perKind {
			if n >= watchBurst {
				return true
			}
		}
		return false
	})
	time.Sleep(time.Second) // in which nothing may happen any more
	clear(perKind)
	for _, c := range g.wire.Calls() {
		if c.Watch() {
			if perKind[c.Path]++; perKind[c.Path] > 3*watchBurst {
				t.Fatalf("%s is watched more than %d times", c.Path, 3*watchBurst)
			}
		}
	}
}

func TestCorrectionLatency(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred cases")
	}
	guard(t, "latency")
	other, _ := connected(t)
	system := "latency-system"
	var times []time.Duration
	for i := range 100 {
		start := time.Now()
		if i%2 == 0 {
			patch(t, other, "v1", "ConfigMap", system, "istio", fmt.Sprintf(`{"data":{"mesh":"broken %d"}}`, i))
			eventually(t, "the edit to be put back", func() bool {
				o, err := get(other, "v1", "ConfigMap", system, "istio")
				mesh := ""
				if err == nil {
					mesh, _, _ = unstructured.NestedString(o.Object, "data", "mesh")
				}
				return mesh == "trustDomain: cluster.local"
			})
		} else {
			remove(t, other, "v1", "ConfigMap", system, "istio")
			eventually(t, "the object to be put back", func() bool {
				_, err := get(other, "v1", "ConfigMap", system, "istio")
				return err == nil
			})
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	p50, p95 := times[len(times)/2], times[len(times)*95/100]
	t.Logf("100 corrections: p50 %v, p95 %v, longest %v", p50, p95, times[len(times)-1])
	if p95 > time.Second {
		t.Errorf("p95 %v, want at most 1s", p95)
	}
}

// A watch that says nothing more and looks alive is what the full compare is for;
// it does not try out what has not changed.
func TestDoubtFindsWhatAWatchMissed(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "doubt")
	target := NewTarget(m)
	mustApply(t, target, set)
	edited := subject("v1", "ConfigMap", set.SystemNamespace, "istio")
	seen, err := target.observe(t.Context(), set.Mesh, map[schema.GroupVersionKind]bool{edited.kind(): true}, false)
	if err != nil {
		t.Fatal(err)
	}
	deaf := &view{kind: subject("v1", "ConfigMap", "", ""), live: true, objects: map[types.NamespacedName]sight{}}
	for s, what := range seen {
		deaf.objects[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = *what
	}
	mapping, err := m.Mapping(edited.kind())
	if err != nil {
		t.Fatal(err)
	}
	target.setView(mapping.Resource, deaf)
	jsonPatch(t, m, "v1", "ConfigMap", edited.Namespace, edited.Name, `[{"op":"add","path":"/data/mesh","value":"edited"}]`)
	if result := mustApply(t, target, set); result.Count(Configured) != 0 {
		t.Fatalf("the watch was not believed: %v", result.Changes)
	}
	wire.Reset()
	target.Doubt()
	result := mustApply(t, target, set)
	if result.Count(Configured) != 1 || result.Count(Unchanged) != len(result.Changes)-1 {
		t.Errorf("changes: %v", result.Changes)
	}
	for _, call := range wire.Calls() {
		if call.DryRun() && !strings.HasSuffix(call.Path, "/configmaps/istio") {
			t.Errorf("tried without need: %s", call.Path)
		}
	}
}
