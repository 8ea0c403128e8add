package reconciler

import (
	"math/rand/v2"
	"time"
)

// pace says when something is to be looked at again. The zero value is at once.
type pace struct {
	next  time.Time
	pause time.Duration
}

// due tells whether the time has come.
func (p *pace) due(now time.Time) bool { return !now.Before(p.next) }

// slower puts the next look off, at what is not yet as it should be: by the first
// pause, then by twice the one before, up to the longest.
func (p *pace) slower(now time.Time, first, longest time.Duration) {
	p.pause = min(max(first, 2*p.pause), longest)
	p.next = now.Add(p.pause)
}

// settled puts the next look off, at what is: by up to a tenth more than said, so that
// what was begun together does not stay together.
func (p *pace) settled(now time.Time, every time.Duration) {
	*p = pace{next: now.Add(every + rand.N(every/10))} //nolint:gosec // G404: no secret.
}
