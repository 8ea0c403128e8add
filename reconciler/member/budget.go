package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// budget bounds what one member can cost: calls in flight, and time per call.
// A watch is not a call: it is meant to stay open.
type budget struct {
	slots   chan struct{}
	timeout time.Duration
	next    http.RoundTripper
}

func newBudget(o Options) *budget {
	b := &budget{timeout: o.Timeout}
	if b.timeout <= 0 {
		b.timeout = DefaultTimeout
	}
	inFlight := o.InFlight
	if inFlight <= 0 {
		inFlight = DefaultInFlight
	}
	b.slots = make(chan struct{}, inFlight)
	return b
}

// wrap shares the slots with every transport made from one configuration.
func (b *budget) wrap(next http.RoundTripper) http.RoundTripper {
	return &budget{slots: b.slots, timeout: b.timeout, next: next}
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (b *budget) WrappedRoundTripper() http.RoundTripper { return b.next }

func (b *budget) RoundTrip(r *http.Request) (*http.Response, error) {
	if isWatch(r.URL) {
		return b.next.RoundTrip(r)
	}
	// The time waited for a slot counts: a full queue is the member's slowness too.
	ctx, cancel := context.WithTimeout(r.Context(), b.timeout)
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
	done := sync.OnceFunc(func() { cancel(); <-b.slots })
	response, err := b.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		done()
		return nil, err
	}
	response.Body = &body{ReadCloser: response.Body, done: done}
	return response, nil
}

// body ends the call when its answer has been read.
type body struct {
	io.ReadCloser
	done func()
}

// Read marks an answer that breaks off as such. What the transport says of it
// has no type that survives client-go, which formats errors of HTTP/2 streams.
func (b *body) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.done()
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
