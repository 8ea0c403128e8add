package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/faultproxy"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// patience is how long an event is waited for that a busy machine may delay; how
// long it took is printed.
const patience = 2 * time.Minute

// pace is how soon a member is disturbed again.
const pace = 300 * time.Millisecond

// TestReplicas runs three replicas as processes, each with a way of its own to
// the hub. They lose one another by kill -9, by being frozen in the midst of
// work, by losing the hub and by being told to stop: members go on being worked
// on, and the API servers' audit logs never show two writers at a time.
func TestReplicas(t *testing.T) {
	t.Parallel()
	s := newReplicas(t)
	t.Run("a replica that is killed is replaced", s.testKilled)
	t.Run("a replica that is frozen does not write after its successor", s.testFrozen)
	t.Run("replicas that lose the hub stop writing", s.testHubAway)
	t.Run("a replica that is told to stop is replaced at once", s.testStopped)
	t.Run("no member ever had two writers at a time", s.testRuns)
}

// replicas are processes that share the members of a rig.
type replicas struct {
	rig     *rig.Rig
	running map[string]*replica // by name
	// disturbed is how often objects of members were.
	disturbed int
}

// toDisturb are objects that members have beside those of the mesh.
const toDisturb = 150

type replica struct {
	*process
	hub *faultproxy.Proxy
}

func newReplicas(t *testing.T) *replicas {
	r, _ := newRig(t)
	check(t, r.Repository.Replace(network, "  # The release of members", "  resources: [{path: many}]\n\n  # The release of members"))
	check(t, r.Repository.Write("networks/prod/many/all.yaml", configMaps(0, toDisturb)))
	commit := push(t, r, "Objects to disturb")
	s := &replicas{rig: r, running: map[string]*replica{}}
	for _, name := range []string{"a", "b", "c"} {
		s.start(t, name)
	}
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, patience))
	return s
}

func (s *replicas) start(t *testing.T, name string) {
	t.Helper()
	upstream, err := os.ReadFile(s.rig.Kubeconfig())
	check(t, err)
	hub, err := faultproxy.Start(faultproxy.Options{Upstream: upstream})
	check(t, err)
	t.Cleanup(hub.Close)
	kubeconfig := filepath.Join(s.rig.Dir, name+".kubeconfig")
	check(t, os.WriteFile(kubeconfig, hub.Kubeconfig(), 0o600))
	s.running[name] = &replica{hub: hub, process: start(t, s.rig, func(o *settings) {
		o.Hub, o.Replica, o.Cache = kubeconfig, name, filepath.Join(s.rig.Dir, "cache-"+name)
	})}
}

// away takes the hub from a replica.
func (r *replica) away() {
	r.hub.Inject(faultproxy.Rule{Name: "away", Do: faultproxy.Refuse(http.StatusServiceUnavailable)})
	r.hub.ResetConnections()
}

// written returns who wrote to a member since a time, in order.
func (s *replicas) written(t *testing.T, member string, since time.Time) []controlplane.Write {
	t.Helper()
	writes, err := s.rig.Members[member].Writes(func(w controlplane.Write) bool {
		return strings.HasPrefix(w.UserAgent, "isthmus/") && !w.DryRun && w.Verb != "get" && w.Time.After(since)
	})
	check(t, err)
	return writes
}

func writer(w controlplane.Write) string { return strings.TrimPrefix(w.UserAgent, "isthmus/") }

// disturb deletes an object of a member, which its replica then puts back. It is
// another one each time: one that is disturbed often is put back rarely.
func (s *replicas) disturb(t *testing.T, member string) {
	t.Helper()
	c, err := s.rig.ClientOf(member)
	check(t, err)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("many-", s.disturbed%toDisturb)}}
	s.disturbed++
	check(t, client.IgnoreNotFound(c.Delete(t.Context(), object)))
}

// awaitWriter disturbs a member until somebody who is meant writes, and returns
// who that was and when.
func (s *replicas) awaitWriter(t *testing.T, member string, meant func(string) bool) (string, time.Time) {
	t.Helper()
	since := time.Now()
	for time.Since(since) < patience {
		s.disturb(t, member)
		for _, write := range s.written(t, member, since) {
			if meant(writer(write)) {
				return writer(write), write.Time
			}
		}
		time.Sleep(pace)
	}
	t.Fatalf("nobody wrote to %s who is meant", member)
	return "", time.Time{}
}

func anybody(string) bool { return true }

func (s *replicas) testKilled(t *testing.T) {
	name, _ := s.awaitWriter(t, east, anybody)
	s.running[name].kill()
	killed := time.Now()
	delete(s.running, name)
	next, at := s.awaitWriter(t, east, func(who string) bool { return who != name })
	t.Logf("%s was killed; %s wrote to %s after %s", name, next, east, at.Sub(killed).Round(time.Millisecond))
	commit := push(t, s.rig, "The fleet is led on")
	check(t, s.rig.WaitApplied(t.Context(), commit, patience))
	t.Logf("a new commit was everywhere after %s", time.Since(killed).Round(time.Millisecond))
}

func (s *replicas) testFrozen(t *testing.T) {
	name, _ := s.awaitWriter(t, east, anybody)
	frozen := s.running[name]
	// Work under way, so that it is frozen in the midst of it.
	s.disturb(t, east)
	check(t, frozen.Process.Signal(syscall.SIGSTOP))
	at := time.Now()
	next, taken := s.awaitWriter(t, east, func(who string) bool { return who != name })
	t.Logf("%s was frozen; %s wrote to %s after %s", name, next, east, taken.Sub(at).Round(time.Millisecond))
	// Without the hub it cannot join again: whatever it writes it may not.
	frozen.away()
	check(t, frozen.Process.Signal(syscall.SIGCONT))
	for thawed := time.Now(); time.Since(thawed) < 4*time.Second; time.Sleep(pace) {
		s.disturb(t, east)
	}
	for _, write := range s.written(t, east, taken) {
		if writer(write) == name {
			t.Errorf("%s wrote %s %s/%s at %s, after %s had taken over at %s", name, write.Verb, write.Resource, write.Name, write.Time, next, taken)
		}
	}
	frozen.hub.Heal()
	s.awaitWriter(t, east, func(who string) bool { return who == name })
}

func (s *replicas) testHubAway(t *testing.T) {
	s.awaitWriter(t, east, anybody)
	for _, r := range s.running {
		r.away()
	}
	cut := time.Now()
	var quiet time.Duration
	for quiet < 6*time.Second {
		if time.Since(cut) > patience {
			t.Fatal("replicas without the hub go on writing")
		}
		s.disturb(t, east)
		time.Sleep(pace)
		last := cut
		if writes := s.written(t, east, cut); len(writes) > 0 {
			last = writes[len(writes)-1].Time
		}
		quiet = time.Since(last)
		t.Logf("%s without the hub, the last write %s ago", time.Since(cut).Round(time.Millisecond), quiet.Round(time.Millisecond))
	}
	for _, r := range s.running {
		r.hub.Heal()
	}
	healed := time.Now()
	_, at := s.awaitWriter(t, east, anybody)
	t.Logf("writing again %s after the hub is back", at.Sub(healed).Round(time.Millisecond))
}

func (s *replicas) testStopped(t *testing.T) {
	name, _ := s.awaitWriter(t, east, anybody)
	stopped := time.Now()
	check(t, s.running[name].Process.Signal(syscall.SIGTERM))
	next, at := s.awaitWriter(t, east, func(who string) bool { return who != name })
	t.Logf("%s was told to stop; %s wrote to %s after %s", name, next, east, at.Sub(stopped).Round(time.Millisecond))
	if err := s.running[name].Wait(); err != nil {
		t.Errorf("%s ended with %v", name, err)
	}
	delete(s.running, name)
}

// testRuns looks at the whole audit logs: who has stopped writing to a member
// comes back only when the other has stopped too.
func (s *replicas) testRuns(t *testing.T) {
	for _, member := range []string{east, west} {
		writes := s.written(t, member, time.Time{})
		slices.SortStableFunc(writes, func(a, b controlplane.Write) int { return a.Time.Compare(b.Time) })
		var runs []string
		for _, write := range writes {
			if who := writer(write); len(runs) == 0 || runs[len(runs)-1] != who {
				runs = append(runs, who)
			}
		}
		t.Logf("%s: %d writes, by %v in turn", member, len(writes), runs)
		// Killed, frozen and thawed, without the hub, stopped: no more turns than
		// that, each member having one writer in between.
		if len(runs) == 0 || len(runs) > 7 {
			t.Error(errors.New(member), "had", fmt.Sprint(len(runs)), "turns")
		}
	}
}
