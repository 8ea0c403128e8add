package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestPercentile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for hundredth, want := range map[int]float64{50: 3, 80: 4, 81: 5, 95: 5, 100: 5, 1: 1} {
		if got := percentile(values, hundredth); got != want {
			t.Errorf("%d of a hundred: %g, want %g", hundredth, got, want)
		}
	}
}

// A change must be one that the correction can undo in place: another identity
// makes another item of a list, and a name is not changed at all.
func TestLeaves(t *testing.T) {
	object := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "istiod"},
		"spec": map[string]any{
			"ports":    []any{map[string]any{"name": "https", "port": int64(443), "targetPort": int64(15017)}},
			"selector": map[string]any{"app": "istiod"}, "publish": true,
		},
	}
	want := [][]any{{"spec", "ports", 0, "targetPort"}, {"spec", "publish"}, {"spec", "selector", "app"}}
	leaves := leavesOf(&unstructured.Unstructured{Object: object})
	if diff := cmp.Diff(want, leaves); diff != "" {
		t.Fatalf("leaves (-want +got):\n%s", diff)
	}
	for _, path := range leaves {
		before, _ := at(object, path)
		set(object, path, other(before, false))
		if now, ok := at(object, path); !ok || now == before {
			t.Errorf("%v is %v after a change from %v", path, now, before)
		}
	}
	if gone, ok := at(object, []any{"spec", "ports", 1, "targetPort"}); ok {
		t.Errorf("an item that is not there is %v", gone)
	}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"kind": "CustomResourceDefinition", "spec": map[string]any{"group": "g", "description": "d"},
	}}
	if leaves := leavesOf(definition); len(leaves) != 1 {
		t.Errorf("of a definition, %v can be changed", leaves)
	}
}

func TestCalm(t *testing.T) {
	o, now := &unstructured.Unstructured{}, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := &disturber{changes: map[*unstructured.Unstructured][]time.Time{}}
	for i := range changesPerMinute {
		if !d.calm(o, now) {
			t.Fatalf("not calm after %d changes", i)
		}
		d.changes[o] = append(d.changes[o], now)
		now = now.Add(time.Second)
	}
	if d.calm(o, now) {
		t.Errorf("calm after %d changes in as many seconds", changesPerMinute)
	}
	if !d.calm(o, now.Add(time.Minute)) {
		t.Error("not calm a minute later")
	}
}
