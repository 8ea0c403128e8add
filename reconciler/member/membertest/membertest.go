// Package membertest puts faults between a test and a member's API server, and
// records what was asked of it.
//
// A [Wire] is set into a rest.Config before the member is connected. It sees
// every call in the order in which they are made, watches included; a rule
// decides what happens to each. Without a rule it only records. It is safe for
// concurrent use; rules are called one at a time.
package membertest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// Call is one request.
type Call struct {
	// Number of the call, from 1, and of the write among writes; 0 for reads.
	Number, WriteNumber int
	Method, Path, Query string
}

// Write reports whether the call may change something: reads and dry runs do not.
func (c Call) Write() bool { return c.WriteNumber > 0 }

// DryRun reports whether the call is a write that is only tried.
func (c Call) DryRun() bool { return strings.Contains(c.Query, "dryRun=All") }

// Watch reports whether the call is a watch.
func (c Call) Watch() bool { return strings.Contains(c.Query, "watch=") }

// Fate is what happens to a call.
type Fate int

// The fates.
const (
	// Pass: it reaches the API server and the answer comes back.
	Pass Fate = iota
	// Cut: it does not reach the API server.
	Cut
	// Lose: it reaches the API server, and the answer is lost.
	Lose
	// Expire: the answer is 410 Gone, as to a watch that was away too long.
	Expire
)

// ErrCut is what a caller gets for a call that was cut or lost.
var ErrCut = errors.New("connection cut by the test")

// Counter numbers calls. The zero value starts from one. It is not safe for
// concurrent use.
type Counter struct{ calls, writes int }

// Count describes a request and gives it the next numbers.
func (n *Counter) Count(r *http.Request) Call {
	n.calls++
	call := Call{Number: n.calls, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !call.DryRun() {
		n.writes++
		call.WriteNumber = n.writes
	}
	return call
}

// Wire records calls and lets them fail.
type Wire struct {
	mu      sync.Mutex
	calls   []Call
	counter Counter
	rule    func(Call) Fate
	open    []io.Closer // watches
}

// Into makes a copy of a configuration whose calls go through the wire.
func (w *Wire) Into(config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{wire: w, next: next} })
	return out
}

// Rule decides the fate of calls from now on; nil lets all pass.
func (w *Wire) Rule(rule func(Call) Fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = rule
}

// Reset drops the records and the rule.
func (w *Wire) Reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.counter, w.rule = nil, Counter{}, nil
}

// CutWatches breaks the watches that are open.
func (w *Wire) CutWatches() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, watch := range w.open {
		_ = watch.Close()
	}
	w.open = nil
}

// Calls so far, in order.
func (w *Wire) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Call(nil), w.calls...)
}

// Writes among the calls so far.
func (w *Wire) Writes() []Call {
	var writes []Call
	for _, c := range w.Calls() {
		if c.Write() {
			writes = append(writes, c)
		}
	}
	return writes
}

func (w *Wire) record(r *http.Request) Fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	call := w.counter.Count(r)
	w.calls = append(w.calls, call)
	if w.rule == nil {
		return Pass
	}
	return w.rule(call)
}

type transport struct {
	wire *Wire
	next http.RoundTripper
}

func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	switch t.wire.record(r) {
	case Cut:
		return nil, ErrCut
	case Expire:
		status := `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}`
		return &http.Response{
			StatusCode: http.StatusGone, Request: r, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(status)),
		}, nil
	case Lose:
		response, err := t.next.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
		return nil, ErrCut
	}
	response, err := t.next.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.RawQuery, "watch=") {
		t.wire.mu.Lock()
		defer t.wire.mu.Unlock()
		t.wire.open = append(t.wire.open, response.Body)
	}
	return response, err
}
