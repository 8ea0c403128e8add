package reconciler

import (
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

// Somebody who keeps changing an object of ours is not fought: it is put back
// ever more rarely, and said so.
const (
	// contestWindow is how long a correction counts; more of them than
	// contestCorrections in it are a contest. Config Sync takes five for one; ten
	// leave room for a person at work.
	contestWindow      = time.Minute
	contestCorrections = 10
	// The pause before the next correction doubles from the first to the longest.
	contestFirst   = 2 * time.Second
	contestLongest = 10 * time.Minute
	// What identities are signed with is worth a fight.
	contestLongestTrust = 5 * time.Second
)

// contests are the objects of one member that others keep changing. The zero
// value has none. Times are compared with those of the same process only.
type contests struct {
	objects map[apply.Subject]*contest
}

type contest struct {
	corrections []time.Time // within the window
	pause       time.Duration
	next        time.Time // no correction before
	by          string
}

// corrected takes an object that was put back, and says whether that began a
// contest.
func (c *contests) corrected(change apply.Change, now time.Time) bool {
	if c.objects == nil {
		c.objects = map[apply.Subject]*contest{}
	}
	x := c.objects[change.Subject]
	if x == nil {
		x = &contest{}
		c.objects[change.Subject] = x
	}
	if change.By != "" {
		x.by = change.By
	}
	x.corrections = append(recent(x.corrections, now), now)
	longest := contestLongest
	if change.Trust {
		longest = contestLongestTrust
	}
	began := x.pause == 0 && len(x.corrections) > contestCorrections
	switch {
	case began:
		x.pause = contestFirst
	case x.pause > 0:
		x.pause = min(2*x.pause, longest)
	}
	x.next = now.Add(x.pause)
	return began
}

func recent(all []time.Time, now time.Time) []time.Time {
	for len(all) > 0 && now.Sub(all[0]) >= contestWindow {
		all = all[1:]
	}
	return all
}

// held reports whether an object is not to be put back yet.
func (c *contests) held(s apply.Subject, now time.Time) bool {
	x := c.objects[s]
	return x != nil && x.pause > 0 && now.Before(x.next)
}

// settle forgets objects that stayed as we left them for a window and twice
// their pause.
func (c *contests) settle(now time.Time) {
	for s, x := range c.objects {
		if !now.Before(x.calm()) {
			delete(c.objects, s)
		}
	}
}

// calm is when an object is forgotten unless it is changed again.
func (x *contest) calm() time.Time {
	return x.corrections[len(x.corrections)-1].Add(max(contestWindow, 2*x.pause))
}

// next is when to look again: when a held object is due, or one that was
// contested may be forgotten; zero for never.
func (c *contests) nextLook(now time.Time) time.Time {
	var first time.Time
	for _, x := range c.objects {
		at := x.next
		if x.pause == 0 {
			continue
		}
		if !at.After(now) {
			at = x.calm()
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// contested are the objects of open contests, with who is on the other side.
func (c *contests) contested() map[apply.Subject]string {
	out := map[apply.Subject]string{}
	for s, x := range c.objects {
		if x.pause > 0 {
			out[s] = x.by
		}
	}
	return out
}
