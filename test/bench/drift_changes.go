package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The ways in which objects are changed.
const (
	changeField      = "a field edited"
	changeDelete     = "deleted"
	changeLabel      = "a label removed"
	changeAnnotation = "an annotation or label changed"
)

var changeKinds = []string{changeField, changeDelete, changeLabel, changeAnnotation}

// changers are the field managers in whose name changes are made.
var changers = []string{"kubectl-edit", "kubectl-client-side-apply", "helm", "argocd-controller", "terraform", "lens"}

// changed is what somebody else has done to an object.
type changed struct {
	// version is the object's after the change, answered the moment of the answer.
	version  uint64
	answered time.Time
	// back reports whether an object is as it was before.
	back func(*unstructured.Unstructured) bool
}

// disturber changes objects of one member at random, one after another.
type disturber struct {
	client client.WithWatch
	random *rand.Rand
	// objects as they were delivered.
	objects []*unstructured.Unstructured
	// changes that objects have had, the latest last.
	changes map[*unstructured.Unstructured][]time.Time
}

// An object that is changed more than five times a minute is contested, and put back
// ever more rarely on purpose: that is not what is measured here.
const changesPerMinute = 3

// disturb changes an object, and returns how, and how long after the answer a
// watch of that object alone showed it as it was.
func (d *disturber) disturb(ctx context.Context) (kind string, took time.Duration, err error) {
	for range 1000 {
		want := d.objects[d.random.IntN(len(d.objects))]
		if !d.calm(want, time.Now()) {
			time.Sleep(10 * time.Millisecond) // one of the others soon is
			continue
		}
		kind = changeKinds[d.random.IntN(len(changeKinds))]
		took, ok, err := d.one(ctx, want, kind)
		if err != nil {
			return kind, 0, fmt.Errorf("%s: %s %s/%s: %w", kind, want.GetKind(), want.GetNamespace(), want.GetName(), err)
		}
		if ok {
			d.changes[want] = append(d.changes[want], time.Now())
			return kind, took, nil
		}
	}
	return "", 0, errors.New("no object could be changed in a thousand tries")
}

// calm reports whether an object may be changed once more.
func (d *disturber) calm(o *unstructured.Unstructured, now time.Time) bool {
	past := d.changes[o]
	return len(past) < changesPerMinute || now.Sub(past[len(past)-changesPerMinute]) > time.Minute
}

// one tries one change; not ok if the object does not allow it.
func (d *disturber) one(ctx context.Context, want *unstructured.Unstructured, kind string) (time.Duration, bool, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(want.GroupVersionKind())
	if err := d.client.Get(ctx, client.ObjectKeyFromObject(want), live); err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	events, err := d.watch(ctx, live, live.GetResourceVersion())
	if err != nil {
		return 0, false, err
	}
	defer func() { events.Stop() }()
	done, err := d.change(ctx, want, live, kind)
	if err != nil || done == nil {
		return 0, false, err
	}
	for {
		for event := range events.ResultChan() {
			object, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				break
			}
			if version(object) > done.version && event.Type != "DELETED" && done.back(object) {
				return time.Since(done.answered), true, nil
			}
		}
		if ctx.Err() != nil {
			return 0, false, fmt.Errorf("not put back after %s", time.Since(done.answered).Round(time.Second))
		}
		// An edit of a definition ends the watches of its objects. Without a version
		// a watch begins with what is there.
		events.Stop()
		if next, err := d.watch(ctx, live, ""); err == nil {
			events = next
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// watch watches one object alone, from a version on.
func (d *disturber) watch(ctx context.Context, o *unstructured.Unstructured, from string) (watch.Interface, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(o.GroupVersionKind())
	return d.client.Watch(ctx, list, client.InNamespace(o.GetNamespace()), client.MatchingFields{"metadata.name": o.GetName()},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: from}})
}

func version(o *unstructured.Unstructured) uint64 {
	v, _ := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	return v
}

func (d *disturber) change(ctx context.Context, want, live *unstructured.Unstructured, kind string) (*changed, error) {
	switch kind {
	case changeDelete:
		return d.delete(ctx, live)
	case changeLabel:
		return d.metadata(ctx, live, "labels", pick(d.random, want.GetLabels()), nil)
	case changeAnnotation:
		field, keys := "annotations", want.GetAnnotations()
		if len(keys) == 0 {
			field, keys = "labels", want.GetLabels()
		}
		return d.metadata(ctx, live, field, pick(d.random, keys), "changed")
	}
	return d.edit(ctx, want, live)
}

// pick is a random key, empty if there is none.
func pick(random *rand.Rand, m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(m))[random.IntN(len(m))]
}

// delete leaves Namespaces and CustomResourceDefinitions alone: what is in them
// goes with them, and takes its time.
func (d *disturber) delete(ctx context.Context, live *unstructured.Unstructured) (*changed, error) {
	if live.GetKind() == "Namespace" || live.GetKind() == "CustomResourceDefinition" {
		return nil, nil
	}
	before := live.GetUID()
	if err := d.client.Delete(ctx, live); err != nil {
		return nil, err
	}
	return &changed{version(live), time.Now(), func(o *unstructured.Unstructured) bool { return o.GetUID() != before }}, nil
}

// metadata sets a label or annotation, or removes it if the value is nil.
func (d *disturber) metadata(ctx context.Context, live *unstructured.Unstructured, field, key string, value any) (*changed, error) {
	before, ok, _ := unstructured.NestedString(live.Object, "metadata", field, key)
	if key == "" || !ok {
		return nil, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{field: map[string]any{key: value}}})
	if err != nil {
		return nil, err
	}
	return d.write(live, func(o *unstructured.Unstructured) bool {
		now, ok, _ := unstructured.NestedString(o.Object, "metadata", field, key)
		return ok && now == before
	}, func() error {
		return d.client.Patch(ctx, live, client.RawPatch(types.MergePatchType, patch), d.owner())
	})
}

// edit gives a field another value.
func (d *disturber) edit(ctx context.Context, want, live *unstructured.Unstructured) (*changed, error) {
	leaves := leavesOf(want)
	if len(leaves) == 0 {
		return nil, nil
	}
	path := leaves[d.random.IntN(len(leaves))]
	before, ok := at(live.Object, path)
	if !ok {
		return nil, nil
	}
	set(live.Object, path, other(before, live.GetKind() == "Secret"))
	return d.write(live, func(o *unstructured.Unstructured) bool {
		now, ok := at(o.Object, path)
		return ok && now == before
	}, func() error { return d.client.Update(ctx, live, d.owner()) })
}

// write makes a change; nil if the API server does not allow it.
func (d *disturber) write(live *unstructured.Unstructured, back func(*unstructured.Unstructured) bool, write func() error) (*changed, error) {
	before := version(live)
	if err := write(); err != nil {
		if refused(err) {
			return nil, nil
		}
		return nil, err
	}
	answered := time.Now()
	if version(live) == before || back(live) {
		return nil, nil // no change: a default, or another way to write the same
	}
	return &changed{version(live), answered, back}, nil
}

// refused reports whether the API server does not allow a change, or somebody was
// faster.
func refused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err)
}

func (d *disturber) owner() client.FieldOwner {
	return client.FieldOwner(changers[d.random.IntN(len(changers))])
}

// identity are fields by which API servers tell the items of lists apart: another
// value is another item beside the first, not a changed one.
var identity = []string{
	"name", "port", "containerPort", "protocol", "mountPath", "key", "type", "ip", "topologyKey",
}

// leavesOf are the paths of all values that isthmus sets in an object, but for its
// metadata, for identities, and for all of a definition that its kind hangs on.
func leavesOf(want *unstructured.Unstructured) [][]any {
	var leaves [][]any
	var walk func(value any, path []any)
	walk = func(value any, path []any) {
		switch v := value.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				walk(v[key], append(slices.Clone(path), key))
			}
		case []any:
			for i := range v {
				walk(v[i], append(slices.Clone(path), i))
			}
		case string, bool, int64:
			if mayChange(want.GetKind(), path) {
				leaves = append(leaves, path)
			}
		}
	}
	for _, field := range slices.Sorted(maps.Keys(want.Object)) {
		if field != "apiVersion" && field != "kind" && field != "metadata" && field != "status" {
			walk(want.Object[field], []any{field})
		}
	}
	return leaves
}

func mayChange(kind string, path []any) bool {
	last := path[len(path)-1]
	if kind == "CustomResourceDefinition" {
		return last == "description"
	}
	name, ok := last.(string)
	return !ok || !slices.Contains(identity, name)
}

// other is another value of the same type.
func other(value any, secret bool) any {
	switch v := value.(type) {
	case bool:
		return !v
	case int64:
		return v + 1
	case string:
		if secret {
			return base64.StdEncoding.EncodeToString([]byte("changed"))
		}
		return strings.TrimSuffix(v, "\n") + "-changed"
	}
	return nil
}

func at(value any, path []any) (any, bool) {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			name, _ := step.(string)
			value = v[name]
		case []any:
			i, ok := step.(int)
			if !ok || i >= len(v) {
				return nil, false
			}
			value = v[i]
		}
	}
	switch value.(type) {
	case string, bool, int64:
		return value, true
	}
	return nil, false
}

func set(value any, path []any, to any) {
	for i, step := range path {
		last := i == len(path)-1
		switch v := value.(type) {
		case map[string]any:
			name, _ := step.(string)
			if value = v[name]; last {
				v[name] = to
			}
		case []any:
			n, _ := step.(int)
			if value = v[n]; last {
				v[n] = to
			}
		}
	}
}
