package reconciler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// fakes is a fleet whose members take no time, but for the dead, which take all
// there is.
type fakes struct {
	lanes   *lanes
	queue   chan string
	rounds  int
	done    sync.WaitGroup
	running atomic.Int64
	most    atomic.Int64

	mu      sync.Mutex
	waited  []time.Duration
	left    map[string]int
	since   map[string]time.Time
	retried map[string]int
}

func isDead(member string) bool { return member[0] == 'd' }

// play goes through the members until the living ones have had all their rounds,
// as a controller's queue does, and returns how long each waited and took.
func play(t *testing.T, l *lanes, dead, living, rounds int) *fakes {
	t.Helper()
	f := &fakes{
		lanes: l, queue: make(chan string, dead+living), rounds: rounds,
		left: map[string]int{}, since: map[string]time.Time{}, retried: map[string]int{},
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.done.Add(living)
	for i := range dead {
		f.add(fmt.Sprint("dead-", i))
	}
	for i := range living {
		f.add(fmt.Sprint("living-", i))
	}
	var workers sync.WaitGroup
	for range l.workers() {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case member := <-f.queue:
					f.turn(ctx, member)
				}
			}
		})
	}
	f.done.Wait()
	cancel()
	workers.Wait()
	slices.Sort(f.waited)
	return f
}

func (f *fakes) add(member string) {
	f.mu.Lock()
	f.since[member] = time.Now()
	f.mu.Unlock()
	f.queue <- member
}

func (f *fakes) turn(ctx context.Context, member string) {
	ctx, turn, ok := f.lanes.enter(ctx, types.NamespacedName{Name: member})
	if !ok {
		time.AfterFunc(10*time.Millisecond, func() { f.add(member) })
		return
	}
	running := f.running.Add(1)
	for most := f.most.Load(); running > most && !f.most.CompareAndSwap(most, running); most = f.most.Load() {
	}
	if isDead(member) {
		<-ctx.Done()
	} else {
		time.Sleep(time.Millisecond)
	}
	f.running.Add(-1)
	turn.leave(isDead(member))
	f.after(member)
}

func (f *fakes) after(member string) {
	f.mu.Lock()
	if isDead(member) {
		f.retried[member]++
		f.mu.Unlock()
		f.add(member)
		return
	}
	f.waited = append(f.waited, time.Since(f.since[member]))
	f.left[member]++
	left := f.rounds - f.left[member]
	f.mu.Unlock()
	if left == 0 {
		f.done.Done()
		return
	}
	f.add(member)
}

func (f *fakes) percentile(p int) time.Duration { return f.waited[len(f.waited)*p/100] }

// TestDeadMembersDelayNobody: a tenth of the fleet never answers. The rest has
// all its turns, within the same bound on what runs at once, and about as soon.
// Without lanes the first sixteen dead ones would have every place for ever.
func TestDeadMembersDelayNobody(t *testing.T) {
	t.Parallel()
	made := func() *lanes {
		l := newLanes(8)
		l.quick, l.fair = 20*time.Millisecond, 200*time.Millisecond
		return l
	}
	healthy := play(t, made(), 0, 360, 10)
	l := made()
	// More of them than there are places in both lanes.
	tenth := play(t, l, 40, 360, 10)
	t.Logf("turn of a living member, waiting included: p50 %s p95 %s; with 40 dead of 400: p50 %s p95 %s",
		healthy.percentile(50), healthy.percentile(95), tenth.percentile(50), tenth.percentile(95))
	if most := tenth.most.Load(); most > int64(l.workers()) {
		t.Errorf("%d turns at once, by %d workers", most, l.workers())
	}
}

// TestSlowMembersShare: more slow members than places; each has its turn.
func TestSlowMembersShare(t *testing.T) {
	t.Parallel()
	l := newLanes(2)
	l.quick, l.fair = time.Millisecond, 5*time.Millisecond
	f := play(t, l, 30, 10, 300)
	if got := len(f.retried); got != 30 {
		t.Errorf("%d of 30 slow members had a turn that ended for another", got)
	}
}

// TestTurnOfFailingMember: failing once sends a member to the slow lane, and
// success brings it back.
func TestTurnOfFailingMember(t *testing.T) {
	t.Parallel()
	l := newLanes(1)
	l.slow = 1
	name := types.NamespacedName{Name: "m"}
	enter := func(want lane) *turn {
		t.Helper()
		_, turn, ok := l.enter(t.Context(), name)
		if !ok || turn.where != want {
			t.Fatalf("got a turn: %t, in lane %v, want %v", ok, turn, want)
		}
		return turn
	}
	enter(inFast).leave(true)
	held := enter(inSlow)
	if _, _, ok := l.enter(t.Context(), name); ok {
		t.Error("the slow lane takes more than its size")
	}
	now := time.Now().Add(2 * l.fair)
	l.now = func() time.Time { return now }
	ctx, turn, ok := l.enter(t.Context(), name)
	if !ok || ctx.Err() != nil {
		t.Fatal("a long turn does not end for another")
	}
	held.leave(true)
	turn.leave(false)
	enter(inFast).leave(false)
}
