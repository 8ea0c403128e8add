package apply

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// TestDaemonSetNamesItsNodes changes a DaemonSet whose pods only go when somebody
// deletes them, on the real controller.
func TestDaemonSetNamesItsNodes(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target, set := NewTarget(m), small(t, "nodes")
	ztunnel := object(t, set, "DaemonSet", "ztunnel")
	if err := unstructured.SetNestedField(ztunnel.Object, "OnDelete", "spec", "updateStrategy", "type"); err != nil {
		t.Fatal(err)
	}
	mustApply(t, target, set)
	pods, err := client(t, m, "v1", "Pod", "nodes-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app=ztunnel"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("pods of the DaemonSet: %v", err)
	}
	next := clone(set)
	next.Digest = "sha256:2"
	if err := unstructured.SetNestedField(object(t, next, "DaemonSet", "ztunnel").Object,
		map[string]any{"number": "2"}, "spec", "template", "metadata", "annotations"); err != nil {
		t.Fatal(err)
	}
	options := quick
	options.StageTimeout = 4 * time.Second

	_, err = Apply(t.Context(), target, next, options)

	var failed Errors
	if !errors.As(err, &failed) || failed[0].Reason != NotReady {
		t.Fatalf("error %v, want NotReady", err)
	}
	node, _, _ := unstructured.NestedString(pods.Items[0].Object, "spec", "nodeName")
	for _, want := range []string{"0 of ", "waiting for ", node, "OnDelete"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to say %q", err, want)
		}
	}
	for _, pod := range pods.Items {
		remove(t, m, "v1", "Pod", "nodes-system", pod.GetName())
	}
	mustApply(t, target, next)
}
