package keyvault

import (
	"math"
	"net/http"
	"strconv"
	"time"
)

// window is the time over which the service counts.
const window = 10 * time.Second

// spent is what a call took of a budget.
type spent struct {
	at   time.Time
	cost float64
}

// Limits of the service, in calls per vault and ten seconds.
// Source: https://learn.microsoft.com/azure/key-vault/general/service-limits
const (
	createLimit, createLimitHSM = 20, 10
	setLimit                    = 300
	otherLimit                  = 4000
)

// keyLimits are those of all other calls about a key, by its kind.
var keyLimits = map[string]float64{
	"EC": 4000, "EC-HSM": 2000,
	"RSA2048": 4000, "RSA-HSM2048": 2000, "RSA3072": 1000, "RSA-HSM3072": 500, "RSA4096": 500, "RSA-HSM4096": 250,
}

// within answers calls above the limits. Calls about keys share one budget, of
// which each takes the share that its kind has.
func (e *Emulator) within(q *request) bool {
	if e.o.NoLimits {
		return true
	}
	e.mu.Lock()
	budget, cost := e.cost(q)
	now := e.o.Now()
	var used float64
	kept := e.windows[budget][:0]
	for _, s := range e.windows[budget] {
		if now.Sub(s.at) < window {
			kept, used = append(kept, s), used+s.cost
		}
	}
	if used+cost <= 1+1e-9 {
		e.windows[budget] = append(kept, spent{at: now, cost: cost})
		e.mu.Unlock()
		return true
	}
	e.windows[budget] = kept
	wait := window - now.Sub(kept[0].at)
	e.mu.Unlock()
	q.w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	q.refuse(http.StatusTooManyRequests, "Throttled", "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached")
	return false
}

// cost is which budget a call takes of, and what share.
func (e *Emulator) cost(q *request) (string, float64) {
	switch {
	case q.op == "keys/create" || q.op == "keys/rotate":
		// What kind a new key will have is not known before the body is read.
		if o := e.objects[key("keys", q.name)]; o != nil && o.newest().hsm() {
			return "create", 1.0 / createLimitHSM
		}
		return "create", 1.0 / createLimit
	case q.op == "secrets/set":
		return "set", 1.0 / setLimit
	case q.kind == "keys":
		if o := e.objects[key("keys", q.name)]; o != nil {
			if limit := keyLimits[o.newest().class()]; limit > 0 {
				return "keys", 1 / limit
			}
		}
		return "keys", 1.0 / otherLimit
	}
	return "other", 1.0 / otherLimit
}
