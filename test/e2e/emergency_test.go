package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// restarts of all proxies that an emergency takes: to learn the new root, to get
// certificates of it, and to forget the old one.
const restarts = 3

// TestEmergency replaces a root whose key may be known to others, with the lifetimes
// that networks have by default: no certificate of a workload ends meanwhile, so it is
// the restarts of proxies alone that let it go on. What it costs is said before, and in
// the end nobody takes what the old root has signed.
func TestEmergency(t *testing.T) {
	t.Parallel() // it mostly waits
	k := newTrustRig(t)
	running := start(t, k.rig, nil)
	check(t, k.rig.Follow(t.Context(), time.Second))
	check(t, k.rig.WaitApplied(t.Context(), k.commit, 4*time.Minute))
	k.proven(t, time.Minute)
	mesh := startMesh(t, k.rig, 24*time.Hour)
	stolen := mesh.ofAll(t)
	before := k.generations(t)

	said, began := false, time.Now()
	k.replaceRoot(t, ", emergency: true", func(step string, isNew bool) {
		if is, err := k.networkTrust(t.Context()); err == nil && step == "TrustBoth" {
			said = said || strings.Contains(is.Why, "restarted")
		}
	})
	k.untilRestarted(t, before)
	took := time.Since(began)
	problems := k.problems(t)
	if !slices.ContainsFunc(problems, func(p fleet.Problem) bool { return p.Reason == "RootEmergency" }) || !said {
		t.Errorf("what it costs: said by the network: %t, by what validate says: %v", said, problems)
	}
	t.Run("proxies are restarted three times, and that is told", func(t *testing.T) { k.expectRestarts(t, before, began) })
	t.Run("nobody takes what the old root has signed", func(t *testing.T) {
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			mesh.ofAll(t)
			for _, w := range mesh.workloads() {
				for _, old := range stolen {
					if w.verify(time.Now(), old) == nil {
						return fmt.Errorf("a workload of %s, with %d roots, accepts what the old root has signed for %s", w.member, len(w.roots), old.member)
					}
				}
			}
			return nil
		}))
	})
	running.kill()
	expectServed(t, mesh.end(t), "AB")
	t.Logf("the root was replaced in %s", took.Round(time.Second))
}

// ofAll waits for a workload of each member, and returns one of each.
func (m *mesh) ofAll(t *testing.T) []workload {
	t.Helper()
	var out []workload
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		out = nil
		for _, name := range names(m.rig) {
			all := m.workloads()
			i := slices.IndexFunc(all, func(w workload) bool { return w.member == name })
			if i < 0 {
				return fmt.Errorf("%s has no workload", name)
			}
			out = append(out, all[i])
		}
		return nil
	}))
	return out
}

// untilRestarted waits for the last restart: it is for proxies to forget the old root,
// and nobody waits for it any more.
func (k *kills) untilRestarted(t *testing.T, before map[string]int64) {
	t.Helper()
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		for name, generation := range k.generations(t) {
			if n := generation - before[name]; n < restarts {
				return fmt.Errorf("%s was restarted %d times", name, n)
			}
		}
		for _, name := range names(k.rig) {
			if is := k.trustOf(t, name); is.Restarting != "" {
				return fmt.Errorf("%s: %s", name, is.Restarting)
			}
		}
		return nil
	}))
}

// problems are those of the repository, as isthmus validate prints them.
func (k *kills) problems(t *testing.T) fleet.Problems {
	t.Helper()
	_, problems := fleet.Load(os.DirFS(k.rig.Repository.Work))
	return problems
}

// generations are those of the proxies that isthmus restarts, by member and name.
func (k *kills) generations(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, name := range names(k.rig) {
		member, err := k.rig.ClientOf(name)
		check(t, err)
		for _, o := range proxiesOf(t, member) {
			out[name+": "+o.GetName()] = o.GetGeneration()
		}
	}
	return out
}

// proxiesOf a member are its ztunnel, and the Deployments that istiod runs.
func proxiesOf(t *testing.T, member client.Client) []client.Object {
	t.Helper()
	var ztunnel appsv1.DaemonSet
	check(t, member.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "ztunnel"}, &ztunnel))
	var gateways appsv1.DeploymentList
	check(t, member.List(t.Context(), &gateways, client.HasLabels{"gateway.networking.k8s.io/gateway-name"}))
	if len(gateways.Items) < 2 {
		t.Errorf("%d gateways and waypoints, want one of each", len(gateways.Items))
	}
	out := []client.Object{&ztunnel}
	for i := range gateways.Items {
		out = append(out, &gateways.Items[i])
	}
	return out
}

// expectRestarts checks that every proxy was restarted as often as it takes and no more,
// by isthmus, and that the member and its events tell of it, after the network has said
// what it costs.
func (k *kills) expectRestarts(t *testing.T, before map[string]int64, began time.Time) {
	t.Helper()
	for name, generation := range k.generations(t) {
		if n := generation - before[name]; n != restarts {
			t.Errorf("%s was restarted %d times, want %d", name, n, restarts)
		}
	}
	events := k.events(t)
	warned := slices.IndexFunc(events, func(e corev1.Event) bool {
		return e.Reason == reconciler.ReasonTrustStep && strings.Contains(e.Message, "emergency")
	})
	if warned < 0 {
		t.Error("no event of the network says what it costs")
	}
	for _, name := range names(k.rig) {
		count := map[string]int32{}
		for _, e := range events {
			if e.InvolvedObject.Name != name {
				continue
			}
			count[e.Reason] += max(e.Count, 1)
			if e.Reason == reconciler.ReasonProxiesRestarting && warned >= 0 && e.FirstTimestamp.Before(&events[warned].FirstTimestamp) {
				t.Errorf("the proxies of %s are restarted before the network has said what that costs", name)
			}
		}
		// A look that begins with what the hub said a moment ago tells it once more.
		if count[reconciler.ReasonProxiesRestarting] < restarts || count[reconciler.ReasonProxiesRestarted] < restarts {
			t.Errorf("%s tells of %d restarts that begin and of %d that are complete, want %d", name,
				count[reconciler.ReasonProxiesRestarting], count[reconciler.ReasonProxiesRestarted], restarts)
		}
		if is := k.trustOf(t, name); is.Restarting != "" || is.RestartedAfter == nil || is.RestartedAfter.Time.Before(began) {
			t.Errorf("the status of %s: restarted after %v, waiting for %q", name, is.RestartedAfter, is.Restarting)
		}
		member, err := k.rig.ClientOf(name)
		check(t, err)
		for _, o := range proxiesOf(t, member) {
			if at := restartedFor(o); at != k.trustOf(t, name).RestartedAfter.UTC().Format(time.RFC3339) {
				t.Errorf("%s of %s was restarted for %q, not for what the status says", o.GetName(), name, at)
			}
		}
	}
}

func restartedFor(o client.Object) string {
	switch workload := o.(type) {
	case *appsv1.DaemonSet:
		return workload.Spec.Template.Annotations[apply.AnnotationRestart]
	case *appsv1.Deployment:
		return workload.Spec.Template.Annotations[apply.AnnotationRestart]
	}
	return ""
}

// events of the hub.
func (k *kills) events(t *testing.T) []corev1.Event {
	t.Helper()
	var events corev1.EventList
	check(t, k.rig.HubClient.List(t.Context(), &events, client.InNamespace(rig.Namespace)))
	return events.Items
}
