package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// hubOfViews is a hub with members of one network and one of another, whose writes
// and reads of ConfigMaps are counted.
func hubOfViews(t *testing.T) (*views, map[string]*v1alpha1.Member, map[string]int) {
	t.Helper()
	scheme, calls := runtime.NewScheme(), map[string]int{}
	must(t, v1alpha1.AddToScheme(scheme))
	must(t, corev1.AddToScheme(scheme))
	members, objects := map[string]*v1alpha1.Member{}, []client.Object{}
	for name, network := range map[string]string{"east": "prod", "west": "prod", "leaves": "prod", "far": "test"} {
		m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: "hub", Name: name, UID: types.UID(name + "-uid")}, Spec: v1alpha1.MemberSpec{ApplicationNetwork: network}}
		m.Status.Discovery = &v1alpha1.DiscoveryStatus{Peers: []v1alpha1.PeerStatus{{Name: "peer-of-" + name, State: v1alpha1.PeerSynced}}}
		if name == "leaves" {
			now := metav1.Now()
			m.DeletionTimestamp, m.Finalizers = &now, []string{"isthmus.dev/member"}
		}
		members[name], objects = m, append(objects, m)
	}
	hub := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			calls["create"]++
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			calls["update"]++
			return c.Update(ctx, o, opts...)
		},
	}).Build()
	of := &roster{}
	for _, m := range members {
		of.replace(nil, m, false)
	}
	return &views{hub: hub, roster: of, synced: func(context.Context) bool { return true }, read: map[types.NamespacedName]readView{}}, members, calls
}

func viewOf(network string, services ...string) peering.View {
	v := peering.View{Exports: peering.Exports{Network: network, Gateways: []string{"10.0.0.1"}}, Keeps: map[string][]string{"shop": nil}}
	for _, name := range services {
		v.Exports.Services = append(v.Exports.Services, peering.Exported{Namespace: "shop", Name: name, Ready: 1})
	}
	return v
}

// TestViews: what one member is known to have comes to all others of its network, is
// written when it changed, and goes with the member.
func TestViews(t *testing.T) {
	v, members, calls := hubOfViews(t)
	write := func(name string, view peering.View, want bool) {
		t.Helper()
		if changed, err := v.write(t.Context(), members[name], view); err != nil || changed != want {
			t.Errorf("write of %s: %v, %v", name, changed, err)
		}
	}
	write("east", viewOf("net-e", "cart"), true)
	write("east", viewOf("net-e", "cart"), false)
	write("far", viewOf("net-f", "cart"), true)
	write("leaves", viewOf("net-l", "cart"), true)
	see := func() []peering.Member {
		t.Helper()
		all, err := v.members(t.Context(), members["west"], viewOf("net-w"))
		must(t, err)
		slices.SortFunc(all, func(a, b peering.Member) int { return strings.Compare(a.Name, b.Name) })
		return all
	}
	want := func(east peering.View) []peering.Member {
		own := viewOf("net-w")
		return []peering.Member{
			{Name: "east", View: &east, Peers: members["east"].Status.Discovery.Peers}, {Name: "west", View: &own, Peers: members["west"].Status.Discovery.Peers},
		}
	}
	if diff := cmp.Diff(want(viewOf("net-e", "cart")), see()); diff != "" {
		t.Errorf("west sees (-want +got):\n%s", diff)
	}
	write("east", viewOf("net-e", "cart", "till"), true)
	if diff := cmp.Diff(want(viewOf("net-e", "cart", "till")), see()); diff != "" {
		t.Errorf("west sees, after a change (-want +got):\n%s", diff)
	}
	var known corev1.ConfigMap
	must(t, v.hub.Get(t.Context(), types.NamespacedName{Namespace: "hub", Name: "isthmus-services-east"}, &known))
	if owners := known.OwnerReferences; len(owners) != 1 || owners[0].UID != "east-uid" || known.Labels[ServicesLabel] != "prod" {
		t.Errorf("of whom: %v, %v", owners, known.Labels)
	}
	// Somebody writes what is no view.
	known.BinaryData[ServicesKey] = []byte("?")
	must(t, v.hub.Update(t.Context(), &known))
	if got := see(); got[0].View != nil {
		t.Errorf("west sees %+v", got[0].View)
	}
	write("east", viewOf("net-e", "cart", "till"), true)
	if calls["create"] != 3 || calls["update"] != 3 {
		t.Errorf("calls %v", calls)
	}
	v.synced = func(context.Context) bool { return false }
	if _, err := v.members(t.Context(), members["west"], viewOf("net-w")); err == nil || !strings.Contains(err.Error(), "not read yet") {
		t.Errorf("a hub that is not read: %v", err)
	}
}

// TestTellServices: a look changes the status, and the hub not more often than once a
// minute.
func TestTellServices(t *testing.T) {
	v, members, calls := hubOfViews(t)
	now := trustStart
	r := &memberReconciler{views: v, now: func() time.Time { return now }}
	c, m := &connection{}, members["west"]
	t.Cleanup(func() { forgetMember("west") })
	east := viewOf("net-e", "cart")
	east.Exports.Gateways = nil
	_, err := v.write(t.Context(), members["east"], east)
	must(t, err)
	m.Status.Discovery.Peers = []v1alpha1.PeerStatus{{Name: "east", State: v1alpha1.PeerSyncing}}
	writes := func() int { return calls["create"] + calls["update"] - 1 }
	kept := viewOf("net-w", "a", "b")
	kept.Keeps["shop"] = []string{"cart"}
	for i, tt := range []struct {
		reason   string
		after    time.Duration
		view     peering.View
		written  int
		within   time.Duration
		problems string
	}{
		{"the first look", 0, viewOf("net-w", "a", "b"), 1, 2 * time.Second, "[]"},
		{"soon again: a peer is being read", 2 * time.Second, kept, 1, 4 * time.Second, "[shop/cart NotGlobalEverywhere]"},
		{"again", 4 * time.Second, kept, 1, 8 * time.Second, "[shop/cart NotGlobalEverywhere]"},
		{"the minute is over", time.Minute, kept, 2, 16 * time.Second, "[shop/cart NotGlobalEverywhere]"},
		{"nothing changed", time.Minute, kept, 2, 32 * time.Second, "[shop/cart NotGlobalEverywhere]"},
		{"and again", time.Minute, kept, 2, time.Minute, "[shop/cart NotGlobalEverywhere]"},
	} {
		now = now.Add(tt.after)
		must(t, r.tellServices(t.Context(), c, m, tt.view))
		d, problems := m.Status.Discovery, []string{}
		for _, p := range d.Problems {
			problems = append(problems, p.Service+" "+p.Reason)
		}
		if d.Services != 2 || int(d.ProblemCount) != len(problems) || fmt.Sprint(problems) != tt.problems {
			t.Errorf("%d, %s: %d services, %d problems: %q", i, tt.reason, d.Services, d.ProblemCount, problems)
		}
		if within := c.view.next.Sub(now); writes() != tt.written || within != tt.within {
			t.Errorf("%d, %s: %d writes, again within %s, want %d and %s", i, tt.reason, writes(), within, tt.written, tt.within)
		}
	}
	m.Status.Discovery.Peers[0].State = v1alpha1.PeerSynced
	must(t, r.tellServices(t.Context(), c, m, kept))
	if within := c.view.next.Sub(now); within < viewEvery || within > viewEvery*11/10 {
		t.Errorf("settled: again within %s", within)
	}
	c.view.changed([]apply.Change{{Action: apply.Unchanged}})
	if c.view.due(now, "") {
		t.Error("nothing changed, and istiod is asked")
	}
	if !c.view.due(now, "now") || c.view.due(now, "now") {
		t.Error("a request is not followed, or twice")
	}
	c.view.changed([]apply.Change{{Action: apply.Unchanged}, {Action: apply.Created}})
	if !c.view.due(now, "now") {
		t.Error("a change is not looked at")
	}
}

// TestTellUnknown: of a member whose istiod does not tell, the status says so; of one
// that is not reached, or has none, the conditions do.
func TestTellUnknown(t *testing.T) {
	for _, tt := range []struct {
		reason string
		err    error
		want   string
	}{
		{"closed", fmt.Errorf("istiod-1: %w", istiod.ErrClosed), "what istiod serves is not known: istiod-1: its debug interface is closed: take ENABLE_DEBUG_ON_HTTP=false from its environment"},
		{"no right", &member.Error{Reason: member.AccessDenied, Doing: "forward port 8080"}, "what istiod serves is not known: forward port 8080"},
		{"away", &member.Error{Reason: member.Unreachable, Doing: "list services"}, ""},
		{"no istiod", istiod.ErrNoIstiod, ""},
	} {
		m := &v1alpha1.Member{}
		tellUnknown(t.Context(), m, tt.err)
		got := ""
		if d := m.Status.Discovery; d != nil {
			got = d.Problems[0].Message
			if d.Problems[0].Service != "*" || d.Problems[0].Reason != "NotAsked" || d.ProblemCount != 1 {
				t.Errorf("%s: %+v", tt.reason, d)
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}

// TestManyProblems: a status has no more of them than it has room for.
func TestManyProblems(t *testing.T) {
	m := &v1alpha1.Member{}
	setServices(m, 0, nil)
	if m.Status.Discovery != nil {
		t.Error("a member without services has something to tell of them")
	}
	problems := make([]peering.Problem, 33)
	setServices(m, 7, problems)
	if d := m.Status.Discovery; len(d.Problems) != 20 || d.ProblemCount != 33 || d.Services != 7 {
		t.Errorf("%d problems of %d", len(d.Problems), d.ProblemCount)
	}
}
