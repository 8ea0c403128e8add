package keyvault

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// budget is one of the limits that the service counts separately.
type budget int

const (
	keyCreates budget = iota
	keyCalls
	secretSets
	otherCalls
	budgets
)

// published are the service's limits per vault and ten seconds. Calls about keys
// are counted in those of an EC key; other kinds cost more.
// Source: https://learn.microsoft.com/azure/key-vault/general/service-limits
var published = [budgets]float64{keyCreates: 20, keyCalls: 4000, secretSets: 300, otherCalls: 4000}

// maxWait is how long a call waits for its turn at most.
const maxWait = 2 * time.Minute

// limiter keeps calls below a share of the limits, and away while the vault says
// so.
type limiter struct {
	buckets [budgets]*rate.Limiter

	mu    sync.Mutex
	until [budgets]time.Time
}

// newLimiter allows a share of the limits in any ten seconds: a fifth of it at
// once, and the rest evenly.
func newLimiter(share float64) *limiter {
	l := &limiter{}
	for b, limit := range published {
		allowed := max(limit*share, 5)
		l.buckets[b] = rate.NewLimiter(rate.Limit(allowed*0.8/10), int(allowed*0.2))
	}
	return l
}

// wait waits for a call's turn. It returns how long there is still to wait when
// that is longer than the context or maxWait allow, else zero.
func (l *limiter) wait(ctx context.Context, b budget, cost int) time.Duration {
	now := time.Now()
	reserved := l.buckets[b].ReserveN(now, min(cost, l.buckets[b].Burst()))
	l.mu.Lock()
	delay := max(reserved.DelayFrom(now), l.until[b].Sub(now))
	l.mu.Unlock()
	deadline, bounded := ctx.Deadline()
	if delay > maxWait || bounded && now.Add(delay).After(deadline) {
		reserved.Cancel()
		return delay
	}
	if delay > 0 && !sleep(ctx, delay) {
		reserved.Cancel()
	}
	return 0
}

// hold keeps calls away for as long as the vault asks.
func (l *limiter) hold(b budget, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(wait); until.After(l.until[b]) {
		l.until[b] = until
	}
}

// sleep reports whether the time went by before the context ended.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
