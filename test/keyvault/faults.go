package keyvault

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Faults are what is wrong with the vault. The zero value is a vault that works.
type Faults struct {
	// Ops limits the faults to some operations, such as "keys/sign". Default: all.
	Ops []string
	// Times limits them to a number of calls. Default: all that come.
	Times int

	// Down ends the connection without an answer.
	Down bool
	// Latency delays answers.
	Latency time.Duration
	// Status, Code, Inner and Message are an answer of the service, RetryAfter what
	// it says of when to come back.
	Status               int
	Code, Inner, Message string
	RetryAfter           time.Duration
	// Page is an answer in place of the service's, as that of a proxy in between,
	// with Status.
	Page string
	// ReadOnly refuses writes, as in a failover.
	ReadOnly bool
	// Truncate ends answers after half of their body.
	Truncate bool
	// Skew is how far the vault's clock is ahead.
	Skew time.Duration
	// Claims are asked for of every token: those of a claims request, as JSON.
	Claims string
	// Challenge takes the place of the service's, whatever the token.
	Challenge string
}

// Break puts faults in place of those before.
func (e *Emulator) Break(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = f
}

// Mend ends all faults.
func (e *Emulator) Mend() { e.Break(Faults{}) }

// take returns what is wrong for one call, and counts it.
func (f Faults) take(op string, counted *Faults) Faults {
	if len(f.Ops) > 0 && !slices.Contains(f.Ops, op) {
		return Faults{}
	}
	if f.Times > 0 {
		if counted.Times--; counted.Times == 0 {
			*counted = Faults{}
		}
	}
	return f
}

// broken answers a call by its faults; those that need more are in what follows.
func (e *Emulator) broken(q *request, f Faults) bool {
	if f.Latency > 0 {
		select {
		case <-time.After(f.Latency):
		case <-q.Context().Done():
		}
	}
	if f.RetryAfter > 0 {
		q.w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
	}
	switch {
	case f.Down:
		panic(http.ErrAbortHandler)
	case f.Page != "":
		q.w.WriteHeader(f.Status)
		_, _ = q.w.Write([]byte(f.Page))
	case f.Status != 0:
		q.refuse(f.Status, f.Code, f.Message, f.Inner)
	case f.ReadOnly && q.Method != http.MethodGet && q.action != "sign":
		q.refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "The vault is in read-only mode.", "VaultReadOnly")
	default:
		if f.Truncate {
			q.w = &cutting{ResponseWriter: q.w}
		}
		return false
	}
	return true
}

// cutting promises a whole body and sends half of it.
type cutting struct{ http.ResponseWriter }

func (c *cutting) Write(body []byte) (int, error) {
	c.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = c.ResponseWriter.Write(body[:len(body)/2])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func claims(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// claimed is whether a token was asked for with the claims that are wanted; clients
// add their own to them.
func claimed(wanted, given string) bool {
	if wanted == "" {
		return true
	}
	var want, have map[string]map[string]any
	if json.Unmarshal([]byte(wanted), &want) != nil || json.Unmarshal([]byte(given), &have) != nil {
		return false
	}
	for in, claims := range want {
		for name := range claims {
			if _, ok := have[in][name]; !ok {
				return false
			}
		}
	}
	return true
}
