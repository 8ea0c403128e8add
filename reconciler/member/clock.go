package member

import (
	"net/http"
	"sync"
	"time"
)

// clock compares this machine's clock with that of an API server, by the Date of
// its answers.
type clock struct {
	mu    sync.Mutex
	known bool
	skew  time.Duration
}

// Skew is how far this machine's clock is ahead of the API server's, by its last
// answer: to the second, less what the answer took. False where there was none.
func (m *Member) Skew() (skew time.Duration, known bool) {
	m.clock.mu.Lock()
	defer m.clock.mu.Unlock()
	return m.clock.skew, m.clock.known
}

func (c *clock) wrap(next http.RoundTripper) http.RoundTripper { return &clocked{clock: c, next: next} }

// clocked reads the clock with each answer.
type clocked struct {
	clock *clock
	next  http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (c *clocked) WrappedRoundTripper() http.RoundTripper { return c.next }

func (c *clocked) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	response, err := c.next.RoundTrip(r)
	if err == nil {
		c.clock.read(asked, time.Now(), response.Header.Get("Date"))
	}
	return response, err
}

// read takes an answer that was written between two times. Dates are cut to the
// second. Within what the answer leaves open, no skew is assumed.
func (c *clock) read(asked, answered time.Time, date string) {
	at, err := http.ParseTime(date)
	if err != nil {
		return
	}
	skew := time.Duration(0)
	switch ahead, behind := asked.Sub(at.Add(time.Second)), at.Sub(answered); {
	case ahead > 0:
		skew = ahead
	case behind > 0:
		skew = -behind
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.skew = true, skew
}
