package shard

import "time"

// rights is what one replica may work on. It makes no calls and asks no clock.
type rights struct {
	self string
	// until is when the Lease is no longer surely held; zero for not held.
	until time.Time
	// chain is the view that was last agreed on and those seen since. Work goes on
	// that is ours in all of them. Empty: none was agreed on since we joined.
	chain []view
	// current is the view last seen; agreed when it is also the only one of chain.
	current view
	agreed  bool
}

// maxChain views without agreement; then everything stops until there is one.
const maxChain = 8

func (r *rights) held(now time.Time) bool { return !r.until.IsZero() && now.Before(r.until) }

// mayWork says whether a piece of work may be done now.
func (r *rights) mayWork(work string, now time.Time) bool {
	if !r.held(now) || len(r.chain) == 0 {
		return false
	}
	for _, v := range r.chain {
		if Owner(v, work) != r.self {
			return false
		}
	}
	return true
}

// renewed extends the time by a renewal that was sent at a time. It is without
// effect when the Lease was lost meanwhile: that needs [rights.joined].
func (r *rights) renewed(sent time.Time, deadline time.Duration) {
	if r.held(sent) {
		r.until = sent.Add(deadline)
	}
}

// joined starts anew: the Lease is held, and nothing is agreed on.
func (r *rights) joined(sent time.Time, deadline time.Duration) {
	r.lose()
	r.until = sent.Add(deadline)
}

// lose gives everything up.
func (r *rights) lose() {
	r.until, r.chain, r.current, r.agreed = time.Time{}, nil, nil, false
}

// see takes a new view. What may be worked on only shrinks by it.
func (r *rights) see(v view) {
	r.current, r.agreed = v, false
	if len(r.chain) == 0 {
		return
	}
	if r.chain = append(r.chain, v); len(r.chain) > maxChain {
		r.chain = nil
	}
}

// agree makes the current view the only one that counts.
func (r *rights) agree() { r.chain, r.agreed = []view{r.current}, true }
