package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/forge"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	// forgeTimeout bounds what one state of a commit takes to tell.
	forgeTimeout = 2 * time.Minute
	// forgeRetry is how soon a forge that did not take it is asked again, at first.
	forgeRetry, forgeRetryMost = 5 * time.Second, 5 * time.Minute
	// forgeRepeat is how soon the same state is told in other words.
	forgeRepeat = 30 * time.Second
)

// ReasonForgeFailed is of the event of a forge that does not take statuses.
const ReasonForgeFailed = "ForgeFailed"

// rollout is what is known of the way of the commit in question to the members: of the
// one that was tried last, where it was refused, else of the accepted one.
func rollout(a *accepted, members []v1alpha1.Member, outcome status.Fleet, attempted string) status.Rollout {
	if outcome.Failure != nil && attempted != "" && attempted != outcome.Accepted {
		return status.Rollout{Commit: attempted, Failure: outcome.Failure}
	}
	out := status.Rollout{Commit: outcome.Accepted}
	if a == nil {
		return out
	}
	summary := map[string]status.MemberSummary{}
	for _, m := range outcome.Members {
		summary[m.Name] = m
	}
	at := map[string]int{}
	for _, n := range a.networks {
		for _, ring := range n.Spec.Rollout.Rings {
			name := ringName(a, n, ring.Name)
			at[name] = len(out.Rings)
			out.Rings = append(out.Rings, status.RingRollout{Name: name})
		}
	}
	for i := range members {
		m := &members[i]
		n := a.network(m.Spec.ApplicationNetwork)
		if n == nil || !m.DeletionTimestamp.IsZero() {
			continue // it leaves, which is a matter of its own
		}
		name := ""
		if ring := n.RingOf(m); ring != "" {
			name = ringName(a, n, ring)
		}
		if _, known := at[name]; !known {
			at[name] = len(out.Rings)
			out.Rings = append(out.Rings, status.RingRollout{Name: name})
		}
		out.Rings[at[name]].Members = append(out.Rings[at[name]].Members, summary[m.Name])
	}
	return out
}

// ringName tells rings of several networks apart.
func ringName(a *accepted, n *v1alpha1.ApplicationNetwork, ring string) string {
	if len(a.networks) == 1 {
		return ring
	}
	return n.Name + "-" + ring
}

// forges tell fleets' forges how far commits are, each beside everything else: a
// forge that is slow or away delays nobody.
type forges struct {
	hub    client.Reader
	events record.EventRecorder
	// ctx ends with the process.
	ctx context.Context
	now func() time.Time

	mu  sync.Mutex
	all map[types.NamespacedName]*told
}

// told is what one forge was told, and what it is to be told.
type told struct {
	fleet *v1alpha1.Fleet
	want  []forge.Status
	// commit that want is of; have is what was told of it and when, by context.
	commit string
	have   map[string]toldStatus
	// working: somebody tells it now.
	working bool
}

type toldStatus struct {
	forge.Status
	at time.Time
}

func newForges(ctx context.Context, hub client.Reader, events record.EventRecorder) *forges {
	return &forges{ctx: ctx, hub: hub, events: events, now: time.Now, all: map[types.NamespacedName]*told{}}
}

// tell has the fleet's forge show how far a commit is. It does not wait. What was told
// before is not told again.
func (s *forges) tell(f *v1alpha1.Fleet, r status.Rollout) {
	if f.Spec.Forge == nil || r.Commit == "" {
		return
	}
	want := statusesOf(f.Name, r.Statuses())
	key := client.ObjectKeyFromObject(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.all[key]
	if t == nil {
		t = &told{}
		s.all[key] = t
	}
	if t.commit != r.Commit || t.fleet != nil && *t.fleet.Spec.Forge != *f.Spec.Forge {
		t.have = map[string]toldStatus{}
	}
	t.fleet, t.commit, t.want = f.DeepCopy(), r.Commit, want
	if !t.working && len(t.left(s.now())) > 0 {
		t.working = true
		go s.work(t)
	}
}

// left is what is still to be told: another state at once, another word of the same
// state now and then. Forges take a limited number for each commit.
func (t *told) left(now time.Time) []forge.Status {
	return slices.DeleteFunc(slices.Clone(t.want), func(w forge.Status) bool {
		have := t.have[w.Context]
		return have.Status == w || have.State == w.State && now.Sub(have.at) < forgeRepeat
	})
}

// work tells what is left until nothing is, ever more rarely while the forge does not
// take it.
func (s *forges) work(t *told) {
	var again pace
	for {
		s.mu.Lock()
		f, commit, left := t.fleet, t.commit, t.left(s.now())
		if len(left) == 0 || s.ctx.Err() != nil {
			t.working = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		done, err := s.post(f, commit, left)
		s.mu.Lock()
		if t.commit == commit {
			for _, one := range done {
				t.have[one.Context] = toldStatus{one, s.now()}
			}
		}
		s.mu.Unlock()
		if err == nil {
			again = pace{}
			continue
		}
		again.slower(s.now(), forgeRetry, forgeRetryMost)
		s.events.Eventf(f, corev1.EventTypeWarning, ReasonForgeFailed, "spec.forge: %v; tried again in %s", err, again.pause)
		select {
		case <-s.ctx.Done():
		case <-time.After(again.pause):
		}
	}
}

// post tells statuses one by one, and returns those that the forge has now.
func (s *forges) post(f *v1alpha1.Fleet, commit string, statuses []forge.Status) ([]forge.Status, error) {
	ctx, cancel := context.WithTimeout(s.ctx, forgeTimeout)
	defer cancel()
	data, failure := looker{hub: s.hub}.secret(ctx, f, "spec.forge.secretRef", f.Spec.Forge.SecretRef.Name)
	if failure != nil {
		return nil, fmt.Errorf("%s", failure.Message)
	}
	if len(data["token"]) == 0 {
		return nil, fmt.Errorf("the Secret %q has no key %q", f.Spec.Forge.SecretRef.Name, "token")
	}
	target := forge.Target{Forge: forge.Kind(f.Spec.Forge.Type), API: f.Spec.Forge.API, Repository: f.Spec.Forge.Repository}
	c, err := forge.New(target, forge.Options{Token: forge.Token(data["token"]), CA: data["ca.crt"]})
	if err != nil {
		return nil, err
	}
	var done []forge.Status
	for _, one := range statuses {
		if _, err := c.Status(ctx, commit, one); err != nil {
			return done, err
		}
		done = append(done, one)
	}
	return done, nil
}

// forget ends what is told of a fleet that is gone.
func (s *forges) forget(key types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.all[key]; t != nil {
		t.want = nil
		delete(s.all, key)
	}
}

// statusesOf are a forge's words for what is told.
func statusesOf(fleet string, statuses []status.CommitStatus) []forge.Status {
	states := map[status.CommitState]forge.State{
		status.CommitPending: forge.Pending, status.CommitDone: forge.Success, status.CommitFailed: forge.Failure,
	}
	var out []forge.Status
	for _, one := range statuses {
		out = append(out, forge.Status{
			Context: forge.Context(fleet+"/rollout", one.Ring), State: states[one.State], Description: cmp.Or(one.Description, "-"),
		})
	}
	return out
}
