package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// budget bounds what one member can cost: calls in flight, and time per call. A
// watch is meant to stay open: it is a call until its answer begins.
type budget struct {
	slots   *slots
	timeout time.Duration
	next    http.RoundTripper
}

func newBudget(o Options) *budget {
	most := float64(o.InFlight)
	if most < 1 {
		most = DefaultInFlight
	}
	b := &budget{timeout: o.Timeout, slots: &slots{pace: pace{most: most, limit: most}, changed: make(chan struct{})}}
	if b.timeout <= 0 {
		b.timeout = DefaultTimeout
	}
	return b
}

// wrap shares the slots with every transport made from one configuration.
func (b *budget) wrap(next http.RoundTripper) http.RoundTripper {
	return &budget{slots: b.slots, timeout: b.timeout, next: next}
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (b *budget) WrappedRoundTripper() http.RoundTripper { return b.next }

func (b *budget) RoundTrip(r *http.Request) (*http.Response, error) {
	// The time waited for a slot counts: a full queue is the member's slowness too.
	began := time.Now()
	deadline := began.Add(b.timeout)
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(b.timeout, func() { cancel(context.DeadlineExceeded) })
	if err := b.slots.enter(ctx, deadline); err != nil {
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	call := &call{slots: b.slots, began: time.Now(), parent: r.Context(), ctx: ctx, end: func() { timer.Stop(); cancel(nil) }}
	response, err := b.next.RoundTrip(inPieces(r.WithContext(ctx)))
	if err != nil {
		err = call.cause(err)
		call.done(outcomeOfError(err), 0)
		call.end()
		return nil, err
	}
	call.outcome, call.later = outcomeOf(response)
	if isWatch(r.URL) && timer.Stop() {
		call.done(call.outcome, call.later)
	} else {
		// Nobody holds a slot for longer than a call may take, read or not.
		context.AfterFunc(ctx, func() { call.done(unanswered, 0) })
	}
	response.Body = &body{ReadCloser: response.Body, call: call}
	return response, nil
}

// piece is how much of a request's body is sent at once, in bytes.
const piece = 16 << 10

// inPieces makes a request send its body in pieces. A connection holds on to a
// buffer as large as the largest piece that it ever sent, and API servers take
// whole definitions at once, of 200 KiB and more.
func inPieces(r *http.Request) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	r.Body = pieces{r.Body}
	if whole := r.GetBody; whole != nil {
		r.GetBody = func() (io.ReadCloser, error) {
			body, err := whole()
			return pieces{body}, err
		}
	}
	return r
}

// pieces is a body that is read a piece at a time.
type pieces struct{ io.ReadCloser }

// Read takes one piece at most.
func (p pieces) Read(into []byte) (int, error) {
	return p.ReadCloser.Read(into[:min(len(into), piece)])
}

// outcomeOf is what an answer says, with how long to wait.
func outcomeOf(r *http.Response) (outcome, time.Duration) {
	seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusServiceUnavailable && err == nil {
		return pushedBack, time.Duration(min(max(seconds, 0), 3600)) * time.Second
	}
	return answered, 0
}

// outcomeOfError tells an API server that is away from a call that was refused on
// our side, and from certificates.
func outcomeOfError(err error) outcome {
	if ReasonOf(err) == Unreachable {
		return unanswered
	}
	return abandoned
}

// slots of the calls in flight.
type slots struct {
	mu       sync.Mutex
	pace     pace
	inFlight int
	changed  chan struct{} // closed and replaced when a call ends
}

// enter takes a slot, or says why there is none.
func (s *slots) enter(ctx context.Context, deadline time.Time) error {
	for {
		s.mu.Lock()
		goes, wait, refused := s.pace.admit(time.Now(), deadline, s.inFlight)
		if goes {
			s.inFlight++
		}
		changed := s.changed
		s.mu.Unlock()
		switch {
		case goes:
			return nil
		case refused == Throttled:
			return &Error{Reason: refused, Doing: "the API server asks to be left alone for longer than a call may take"}
		case refused != "":
			return &Error{Reason: refused, Doing: "the API server does not answer: it is asked one call at a time until it does"}
		}
		if err := await(ctx, wait, changed); err != nil {
			return err
		}
	}
}

// await waits for a time, or for a change where that is zero.
func await(ctx context.Context, wait time.Duration, changed <-chan struct{}) error {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
	case <-changed:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// leave gives a slot back.
func (s *slots) leave(o outcome, began time.Time, later time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.pace.took(o, began, time.Now(), later)
	close(s.changed)
	s.changed = make(chan struct{})
}

// call is one that has a slot.
type call struct {
	slots *slots
	began time.Time
	// parent is the caller's context, ctx that with our deadline: they tell who
	// ended the call.
	parent, ctx context.Context //nolint:containedctx // of one request.
	end         func()
	// outcome so far, and how long the answer asked to wait.
	outcome outcome
	later   time.Duration
	once    sync.Once
}

// done gives the slot back, once.
func (c *call) done(o outcome, later time.Duration) {
	c.once.Do(func() {
		if o == unanswered && c.parent.Err() != nil {
			o = abandoned
		}
		c.slots.leave(o, c.began, later)
	})
}

// cause is the error of a call, or that its time was over: transports say then
// that it was canceled.
func (c *call) cause(err error) error {
	if cause := context.Cause(c.ctx); errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}

// body ends the call when its answer has been read, or its time is over.
type body struct {
	io.ReadCloser
	call *call
}

// Read marks an answer that breaks off as such. What the transport says of it
// has no type that survives client-go, which formats errors of HTTP/2 streams.
func (b *body) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		b.call.done(unanswered, 0)
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, b.call.cause(err))
	}
	return n, err
}

func (b *body) Close() error {
	defer b.call.end()
	defer b.call.done(b.call.outcome, b.call.later)
	return b.ReadCloser.Close()
}

func isWatch(u *url.URL) bool {
	switch u.Query().Get("watch") {
	case "true", "1":
		return true
	}
	return false
}

func proxy(address string) func(*http.Request) (*url.URL, error) {
	return func(*http.Request) (*url.URL, error) { return url.Parse(address) }
}
