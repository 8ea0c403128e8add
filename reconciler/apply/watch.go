package apply

import (
	"context"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// coalesce is how long changes are collected before they are reported: a
	// person's kubectl apply of a folder becomes one correction.
	coalesce = 50 * time.Millisecond
	// watchTimeout is the least time after which a watch is renewed, at random up
	// to twice as long. Fifteen minutes keep twenty watches at about one request a
	// minute; a dead connection is noticed by HTTP/2 pings long before.
	watchTimeout = 15 * time.Minute
	// watchRate, per second, and watchBurst are how often one kind is watched anew.
	// A reflector asks again at once when its watch has expired, for ever if every
	// watch does; a watch that is well lasts for minutes.
	watchRate, watchBurst = 0.1, 5
	// retryKinds is how often kinds that are not served are looked for.
	retryKinds = 30 * time.Second
)

// Watch reports objects of ours that somebody else changed or deleted, until
// ctx is done. Kinds follow the inventory of t by themselves, so it can start
// before the first Apply; objects that this process has not applied or compared
// yet are not reported. Changes within 50 ms are reported together, and our own
// writes are not. A dropped or expired watch lists again, with back-off.
//
// Changed is called from one goroutine, and not again before it returns.
//
// While a watch lives, [Apply] and [Correct] take from it what is on the member.
func Watch(ctx context.Context, t *Target, mesh Mesh, changed func([]Subject)) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{target: t, mesh: mesh, wake: make(chan struct{}, 1), pending: map[Subject]bool{}}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer t.dropViews()
	running.Go(func() { w.report(ctx, changed) })
	stops := map[schema.GroupVersionResource]context.CancelFunc{}
	for {
		inventory, next := t.inventoryAndNext()
		w.follow(ctx, inventory, stops, &running)
		select {
		case <-next:
		case <-time.After(retryKinds):
		case <-ctx.Done():
			return nil
		}
	}
}

type watcher struct {
	target *Target
	mesh   Mesh

	mu      sync.Mutex
	pending map[Subject]bool
	wake    chan struct{}
}

// follow starts and stops watches so that there is one per kind of the inventory.
func (w *watcher) follow(ctx context.Context, inventory *stored, stops map[schema.GroupVersionResource]context.CancelFunc, running *sync.WaitGroup) {
	if inventory == nil {
		return
	}
	kinds := map[schema.GroupVersionResource]Subject{}
	subjects := []Subject{InventorySubject(w.mesh)}
	for _, e := range inventory.Entries {
		subjects = append(subjects, e.Subject)
	}
	for _, s := range subjects {
		mapping, err := w.target.member.Mapping(s.kind())
		if err != nil {
			continue // not served, or not reachable: tried again
		}
		kinds[mapping.Resource] = Subject{Group: s.Group, Version: s.Version, Kind: s.Kind}
	}
	for resource, stop := range stops {
		if _, wanted := kinds[resource]; !wanted {
			stop()
			delete(stops, resource)
			w.target.setView(resource, nil)
		}
	}
	for resource, kind := range kinds {
		if stops[resource] != nil {
			continue
		}
		var watching context.Context
		watching, stops[resource] = context.WithCancel(ctx)
		v := &view{kind: kind, watcher: w}
		w.target.setView(resource, v)
		client := w.target.member.Metadata.Resource(resource).Namespace(onlyIn(resource, w.mesh))
		running.Go(func() { v.run(watching, client, ownedBy(w.mesh)) })
	}
}

// noticed queues an object whose state is not the one that we left.
func (w *watcher) noticed(s Subject) {
	w.mu.Lock()
	w.pending[s] = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// report hands on what was noticed and still holds a moment later: the event of
// our own write often comes before the write's answer.
func (w *watcher) report(ctx context.Context, changed func([]Subject)) {
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(coalesce):
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		var now []Subject
		for s := range w.pending {
			now = append(now, s)
		}
		clear(w.pending)
		w.mu.Unlock()
		now = slices.DeleteFunc(now, func(s Subject) bool { return !w.target.drifted(s) })
		if len(now) > 0 {
			slices.SortFunc(now, compareSubjects)
			changed(now)
		}
	}
}

// drifted reports whether an object is not as this process left it, as far as
// its watch tells.
func (t *Target) drifted(s Subject) bool {
	left, ok := t.left(s)
	if !ok {
		return false
	}
	now, live := t.watched(s)
	return live && (now == nil || now.live != left)
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

// view is what one watch has seen: a few hundred bytes per object.
type view struct {
	kind    Subject
	watcher *watcher

	mu      sync.Mutex
	objects map[types.NamespacedName]sight
	live    bool
}

func (v *view) run(ctx context.Context, client metadata.ResourceInterface, selector string) {
	pace := flowcontrol.NewTokenBucketRateLimiter(watchRate, watchBurst)
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			list, err := client.List(ctx, o)
			v.setLive(err == nil)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			if err := pace.Wait(ctx); err != nil {
				return nil, err
			}
			events, err := client.Watch(ctx, o)
			v.setLive(err == nil)
			return events, err
		},
	}
	cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, v, cache.ReflectorOptions{
		Name: v.kind.Kind, MinWatchTimeout: watchTimeout,
	}).RunWithContext(ctx)
}

func (v *view) setLive(live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live = live
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

// Add, Update, Delete, Replace and Resync take what the reflector reads.

// Add takes a new object.
func (v *view) Add(object any) error { return v.Update(object) }

// Update takes an object's new state.
func (v *view) Update(object any) error {
	o, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil
	}
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	v.mu.Lock()
	if v.objects == nil {
		v.objects = map[types.NamespacedName]sight{}
	}
	v.objects[name] = sightOf(&o.ObjectMeta)
	v.mu.Unlock()
	v.check(name)
	return nil
}

// Delete takes an object that is gone or carries our label no more.
func (v *view) Delete(object any) error {
	o, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil
	}
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	v.mu.Lock()
	delete(v.objects, name)
	v.mu.Unlock()
	v.check(name)
	return nil
}

// Replace takes a whole list: what was missed is noticed now.
func (v *view) Replace(objects []any, _ string) error {
	next := make(map[types.NamespacedName]sight, len(objects))
	for _, object := range objects {
		if o, ok := object.(*metav1.PartialObjectMetadata); ok {
			next[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = sightOf(&o.ObjectMeta)
		}
	}
	v.mu.Lock()
	before := v.objects
	v.objects, v.live = next, true
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
	return nil
}

// Resync has nothing to do: nothing is kept that could be out of step.
func (v *view) Resync() error { return nil }

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
