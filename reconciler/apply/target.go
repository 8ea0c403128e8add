package apply

import (
	"context"
	"crypto/rand"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// parallel calls of one step. The member's own budget is as large; more would
// only queue there.
const parallel = 8

// Target is one member with what this process knows about it. It is made once
// and lives as long as the member; safe for concurrent use.
type Target struct {
	member *member.Member
	wire   wire
	// key of the hashes that stay in memory.
	key []byte

	// calls lets one Apply or Remove work at a time.
	calls sync.Mutex
	// writes is held while objects are written, and not while an Apply waits for
	// health: a Correct must not wait for that.
	writes sync.Mutex

	// mu guards what follows.
	mu        sync.Mutex
	known     map[Subject]known
	inventory *stored
	views     map[schema.GroupVersionResource]*view
	// distrust makes the next call list instead of believing the watches.
	distrust bool
	// changed is closed and replaced when the inventory changes.
	changed chan struct{}
}

// NewTarget of a member, with nothing known yet: the first call compares all.
func NewTarget(m *member.Member) *Target {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, by its documentation
	return &Target{
		member: m, wire: wire{m.REST}, key: key,
		known: map[Subject]known{}, views: map[schema.GroupVersionResource]*view{}, changed: make(chan struct{}),
	}
}

// Doubt makes the next Apply read the inventory and list instead of believing the
// watches: the full check for whatever a watch may have missed. What is known of
// objects stays, because an object whose fingerprint is the same was not written
// since; so it costs a list per kind, and a dry run only for what changed.
func (t *Target) Doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inventory, t.distrust = nil, true
}

// Forget drops what is known too, so that the next Apply compares everything.
func (t *Target) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.inventory, t.distrust = map[Subject]known{}, nil, true
}

// Delivered is the inventory as it was last read or written; empty before that.
func (t *Target) Delivered() Inventory {
	if last := t.lastInventory(); last != nil {
		return last.Inventory
	}
	return Inventory{}
}

func (t *Target) knownOf(s Subject) *known {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, found := t.known[s.key()]; found {
		return &k
	}
	return nil
}

func (t *Target) remember(s Subject, k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[s.key()] = k
}

func (t *Target) forget(s Subject) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, s.key())
}

// sights of the objects of ours on the member, by identity.
type sights map[Subject]*sight

// observe sees everything with our label, of any network, among some kinds. Kinds that a watch
// follows cost nothing; kinds that the API server does not serve have no
// objects. Of kinds that are shared all are seen if all is set, ours or not.
func (t *Target) observe(ctx context.Context, mesh Mesh, kinds map[schema.GroupVersionKind]bool, all bool) (sights, error) {
	var (
		mu   sync.Mutex
		seen = sights{}
	)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(parallel)
	for kind := range kinds {
		mapping, err := t.member.Mapping(kind)
		if member.ReasonOf(err) == member.KindMissing {
			continue
		}
		if err != nil {
			return nil, err
		}
		subject := Subject{Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
		shared := all && subject.isShared()
		if !shared && t.observeWatched(mapping.Resource, subject, seen, &mu) {
			continue
		}
		// Of any network: what belongs to another one is not ours to take.
		which := selection{labels: LabelNetwork, namespace: onlyIn(mapping.Resource, mesh)}
		if shared {
			which.labels = ""
		}
		work.Go(func() error {
			found, err := t.observeListed(ctx, mapping, subject, which)
			mu.Lock()
			defer mu.Unlock()
			for s, what := range found {
				seen[s] = what
			}
			return err
		})
	}
	return seen, work.Wait()
}

// onlyIn is the one namespace in which a kind is listed and watched; empty for
// all. Nothing of ours is a Secret elsewhere, and those of others are not to be
// in our reach: RBAC knows no labels.
func onlyIn(r schema.GroupVersionResource, mesh Mesh) string {
	if r.Group == "" && r.Resource == "secrets" {
		return mesh.SystemNamespace
	}
	return ""
}

func ownedBy(mesh Mesh) string { return LabelNetwork + "=" + mesh.Network }

func (t *Target) observeListed(ctx context.Context, m *meta.RESTMapping, kind Subject, which selection) (sights, error) {
	items, err := t.wire.list(ctx, m.Resource, which)
	if apierrors.IsNotFound(err) {
		return nil, nil // the kind went since discovery
	}
	if err != nil {
		return nil, member.Wrap("list "+m.Resource.Resource, err)
	}
	seen := make(sights, len(items))
	for i := range items {
		what, s := sightOf(&items[i].ObjectMeta), kind
		s.Namespace, s.Name = items[i].Namespace, items[i].Name
		seen[s.key()] = &what
	}
	return seen, nil
}

// observeWatched copies what a live watch has seen; false if there is none.
func (t *Target) observeWatched(r schema.GroupVersionResource, kind Subject, into sights, mu *sync.Mutex) bool {
	t.mu.Lock()
	v := t.views[r]
	if t.distrust {
		v = nil
	}
	t.mu.Unlock()
	if v == nil {
		return false
	}
	objects, live := v.snapshot()
	if !live {
		return false
	}
	mu.Lock()
	defer mu.Unlock()
	for name, what := range objects {
		s := kind
		s.Namespace, s.Name = name.Namespace, name.Name
		into[s.key()] = &what
	}
	return true
}

// watched is what a live watch shows of an object: nil if it is not there. Live
// is false where no watch tells.
func (t *Target) watched(s Subject) (now *sight, live bool) {
	now, known, live := t.viewed(s)
	return now, known && live
}

// viewed is what a watch has last shown of an object, if it ever did, and whether
// it lives.
func (t *Target) viewed(s Subject) (now *sight, known, live bool) {
	v := t.viewOf(s)
	if v == nil {
		return nil, false, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if what, there := v.objects[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}]; there {
		now = &what
	}
	return now, v.objects != nil, v.live
}

// viewOf is the watch of an object's kind, nil for none. It asks nobody: what a
// watch told must not get lost because discovery fails.
func (t *Target) viewOf(s Subject) *view {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range t.views {
		if v.kind.groupKind() == s.groupKind() {
			return v
		}
	}
	return nil
}

func (t *Target) setView(r schema.GroupVersionResource, v *view) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v == nil {
		delete(t.views, r)
		return
	}
	t.views[r] = v
}

func (t *Target) dropViews() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.views)
}

// inventoryAndNext is the inventory and what is closed when there is another.
func (t *Target) inventoryAndNext() (*stored, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inventory, t.changed
}

func (t *Target) knownOfKind(kind Subject) []Subject {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Subject
	for s := range t.known {
		if s.groupKind() == kind.groupKind() {
			out = append(out, s)
		}
	}
	return out
}

func (t *Target) trustViews() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.distrust = false
}
