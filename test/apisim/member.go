package apisim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
)

const (
	// firstVersion of the objects of a member. What is older was never there.
	firstVersion = 1000
	// remembered events of a member; who asks for older ones has to list again.
	remembered = 1000
)

// builtinNamespaces is the resource of namespaces.
var builtinNamespaces = schema.GroupResource{Resource: "namespaces"}

// member is one played API server.
type member struct {
	simulator *Simulator
	token     string

	// mu guards what follows. It is held while an object is written.
	mu      sync.Mutex
	kinds   map[schema.GroupVersionResource]kind
	objects map[schema.GroupResource]map[types.NamespacedName]*object
	version uint64
	// events in the order of their versions; those up to forgotten are not there.
	events    []event
	forgotten uint64
	// wake is closed and replaced when there are more events.
	wake chan struct{}
	// tokens of accounts that were made.
	tokens map[string]accountToken
}

// event is a change of an object; before is nil for a new one, after for one
// that is gone.
type event struct {
	version       uint64
	resource      schema.GroupResource
	before, after *object
}

func newMember(s *Simulator, token string, has []*unstructured.Unstructured) (*member, error) {
	m := &member{
		simulator: s, token: token, kinds: builtin, objects: map[schema.GroupResource]map[types.NamespacedName]*object{},
		version: firstVersion, forgotten: firstVersion, wake: make(chan struct{}),
	}
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
		o.SetName(name)
		has = append(has, o)
	}
	for _, o := range has {
		k, ok := m.kindOf(o.GroupVersionKind())
		if !ok {
			return nil, fmt.Errorf("kind %s is not played", o.GroupVersionKind())
		}
		result := s.merger.apply(nil, k, o, "before", true)
		if result.err != nil {
			return nil, fmt.Errorf("make %s %q: %w", o.GetKind(), o.GetName(), result.err)
		}
		m.put(k, types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}, nil, result.content, m.timesOf(nil, result.times))
	}
	return m, nil
}

func (m *member) kindOf(wanted schema.GroupVersionKind) (kind, bool) {
	for _, k := range m.kinds {
		if k.GroupVersionKind == wanted {
			return k, true
		}
	}
	return kind{}, false
}

func (m *member) find(k kind, identity types.NamespacedName) *object {
	return m.objects[k.groupResource()][identity]
}

func (m *member) timesOf(before *object, from []int) []int64 {
	times := make([]int64, len(from))
	for i, j := range from {
		if times[i] = now(); j >= 0 {
			times[i] = before.times[j]
		}
	}
	return times
}

// made is an object as a write would leave it, but for its version. Before is
// nil for a new one.
func (m *member) made(k kind, identity types.NamespacedName, before *object, c *content, times []int64) *object {
	o := &object{content: c, times: times, kind: k, identity: identity}
	if before != nil {
		o.version = before.version
		o.uid, o.created, o.deleted = before.uid, before.created, before.deleted
	} else {
		o.uid, o.created = uuid.NewUUID(), now()
	}
	return o
}

// put stores an object and tells who watches.
func (m *member) put(k kind, identity types.NamespacedName, before *object, c *content, times []int64) *object {
	o := m.made(k, identity, before, c, times)
	o.version = m.version + 1
	resource := k.groupResource()
	if m.objects[resource] == nil {
		m.objects[resource] = map[types.NamespacedName]*object{}
	}
	m.objects[resource][identity] = o
	m.tell(resource, before, o)
	if k.Kind == "CustomResourceDefinition" {
		m.serve(c)
	}
	return o
}

// remove deletes an object and what lives in it: a namespace's content, and the
// objects of a CustomResourceDefinition.
func (m *member) remove(o *object) {
	resource := o.kind.groupResource()
	delete(m.objects[resource], o.identity)
	m.tell(resource, o, nil)
	switch o.kind.Kind {
	case "Namespace":
		for _, objects := range m.objects {
			for identity, inside := range objects {
				if identity.Namespace == o.identity.Name {
					m.remove(inside)
				}
			}
		}
	case "CustomResourceDefinition":
		m.unserve(o.content)
	}
}

func (m *member) tell(resource schema.GroupResource, before, after *object) {
	m.version++
	m.events = append(m.events, event{m.version, resource, before, after})
	if len(m.events) > 2*remembered {
		m.events = slices.Clone(m.events[remembered:])
		m.forgotten = m.events[0].version - 1
	}
	close(m.wake)
	m.wake = make(chan struct{})
}

func (m *member) serve(definition *content) {
	o, err := definition.decode()
	if err != nil {
		return // it was encoded by us
	}
	kinds := maps.Clone(m.kinds)
	for _, k := range definedKinds(o, definition) {
		kinds[k.gvr()] = k
	}
	m.kinds = kinds
}

func (m *member) unserve(definition *content) {
	kinds := maps.Clone(m.kinds)
	for resource, k := range m.kinds {
		if k.definition == definition {
			delete(kinds, resource)
			for _, o := range m.objects[resource.GroupResource()] {
				m.remove(o)
			}
		}
	}
	m.kinds = kinds
}

// sorted are the objects of a kind in one namespace, or in all, by name.
func (m *member) sorted(k kind, namespace string) []*object {
	var out []*object
	for identity, o := range m.objects[k.groupResource()] {
		if namespace == "" || identity.Namespace == namespace {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *object) int { return compare(a.identity, b.identity) })
	return out
}

func compare(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// change is a write by an unstructured object.
func (m *member) change(k kind, identity types.NamespacedName, live *object, after *unstructured.Unstructured, manager string, try bool) (*object, error) {
	before := empty(k)
	if live != nil {
		var err error
		if before, err = live.content.decode(); err != nil {
			return nil, err
		}
		// The client sent what it saw; its own values are ours to know.
		restamp(after, live, before)
	}
	compact(after)
	after, from, err := m.simulator.merger.update(k, before, after, manager)
	if err != nil {
		return nil, err
	}
	if live == nil {
		identify(after)
	} else if equal(before, after) {
		return live, nil
	}
	settle(k, before, after)
	c, err := abstract(after)
	if err != nil {
		return nil, err
	}
	times := m.timesOf(live, from)
	if try {
		return m.made(k, identity, live, c, times), nil
	}
	return m.put(k, identity, live, c, times), nil
}

// compact drops what typed metadata would not keep.
func compact(o *unstructured.Unstructured) {
	metadata, _ := o.Object["metadata"].(map[string]any)
	for _, name := range []string{"labels", "annotations"} {
		if values, ok := metadata[name].(map[string]any); ok && len(values) == 0 {
			delete(metadata, name)
		}
	}
}

// restamp puts the stand-ins of live where after has live's own values.
func restamp(after *unstructured.Unstructured, live *object, stand *unstructured.Unstructured) {
	after.SetUID(stand.GetUID())
	after.SetResourceVersion(stand.GetResourceVersion())
	after.SetCreationTimestamp(stand.GetCreationTimestamp())
	if live.generation != 0 {
		after.SetGeneration(live.generation)
	}
	if live.deleted != 0 {
		after.SetDeletionTimestamp(stand.GetDeletionTimestamp())
	}
	entries := after.GetManagedFields()
	for i := range entries {
		for _, had := range stand.GetManagedFields() {
			if had.Manager == entries[i].Manager && had.Operation == entries[i].Operation && had.Subresource == entries[i].Subresource {
				entries[i].Time = had.Time
			}
		}
	}
	if len(entries) > 0 {
		after.SetManagedFields(entries)
	}
}

func encode(value any) []byte {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // types of the API machinery
	}
	return raw
}
