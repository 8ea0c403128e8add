package webhook

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// MaxBody of a request, in bytes.
const MaxBody = 1 << 20

const prefix = "/hook/"

// Path of a fleet's webhook.
func Path(fleet types.NamespacedName) string { return prefix + fleet.Namespace + "/" + fleet.Name }

// Hook is what a request for a fleet is checked against.
type Hook struct {
	Type v1alpha1.WebhookType
	// Token is the secret that the server was given.
	Token []byte
}

// Options of a receiver.
type Options struct {
	// Pushed is called for a fleet that was pushed to. It must not block.
	Pushed func(fleet types.NamespacedName)
	// Count is called once a request with what became of it; may be nil.
	Count func(Result)
	// Gap between two calls of Pushed for one fleet. Zero: 2 seconds.
	Gap time.Duration
}

// Result is what became of a request. Values are stable.
type Result string

// The results.
const (
	// ResultAccepted: the fleet is or was about to be looked at.
	ResultAccepted Result = "ok"
	// ResultRejected: the secret was wrong, or there is no such fleet.
	ResultRejected Result = "Rejected"
	// ResultTooLarge: the body was larger than MaxBody.
	ResultTooLarge Result = "TooLarge"
	// ResultMalformed: no webhook's request, or one that broke off.
	ResultMalformed Result = "Malformed"
)

// Receiver is an [http.Handler] for the webhooks of some fleets.
type Receiver struct {
	options Options

	mu    sync.Mutex
	hooks map[types.NamespacedName]Hook
	turns map[types.NamespacedName]*turn
}

// turn is when a fleet was last told of, and whether it will be again.
type turn struct {
	last  time.Time
	timer *time.Timer
}

// New returns a receiver that knows no fleet yet.
func New(o Options) *Receiver {
	o.Gap = cmp.Or(o.Gap, 2*time.Second)
	if o.Count == nil {
		o.Count = func(Result) {}
	}
	return &Receiver{options: o, hooks: map[types.NamespacedName]Hook{}, turns: map[types.NamespacedName]*turn{}}
}

// Set lets a fleet be told of pushes. An empty token would let anybody in and is
// as if there were no hook.
func (r *Receiver) Set(fleet types.NamespacedName, hook Hook) {
	if len(hook.Token) == 0 {
		r.Remove(fleet)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks[fleet] = hook
}

// Remove forgets a fleet.
func (r *Receiver) Remove(fleet types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hooks, fleet)
	if t := r.turns[fleet]; t != nil && t.timer != nil {
		t.timer.Stop()
	}
	delete(r.turns, fleet)
}

// ServeHTTP answers 204 for a push, and says no more than needed for the rest.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	result, code := r.receive(request, http.MaxBytesReader(w, request.Body, MaxBody))
	r.options.Count(result)
	w.WriteHeader(code)
}

func (r *Receiver) receive(request *http.Request, body io.Reader) (Result, int) {
	fleet, ok := fleetOf(request.URL.Path)
	switch {
	case !ok:
		return ResultMalformed, http.StatusNotFound
	case request.Method != http.MethodPost:
		return ResultMalformed, http.StatusMethodNotAllowed
	}
	r.mu.Lock()
	hook, known := r.hooks[fleet]
	r.mu.Unlock()
	passed, err := hook.check(request.Header, body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return ResultTooLarge, http.StatusRequestEntityTooLarge
	case err != nil:
		return ResultMalformed, http.StatusBadRequest
	case !known || !passed:
		return ResultRejected, http.StatusUnauthorized
	}
	r.push(fleet)
	return ResultAccepted, http.StatusNoContent
}

func fleetOf(path string) (types.NamespacedName, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	namespace, name, found := strings.Cut(rest, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok && found && namespace != "" && name != "" && !strings.Contains(name, "/")
}

// push calls Pushed now, or once when the gap is over: then what came meanwhile
// is looked at together.
func (r *Receiver) push(fleet types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.turns[fleet]
	if t == nil {
		t = &turn{}
		r.turns[fleet] = t
	}
	if t.timer != nil {
		return
	}
	wait := r.options.Gap - time.Since(t.last)
	if wait <= 0 {
		t.last = time.Now()
		r.options.Pushed(fleet)
		return
	}
	t.timer = time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.turns[fleet] != t {
			return
		}
		t.timer, t.last = nil, time.Now()
		r.options.Pushed(fleet)
	})
}
