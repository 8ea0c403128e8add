package apply

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func podOn(node, template, ready string) unstructured.Unstructured {
	return unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"labels": map[string]any{templateOfPod: template}},
		"spec":     map[string]any{"nodeName": node},
		"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}},
	}}
}

func TestBehindNamesNodes(t *testing.T) {
	set := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{templateOfSet: "2"}},
	}}
	for _, tt := range []struct {
		reason string
		pods   []unstructured.Unstructured
		want   string
	}{
		{"all new and ready", []unstructured.Unstructured{podOn("a", "2", "True")}, ""},
		{"not bound to a node", []unstructured.Unstructured{podOn("", "2", "False")}, ""},
		{"old, and not ready, in the order of their names", []unstructured.Unstructured{
			podOn("node-c", "2", "True"), podOn("node-b", "1", "True"), podOn("node-a", "2", "False"),
		}, "waiting for node-a, node-b"},
		{"old and new on one node, while it surges", []unstructured.Unstructured{
			podOn("a", "1", "True"), podOn("a", "2", "False"),
		}, "waiting for a"},
		{"more than a person reads", []unstructured.Unstructured{
			podOn("a", "1", "True"), podOn("b", "1", "True"), podOn("c", "1", "True"), podOn("d", "1", "True"),
			podOn("e", "1", "True"), podOn("f", "1", "True"), podOn("g", "1", "True"),
		}, "waiting for a, b, c, d, e and 2 more"},
	} {
		if got := behind(set, tt.pods); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}
