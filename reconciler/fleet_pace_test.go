package reconciler

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestSummariesAreFew plays members that settle one after another, every 5 ms, and
// a reconciler that begins each summary when it is due. Every change is followed by
// a summary, and there are few of these.
func TestSummariesAreFew(t *testing.T) {
	t.Parallel()
	const every = 5
	for _, tt := range []struct {
		reason          string
		members         int
		atLeast, atMost int
	}{
		{"a thousand members", 1000, 5, 7},
		{"a hundred members", 100, 5, 7},
		{"a single one", 1, 1, 1},
	} {
		clock := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		r := &fleetReconciler{now: clock.Now, summary: map[types.NamespacedName]time.Time{}}
		queue := &dueQueue{due: map[reconcile.Request]time.Time{}, now: clock.Now}
		handler := r.ofMember()
		f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "fleet"}}
		f.Status.Members = int32(tt.members)
		member := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Labels: map[string]string{fleetLabel: "fleet"}}}
		latest := time.Duration(tt.members) * pausePerMember
		var waiting []time.Time // changes that no summary has yet
		summaries := 0
		for ms := range (every + 1) * tt.members {
			if ms%every == 0 && ms < every*tt.members {
				waiting = append(waiting, clock.Now())
				handler.Update(t.Context(), event.UpdateEvent{ObjectOld: member, ObjectNew: member}, queue)
			}
			if queue.take() {
				r.summing(f)
				summaries++
				if waited := clock.Since(waiting[0]); waited > latest {
					t.Errorf("%s: a change waited %v, want at most %v", tt.reason, waited, latest)
				}
				waiting = nil
			}
			clock.Step(time.Millisecond)
		}
		if len(waiting) > 0 || summaries < tt.atLeast || summaries > tt.atMost {
			t.Errorf("%s: %d summaries, want %d to %d; %d changes without one", tt.reason, summaries, tt.atLeast, tt.atMost, len(waiting))
		}
		handler.Create(t.Context(), event.CreateEvent{Object: &v1alpha1.Member{}}, queue)
		if len(queue.due) > 0 {
			t.Errorf("%s: a member of no fleet asks for %v", tt.reason, queue.due)
		}
	}
}

// dueQueue is a queue that only takes what is added after a while, and keeps the
// earliest time of each as the real one does.
type dueQueue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	due map[reconcile.Request]time.Time
	now func() time.Time
}

func (q *dueQueue) AddAfter(request reconcile.Request, after time.Duration) {
	at := q.now().Add(after)
	if before, ok := q.due[request]; !ok || at.Before(before) {
		q.due[request] = at
	}
}

// take takes what is due, if anything is.
func (q *dueQueue) take() bool {
	for request, at := range q.due {
		if !at.After(q.now()) {
			delete(q.due, request)
			return true
		}
	}
	return false
}
