package reconciler

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// errTurnOver ends the turn of a member that takes long, when others wait.
var errTurnOver = errors.New("others wait for their turn")

const (
	// quickTurn is how long a turn may take in the lane of quick members.
	quickTurn = 2 * time.Second
	// fairTurn is how long a slow member has its place for sure.
	fairTurn = time.Minute
	// slowPerFast places for slow members: most of them wait for an answer, or for
	// pods, and need neither CPU nor memory meanwhile.
	slowPerFast = 4
)

// lanes bounds how many members are worked on at once, and keeps those that are
// slow or dead out of the way of the rest. A member has its turn in the fast
// lane, and moves to the slow one when the turn takes long; a member whose last
// turn failed begins there. Where the slow lane is full, the turn that has lasted
// longest, and at least fairTurn, ends and is to be taken again.
type lanes struct {
	fast, slow  int
	quick, fair time.Duration
	now         func() time.Time

	mu      sync.Mutex
	free    sync.Cond // of the fast lane
	inFast  int
	inSlow  map[*turn]struct{}
	failing map[types.NamespacedName]bool
}

// turn is one member being worked on.
type turn struct {
	lanes  *lanes
	member types.NamespacedName
	cancel context.CancelCauseFunc
	began  time.Time
	over   *time.Timer
	where  lane
}

type lane int

const (
	inFast lane = iota
	inSlow
	nowhere // told to end
)

func newLanes(fast int) *lanes {
	fast = cmp.Or(fast, 16)
	l := &lanes{
		fast: fast, slow: fast * slowPerFast, quick: quickTurn, fair: fairTurn, now: time.Now,
		inSlow: map[*turn]struct{}{}, failing: map[types.NamespacedName]bool{},
	}
	l.free.L = &l.mu
	return l
}

// workers are how many goroutines it takes to fill both lanes while some wait
// for the fast one.
func (l *lanes) workers() int { return 2*l.fast + l.slow }

// enter waits for a turn in the fast lane, which is soon free, or takes one in
// the slow lane; false when that is full. The context ends when the turn does.
func (l *lanes) enter(ctx context.Context, member types.NamespacedName) (context.Context, *turn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	t := &turn{lanes: l, member: member, cancel: cancel, began: l.now()}
	if l.failing[member] {
		if !l.room() {
			cancel(nil)
			return ctx, nil, false
		}
		t.where = inSlow
		l.inSlow[t] = struct{}{}
		return ctx, t, true
	}
	for l.inFast >= l.fast {
		l.free.Wait()
	}
	l.inFast++
	t.began = l.now()
	t.over = time.AfterFunc(l.quick, t.overstay)
	return ctx, t, true
}

// overstay moves a turn to the slow lane; where there is no room it ends.
func (t *turn) overstay() {
	l := t.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.where != inFast {
		return
	}
	l.leaveFast()
	if l.room() {
		t.where = inSlow
		l.inSlow[t] = struct{}{}
		return
	}
	t.where = nowhere
	l.failing[t.member] = true
	t.cancel(errTurnOver)
}

// room makes room in the slow lane, if need be by ending a long turn.
func (l *lanes) room() bool {
	if len(l.inSlow) < l.slow {
		return true
	}
	var longest *turn
	for t := range l.inSlow {
		if longest == nil || t.began.Before(longest.began) {
			longest = t
		}
	}
	if longest == nil || l.now().Sub(longest.began) < l.fair {
		return false
	}
	delete(l.inSlow, longest)
	longest.where = nowhere
	longest.cancel(errTurnOver)
	return true
}

func (l *lanes) leaveFast() {
	l.inFast--
	l.free.Signal()
}

// leave ends a turn. A member that failed is slow until it succeeds.
func (t *turn) leave(failed bool) {
	l := t.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.over != nil {
		t.over.Stop()
	}
	switch t.where {
	case inFast:
		l.leaveFast()
	case inSlow:
		delete(l.inSlow, t)
	}
	t.where = nowhere
	t.cancel(nil)
	if failed {
		l.failing[t.member] = true
	} else {
		delete(l.failing, t.member)
	}
}

// laneRetry is how soon a member asks again for a place in the slow lane.
func laneRetry() time.Duration { return time.Second + rand.N(time.Second) }
