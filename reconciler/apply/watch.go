package apply

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

const (
	// coalesce is how long changes are collected before they are reported: a
	// person's kubectl apply of a folder becomes one correction.
	coalesce = 50 * time.Millisecond
	// lookAround is how often kinds that are not served are looked for, and watches
	// that say nothing.
	lookAround = 30 * time.Second
	// mutePatience is how long no watch may be open, after one has failed, until the
	// API server is in doubt: connections break, and are made anew at once.
	mutePatience = 2 * time.Second
)

// Watch reports objects of ours that somebody else changed or deleted, until
// ctx is done. Kinds follow the inventory of t by themselves, so it can start
// before the first Apply; objects that this process has not applied or compared
// yet are not reported. Changes within 50 ms are reported together, and our own
// writes are not.
//
// A watch that was dropped goes on where it was, one that expired lists again, and
// one that fails backs off. One that says nothing for minutes, not even a bookmark,
// is begun anew: its connection may look alive and be dead.
//
// Changed is called from one goroutine, and not again before it returns. It is called
// without objects when the API server stops answering watches, which may mean that it
// is away, and when it answers them again.
//
// While a watch lives, [Apply] and [Correct] take from it what is on the member.
func Watch(ctx context.Context, t *Target, mesh Mesh, changed func([]Subject)) error {
	newWatcher(t, mesh).run(ctx, changed)
	return nil
}

func newWatcher(t *Target, mesh Mesh) *watcher {
	return &watcher{target: t, mesh: mesh, wake: make(chan struct{}, 1), pending: map[Subject]bool{}, views: map[schema.GroupVersionResource]*view{}}
}

// watcher keeps one watch per kind. It is one goroutine, and one more for each
// watch: with a thousand members they are what members cost.
type watcher struct {
	target *Target
	mesh   Mesh
	views  map[schema.GroupVersionResource]*view

	mu      sync.Mutex
	pending map[Subject]bool
	wake    chan struct{}
	contact contact
}

// contact is whether the API server answers watches. It has no lock of its own.
type contact struct {
	// open are the watches that are.
	open int
	// doubt waits, after one has failed, for another to be opened; nil while none has.
	doubt *time.Timer
	// lost says that it does not; told that somebody is to hear of another state.
	lost, told bool
}

func (w *watcher) run(ctx context.Context, changed func([]Subject)) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer w.target.dropViews()
	defer w.certain()
	ticker := time.NewTicker(lookAround)
	defer ticker.Stop()
	var followed *stored
	for whole := true; ; {
		inventory, next := w.target.inventoryAndNext()
		if inventory != followed {
			followed, whole = inventory, w.follow(ctx, inventory, &running)
		}
		select {
		case <-next:
		case <-w.wake:
			w.report(ctx, changed)
		case now := <-ticker.C:
			if !whole {
				whole = w.follow(ctx, inventory, &running)
			}
			for _, v := range w.views {
				v.doubt(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// follow starts and stops watches so that there is one per kind of the inventory.
// It is false if some kind is not served, or it is not known.
func (w *watcher) follow(ctx context.Context, inventory *stored, running *sync.WaitGroup) (whole bool) {
	if inventory == nil {
		return true
	}
	whole = true
	known := true // for every kind, whether it is served
	kinds := map[schema.GroupVersionResource]Subject{}
	asked := map[schema.GroupVersionKind]bool{}
	subjects := []Subject{InventorySubject(w.mesh)}
	for _, e := range inventory.Entries {
		subjects = append(subjects, e.Subject)
	}
	for _, s := range subjects {
		if asked[s.kind()] {
			continue
		}
		asked[s.kind()] = true
		mapping, err := w.target.member.Mapping(s.kind())
		if err != nil {
			whole, known = false, known && member.ReasonOf(err) == member.KindMissing
			continue
		}
		kinds[mapping.Resource] = Subject{Group: s.Group, Version: s.Version, Kind: s.Kind}
	}
	for resource, v := range w.views {
		if _, wanted := kinds[resource]; known && !wanted {
			v.stop()
			delete(w.views, resource)
			w.target.setView(resource, nil)
		}
	}
	for resource, kind := range kinds {
		if w.views[resource] != nil {
			continue
		}
		watching, stop := context.WithCancel(ctx)
		v := &view{
			kind: kind, watcher: w, resource: resource, stop: stop,
			which: selection{namespace: onlyIn(resource, w.mesh), labels: ownedBy(w.mesh)},
		}
		w.views[resource] = v
		w.target.setView(resource, v)
		running.Go(func() { v.run(watching) })
	}
	return whole
}

// noticed queues an object whose state is not the one that we left.
func (w *watcher) noticed(s Subject) {
	w.mu.Lock()
	w.pending[s] = true
	w.mu.Unlock()
	w.wakeUp()
}

func (w *watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// opened notes that a watch is open, so that the API server answers.
func (w *watcher) opened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.contact.open++
	w.certainLocked()
	if w.contact.lost {
		w.contact.lost, w.contact.told = false, true
		w.wakeUp()
	}
}

// closed notes that a watch is not open any more.
func (w *watcher) closed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.contact.open--
}

// failed notes that a watch has failed, or could not be opened.
func (w *watcher) failed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.contact.lost || w.contact.doubt != nil {
		return
	}
	w.contact.doubt = time.AfterFunc(mutePatience, w.lose)
}

// lose has it told that the API server does not answer, unless it does.
func (w *watcher) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.contact.doubt == nil {
		return
	}
	w.contact.doubt = nil
	if w.contact.open == 0 {
		w.contact.lost, w.contact.told = true, true
		w.wakeUp()
	}
}

// certain ends a doubt.
func (w *watcher) certain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.certainLocked()
}

func (w *watcher) certainLocked() {
	if w.contact.doubt != nil {
		w.contact.doubt.Stop()
		w.contact.doubt = nil
	}
}

// report hands on what was noticed and still holds a moment later: the event of
// our own write often comes before the write's answer.
func (w *watcher) report(ctx context.Context, changed func([]Subject)) {
	if pause(ctx, coalesce) != nil {
		return
	}
	w.mu.Lock()
	var now []Subject
	for s := range w.pending {
		now = append(now, s)
	}
	clear(w.pending)
	turned := w.contact.told
	w.contact.told = false
	w.mu.Unlock()
	if turned {
		changed(nil)
	}
	now = slices.DeleteFunc(now, func(s Subject) bool { return !w.target.drifted(s) })
	if len(now) > 0 {
		slices.SortFunc(now, compareSubjects)
		changed(now)
	}
}

// drifted reports whether an object is not as this process left it, as far as
// its watch has told: also one that ended since, for what it told is not told again.
func (t *Target) drifted(s Subject) bool {
	left, ok := t.left(s)
	if !ok {
		return false
	}
	now, known, _ := t.viewed(s)
	return known && (now == nil || now.live != left)
}

// left is the fingerprint of an object after our last write or comparison.
func (t *Target) left(s Subject) (fingerprint, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inventory != nil && s.Kind == "ConfigMap" && s.Name == inventoryName {
		return t.inventory.live, true
	}
	k, ok := t.known[s.key()]
	return k.live, ok
}
