package forge

import (
	"context"
	"time"
)

// Waits makes a client wait in no time, and tells of it.
func (c *Client) Waits(tell func(time.Duration)) {
	c.wire.wait = func(ctx context.Context, d time.Duration) error {
		tell(d)
		return context.Cause(ctx)
	}
}

// MaxAnswer sets how many bytes of an answer are read.
func (c *Client) MaxAnswer(n int64) { c.wire.maxAnswer = n }
