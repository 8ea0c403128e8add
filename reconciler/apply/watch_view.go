package apply

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

const (
	// watchTimeout is the least time after which a watch is renewed, at random up
	// to twice as long. Half an hour keeps twenty watches at one request in two minutes;
	// a dead connection is noticed by HTTP/2 pings long before, and a dead watch by its
	// silence.
	watchTimeout = 30 * time.Minute
	// silence is the least time in which a watch that lives says something, at
	// random up to twice as long: API servers send a bookmark each minute.
	silence = 5 * time.Minute
	// watchRate, per second, and watchBurst are how often one kind is watched anew.
	// A watch that has expired is begun again at once, for ever if every watch
	// expires; one that is well lasts for minutes.
	watchRate, watchBurst = 0.1, 5
	// listJitter spreads the lists of kinds whose watches expired together.
	listJitter = time.Second
	// The pause after a watch that failed doubles from the first to the longest; up to
	// half of it is left out at random.
	failedFirst   = 500 * time.Millisecond
	failedLongest = 30 * time.Second
)

// errSilent ends a watch that says nothing.
var errSilent = errors.New("the watch says nothing")

// view is what the watch of one kind has seen: a few hundred bytes per object.
type view struct {
	kind     Subject
	watcher  *watcher
	resource schema.GroupVersionResource
	which    selection
	stop     context.CancelFunc

	mu      sync.Mutex
	objects map[types.NamespacedName]sight // nil before the first list
	live    bool
	// silentAt is when the open watch has said nothing for too long, and hangUp ends
	// it; zero and nil while none is open.
	silentAt time.Time
	hangUp   context.CancelCauseFunc
}

// run lists and watches until ctx is done.
func (v *view) run(ctx context.Context) {
	pace := flowcontrol.NewTokenBucketRateLimiter(watchRate, watchBurst)
	version, failures := "", 0
	for pace.Wait(ctx) == nil {
		next, told, err := v.follow(ctx, version)
		v.over()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			v.watcher.failed()
		}
		if told {
			failures = 0
		}
		var wait time.Duration
		switch nextAfter(err) {
		case resume:
			version = next
		case list:
			version, wait = "", rand.N(listJitter)
		case resumeLater:
			failures++
			version, wait = next, backOff(failures)
		case listLater:
			failures++
			version, wait = "", backOff(failures)
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// next is how it goes on when a watch has ended.
type next int

const (
	// resume from the last version that was told, at once.
	resume next = iota
	// list anew, because what came after that version is lost.
	list
	// resumeLater: the API server cannot be reached, or wants to be left alone.
	resumeLater
	// listLater: the API server refuses, or what it says cannot be read.
	listLater
)

// nextAfter an error of a watch, or its proper end.
func nextAfter(err error) next {
	switch {
	case err == nil, errors.Is(err, errSilent):
		return resume
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return list
	}
	switch member.ReasonOf(err) {
	case member.Unreachable, member.Throttled, member.Canceled, member.Fenced:
		return resumeLater
	}
	return listLater
}

// backOff is the pause after a number of failures in a row, at least one.
func backOff(failures int) time.Duration {
	longest := min(failedFirst<<min(failures-1, 10), failedLongest)
	return longest - rand.N(longest/2)
}

// follow watches from a version, after a list where there is none, and returns the
// version from which to go on, and whether the watch told anything. It returns
// without an error when the API server ends the watch.
func (v *view) follow(ctx context.Context, version string) (at string, told bool, err error) {
	wire := v.watcher.target.wire
	if version == "" {
		var items []metav1.PartialObjectMetadata
		if items, version, err = wire.listAt(ctx, v.resource, v.which); err != nil {
			return "", false, err
		}
		v.replace(items)
	}
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	body, err := wire.watch(ctx, v.resource, v.which, version, watchTimeout+rand.N(watchTimeout))
	if err != nil {
		return version, false, err
	}
	defer body.Close()
	v.opened(hangUp)
	for from := (&events{from: body}); ; told = true {
		e, err := from.next()
		switch {
		case context.Cause(ctx) != nil:
			return version, told, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return version, told, nil
		case err != nil:
			return version, told, err
		}
		v.take(e)
		if e.object.ResourceVersion != "" {
			version = e.object.ResourceVersion
		}
	}
}

// take takes what a watch tells.
func (v *view) take(e event) {
	v.heard()
	switch e.kind {
	case watch.Added, watch.Modified:
		v.put(&e.object)
	case watch.Deleted:
		v.drop(e.object.Namespace, e.object.Name)
	}
}

// opened marks the watch as one that lives.
func (v *view) opened(hangUp context.CancelCauseFunc) {
	v.heard()
	v.mu.Lock()
	v.live, v.hangUp = true, hangUp
	v.mu.Unlock()
	v.watcher.opened()
}

// over marks the watch as one that has ended.
func (v *view) over() {
	v.mu.Lock()
	open := v.hangUp != nil
	v.live, v.hangUp, v.silentAt = false, nil, time.Time{}
	v.mu.Unlock()
	if open {
		v.watcher.closed()
	}
}

// heard notes that the watch has said something.
func (v *view) heard() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.silentAt = time.Now().Add(silence + rand.N(silence))
}

// doubt ends a watch that has said nothing for too long; run begins it again.
func (v *view) doubt(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.hangUp != nil && now.After(v.silentAt) {
		v.live = false
		v.hangUp(errSilent)
	}
}

func (v *view) snapshot() (map[types.NamespacedName]sight, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.live || v.objects == nil {
		return nil, false
	}
	out := make(map[types.NamespacedName]sight, len(v.objects))
	for name, what := range v.objects {
		out[name] = what
	}
	return out, true
}

// put takes an object's new state.
func (v *view) put(o *metav1.ObjectMeta) {
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	what := sightOf(o)
	v.mu.Lock()
	v.objects[name] = what
	v.mu.Unlock()
	v.check(name)
}

// drop takes an object that is gone or carries our label no more.
func (v *view) drop(namespace, object string) {
	name := types.NamespacedName{Namespace: namespace, Name: object}
	v.mu.Lock()
	delete(v.objects, name)
	v.mu.Unlock()
	v.check(name)
}

// replace takes a whole list: what was missed is noticed now.
func (v *view) replace(items []metav1.PartialObjectMetadata) {
	next := make(map[types.NamespacedName]sight, len(items))
	for i := range items {
		o := &items[i].ObjectMeta
		next[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = sightOf(o)
	}
	v.mu.Lock()
	before := v.objects
	v.objects = next
	v.mu.Unlock()
	for name := range next {
		v.check(name)
	}
	for name := range before {
		v.check(name)
	}
	for _, s := range v.watcher.target.knownOfKind(v.kind) {
		v.check(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
}

// check notices an object that is not as we left it.
func (v *view) check(name types.NamespacedName) {
	s := v.kind
	s.Namespace, s.Name = name.Namespace, name.Name
	v.mu.Lock()
	now, there := v.objects[name]
	v.mu.Unlock()
	left, ours := v.watcher.target.left(s)
	if ours && (!there || now.live != left) {
		v.watcher.noticed(s)
	}
}
