package member

import "time"

const (
	// silentCalls in a row, none begun before the last was over, are an API server
	// that is away.
	silentCalls = 3
	// The pause between two tries of an API server that is away doubles from the
	// first to the longest. It is short, because one try costs next to nothing.
	silentFirst   = 500 * time.Millisecond
	silentLongest = 5 * time.Second
	// The pause after an answer that says "later" is what it asks for, and doubles
	// from the first to the longest where that is more. No API server is believed
	// that wants to be left alone for longer than the most.
	pushbackFirst   = 100 * time.Millisecond
	pushbackLongest = 10 * time.Second
	pushbackMost    = time.Minute
)

// pace decides how much one member is asked: the limit of calls in flight halves
// when its API server says "later" and grows by one for each limit of answers.
// Calls that were on their way together count as one. It has no clock: times are
// passed in.
type pace struct {
	most, limit float64
	// resume: no call before.
	resume time.Time
	pause  time.Duration
	// pushed and silenced are when the last such answer, or none, was taken.
	pushed, silenced time.Time
	silent           int
}

// outcome of a call.
type outcome int

const (
	answered outcome = iota
	// pushedBack: the API server says "later", by 429, or 503 with Retry-After.
	pushedBack
	// unanswered: no answer, or not whole.
	unanswered
	// abandoned: the caller gave up; it says nothing about the API server.
	abandoned
)

// away reports whether the API server has stopped answering.
func (p *pace) away() bool { return p.silent >= silentCalls }

// admit says whether a call may go now. If not, it waits for as long as said, or
// for another call to end where that is zero; or it is refused for a reason.
func (p *pace) admit(now, deadline time.Time, inFlight int) (goes bool, wait time.Duration, refused Reason) {
	switch early := now.Before(p.resume); {
	case p.away() && (early || inFlight > 0):
		return false, 0, Unreachable
	case early && !deadline.After(p.resume):
		return false, 0, Throttled
	case early:
		return false, p.resume.Sub(now), ""
	case inFlight >= int(p.limit):
		return false, 0, ""
	}
	return true, 0, ""
}

// took learns from a call that is over. Later is what the answer asked to wait.
func (p *pace) took(o outcome, began, now time.Time, later time.Duration) {
	switch o {
	case answered:
		p.silent = 0
		if began.After(p.pushed) {
			p.pause = 0
			p.limit = min(p.most, p.limit+1/p.limit)
		}
	case pushedBack:
		p.silent = 0
		if began.After(p.pushed) {
			p.limit = max(1, p.limit/2)
			p.pause = min(max(pushbackFirst, 2*p.pause), pushbackLongest)
			p.pushed = now
		}
		p.resume = latest(p.resume, now.Add(min(max(later, p.pause), pushbackMost)))
	case unanswered:
		if !began.After(p.silenced) {
			return
		}
		p.silenced = now
		p.silent++
		if p.away() {
			p.resume = now.Add(silence(p.silent - silentCalls))
		}
	case abandoned:
	}
}

// silence is the pause after a number of tries in vain.
func silence(tries int) time.Duration {
	pause := silentFirst
	for ; tries > 0 && pause < silentLongest; tries-- {
		pause *= 2
	}
	return min(pause, silentLongest)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
