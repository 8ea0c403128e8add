package reconciler

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func aMember(network, name string) v1alpha1.Member {
	return v1alpha1.Member{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       v1alpha1.MemberSpec{ApplicationNetwork: network},
	}
}

// commit is an accepted commit with a network "prod" and members of it.
func commit(guard v1alpha1.DeletionGuard, members ...string) *accepted {
	a := &accepted{commit: "4f2c9e1", bundles: map[string]bundle.Bundle{}}
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	network.Spec.DeletionGuard = guard
	a.networks = append(a.networks, network)
	for _, name := range members {
		a.bundles[name] = bundle.Bundle{Member: name, Network: "prod"}
	}
	return a
}

func TestGuard(t *testing.T) {
	two, zero := int32(2), int32(0)
	three := []v1alpha1.Member{aMember("prod", "a-1"), aMember("prod", "b-1"), aMember("prod", "c-1")}
	leaving := slices.Clone(three)
	now := metav1.Now()
	leaving[1].DeletionTimestamp, leaving[2].DeletionTimestamp = &now, &now
	for _, tt := range []struct {
		reason  string
		current []v1alpha1.Member
		next    *accepted
		stops   bool
	}{
		{"nothing is removed", three, commit(v1alpha1.DeletionGuard{}, "a-1", "b-1", "c-1"), false},
		{"one may go without asking", three, commit(v1alpha1.DeletionGuard{}, "a-1", "b-1"), false},
		{"two may not", three, commit(v1alpha1.DeletionGuard{}, "a-1"), true},
		{"two may where the fleet says so", three, commit(v1alpha1.DeletionGuard{Members: &two}, "a-1"), false},
		{"named members do not count", three, commit(v1alpha1.DeletionGuard{Allow: []string{"b-1"}}, "a-1"), false},
		{"none may where the fleet says so", three, commit(v1alpha1.DeletionGuard{Members: &zero}, "a-1", "b-1"), true},
		{"those that are leaving already do not count", leaving, commit(v1alpha1.DeletionGuard{Members: &zero}, "a-1"), false},
		{"the last one may not, however few they are", three[:1], commit(v1alpha1.DeletionGuard{Members: &two}), true},
		{"the last one may where it is named", three[:1], commit(v1alpha1.DeletionGuard{Allow: []string{"a-1"}}), false},
		{"an only member that is renamed is not the last one", three[:1], commit(v1alpha1.DeletionGuard{}, "a-2"), false},
		{"an empty repository", three[:1], &accepted{commit: "4f2c9e1", bundles: map[string]bundle.Bundle{}}, true},
		{"a network that is gone gets the default", []v1alpha1.Member{aMember("dev", "x-1"), aMember("dev", "y-1")}, commit(v1alpha1.DeletionGuard{Members: &two}), true},
	} {
		failure := guard(nil, published{members: tt.current}, tt.next)
		if (failure != nil) != tt.stops {
			t.Errorf("%s: failure %+v, want one: %v", tt.reason, failure, tt.stops)
		}
		if failure != nil && (failure.Reason != status.ReasonDeletionGuard || !failure.Stalled || !strings.Contains(failure.Message, "deletionGuard.allow")) {
			t.Errorf("%s: failure %+v does not say what to do", tt.reason, failure)
		}
	}
}

func TestGuardOfNamespaces(t *testing.T) {
	running := commit(v1alpha1.DeletionGuard{}).networks[0].DeepCopy()
	running.Spec.DataPlane.Namespace = "applink-system"
	for _, tt := range []struct {
		reason, namespace string
		members           []v1alpha1.Member
		stops             bool
	}{
		{"the same namespace", "applink-system", []v1alpha1.Member{aMember("prod", "a-1")}, false},
		{"a move would orphan what the inventories list", "istio-system", []v1alpha1.Member{aMember("prod", "a-1")}, true},
		{"without members nothing can be orphaned", "istio-system", nil, false},
	} {
		next := commit(v1alpha1.DeletionGuard{}, "a-1")
		next.networks[0].Spec.DataPlane.Namespace = tt.namespace
		failure := guard(nil, published{networks: []v1alpha1.ApplicationNetwork{*running}, members: tt.members}, next)
		if (failure != nil) != tt.stops {
			t.Errorf("%s: failure %+v, want one: %v", tt.reason, failure, tt.stops)
		}
	}
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ztunnel := apply.Subject{Group: "apps", Version: "v1", Kind: "DaemonSet", Namespace: "applink-system", Name: "ztunnel"}
	fresh := demand{fingerprint: "one", now: now, fullCompare: 10 * time.Minute}
	for _, tt := range []struct {
		reason string
		drift  bool
		done   string
		ago    time.Duration
		demand func(demand) demand
		want   step
	}{
		{"a new process applies", false, "", 0, nil, stepApply},
		{"the same set again needs nothing", false, "one", time.Minute, nil, stepNothing},
		{"drift is corrected, not applied", true, "one", time.Minute, nil, stepCorrect},
		{"another set is applied", true, "two", time.Minute, nil, stepApply},
		{"the safety net", false, "one", 10 * time.Minute, nil, stepApply},
		{"a person asks", false, "one", time.Minute, func(d demand) demand { d.requestedAt = "now"; return d }, stepApply},
		{"a gateway has no address yet", false, "one", time.Minute, func(d demand) demand { d.waiting = true; return d }, stepApply},
	} {
		c := &connection{done: tt.done, compared: now.Add(-tt.ago), drifted: map[apply.Subject]time.Time{}}
		if tt.drift {
			c.drift([]apply.Subject{ztunnel}, now)
		}
		d := fresh
		if tt.demand != nil {
			d = tt.demand(d)
		}
		got := c.due(d)
		if got.step != tt.want {
			t.Errorf("%s: step %d, want %d", tt.reason, got.step, tt.want)
		}
		if tt.drift && len(got.subjects) != 1 {
			t.Errorf("%s: the drift was not taken along", tt.reason)
		}
		c.redo(got)
		if again := c.due(d); len(again.subjects) != len(got.subjects) {
			t.Errorf("%s: failed work lost its drift", tt.reason)
		}
	}
}

func TestSummariesDoNotBelieveOldStatus(t *testing.T) {
	old := aMember("prod", "a-1")
	old.Generation = 2
	old.Status.AppliedRevision = "main@sha1:4f2c9e1"
	old.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Message: "applied", ObservedGeneration: 1}}
	want := []status.MemberSummary{{Name: "a-1", Ready: metav1.ConditionUnknown, Applied: "4f2c9e1"}}
	if diff := cmp.Diff(want, summaries([]v1alpha1.Member{old})); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
}

func TestHubEditsAreSeen(t *testing.T) {
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Name: "fleet", Namespace: "isthmus-system"}}
	inGit := aMember("prod", "a-1")
	inGit.Labels = map[string]string{"ring": "canary"}
	want, err := onHub(f, &inGit)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		reason string
		edit   func(*v1alpha1.Member)
		want   bool
	}{
		{"as written", func(*v1alpha1.Member) {}, true},
		{"somebody else's label is theirs", func(m *v1alpha1.Member) { m.Labels["team"] = "payments" }, true},
		{"an edited spec", func(m *v1alpha1.Member) { m.Spec.Suspend = true }, false},
		{"an edited label of Git", func(m *v1alpha1.Member) { m.Labels["ring"] = "rest" }, false},
		{"a finalizer taken off", func(m *v1alpha1.Member) { m.Finalizers = nil }, false},
	} {
		live := inGit.DeepCopy()
		live.Labels[fleetLabel] = "fleet"
		live.Finalizers = []string{memberFinalizer}
		tt.edit(live)
		if got, err := holds(live, want); err != nil || got != tt.want {
			t.Errorf("%s: holds = %v, %v, want %v", tt.reason, got, err, tt.want)
		}
	}
}

// Members that were delivered to at one moment must not all be compared at one
// moment, and none of them before it is due.
func TestFullComparesSpread(t *testing.T) {
	r := &memberReconciler{fullCompare: 20 * time.Minute}
	seen := map[time.Duration]bool{}
	for range 100 {
		result, err := r.again(status.Member{}, 0)
		if err != nil || result.RequeueAfter < 20*time.Minute || result.RequeueAfter > 22*time.Minute {
			t.Fatalf("again in %s, error %v", result.RequeueAfter, err)
		}
		seen[result.RequeueAfter] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different delays of 100", len(seen))
	}
}
