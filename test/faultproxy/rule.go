package faultproxy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
)

// Rule says which calls meet a fault.
type Rule struct {
	// Name of the rule in the record of calls.
	Name string
	// Match takes the calls that the rule is for; nil takes all.
	Match Match
	// Chance that such a call is hit, more than 0 and at most 1. Zero: 1.
	Chance float64
	// After is how many such calls pass before one can be hit; Times how many are
	// hit at most, zero for any number.
	After, Times int
	// Do is what happens to it.
	Do Fault
}

// Match says whether a rule is for a call.
type Match func(membertest.Call) bool

// Fault is what happens to a call.
type Fault func(*Exchange)

// Watches matches watches.
func Watches(c membertest.Call) bool { return c.Watch() }

// Calls matches everything but watches.
func Calls(c membertest.Call) bool { return !c.Watch() }

// Writes matches what may change something; dry runs are none.
func Writes(c membertest.Call) bool { return c.Write() }

// On matches calls by method (empty for any) and part of their path.
func On(method, path string) Match {
	return func(c membertest.Call) bool {
		return (method == "" || c.Method == method) && strings.Contains(c.Path, path)
	}
}

// Inject replaces the rules.
func (p *Proxy) Inject(rules ...Rule) {
	next := make([]*rule, len(rules))
	for i, r := range rules {
		next[i] = &rule{Rule: r}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = next
}

// rule is a Rule at work; its proxy's lock guards it.
type rule struct {
	Rule
	passed, hit int
}

func (r *rule) hits(c membertest.Call, random *rand.Rand) bool {
	switch {
	case r.Match != nil && !r.Match(c):
		return false
	case r.Times > 0 && r.hit >= r.Times:
		return false
	case r.passed < r.After:
		r.passed++
		return false
	case r.Chance > 0 && random.Float64() >= r.Chance:
		return false
	}
	r.hit++
	return true
}

// Exchange is one call on its way through the rules.
type Exchange struct {
	Writer  http.ResponseWriter
	Request *http.Request
	Call    membertest.Call

	proxy *Proxy
	rules []*rule
}

// Pass hands the call to the next rule, or to the API server after the last.
// The answer goes to Writer.
func (x *Exchange) Pass() {
	if len(x.rules) == 0 {
		x.proxy.upstream.ServeHTTP(x.Writer, x.Request)
		return
	}
	next := *x
	next.rules = x.rules[1:]
	x.rules[0].Do(&next)
}

// Wait waits, and reports whether the client is still there.
func (x *Exchange) Wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-x.Request.Context().Done():
		return false
	}
}

// Hang waits until the client gives up.
func (x *Exchange) Hang() { <-x.Request.Context().Done() }

// Answer answers in the API server's place.
func (x *Exchange) Answer(code int, reason, message string) {
	writeStatus(x.Writer, code, reason, message)
}

// Break ends the answer where it is: the client gets an error instead of the rest.
func (x *Exchange) Break() { panic(http.ErrAbortHandler) }

// Flush sends what was written.
func (x *Exchange) Flush() { _ = http.NewResponseController(x.Writer).Flush() }

// writeStatus writes a Status as API servers do.
func writeStatus(w http.ResponseWriter, code int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(statusObject(code, reason, message)) // the client may be gone
}

func statusObject(code int, reason, message string) []byte {
	out, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Status", "metadata": map[string]any{}, "status": "Failure",
		"code": code, "reason": reason, "message": message,
	})
	if err != nil {
		panic(fmt.Sprintf("a Status of strings and a number: %v", err))
	}
	return out
}
