package kustomize_test

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
)

func object() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "a", "namespace": "b", "labels": map[string]any{"app": "x"}},
		"data":     map[string]any{"k": "1"},
	}}
}

func TestPatchMatches(t *testing.T) {
	tests := []struct {
		target *v1alpha1.PatchTarget
		patch  string
		want   bool
		reason string
	}{
		{&v1alpha1.PatchTarget{Kind: "ConfigMap"}, "{}", true, "by kind"},
		{&v1alpha1.PatchTarget{Kind: "Config"}, "{}", false, "expressions are of the whole value"},
		{&v1alpha1.PatchTarget{Name: "a|c", Namespace: ".*"}, "{}", true, "by expressions"},
		{&v1alpha1.PatchTarget{Group: "apps"}, "{}", false, "of another group"},
		{&v1alpha1.PatchTarget{LabelSelector: "app=x"}, "{}", true, "by label"},
		{&v1alpha1.PatchTarget{LabelSelector: "app!=x"}, "{}", false, "not with that label"},
		{&v1alpha1.PatchTarget{AnnotationSelector: "app=x"}, "{}", false, "an annotation is no label"},
		{nil, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}}", true, "it names its object"},
		{nil, "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", false, "an object of no namespace is another"},
	}
	for _, tt := range tests {
		patch, err := kustomize.NewPatch(v1alpha1.Patch{Target: tt.target, Patch: tt.patch})
		if err != nil {
			t.Fatal(err)
		}
		if got := patch.Matches(object()); got != tt.want {
			t.Errorf("%s: matches = %t", tt.reason, got)
		}
	}
}

func TestPatchThatIsNone(t *testing.T) {
	for _, patch := range []string{"https://example.com/patch.yaml", "", "a: 1\na: 2", "{kind: ConfigMap}", "[{op: add}]", "{"} {
		if _, err := kustomize.NewPatch(v1alpha1.Patch{Patch: patch}); err == nil {
			t.Errorf("%q is a patch", patch)
		}
	}
}

func TestPatchRemoves(t *testing.T) {
	patch, err := kustomize.NewPatch(v1alpha1.Patch{Target: &v1alpha1.PatchTarget{Kind: "ConfigMap"}, Patch: "$patch: delete"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := patch.Apply(object()); !errors.Is(err, kustomize.ErrRemoved) {
		t.Errorf("error = %v, want ErrRemoved", err)
	}
}

// A patch may hold what only its author should see; problems go to logs.
func TestErrorsDoNotRepeatWhatAPatchSets(t *testing.T) {
	target := &v1alpha1.PatchTarget{Kind: "ConfigMap"}
	for _, text := range []string{
		"[{op: test, path: /data/k, value: hunter2}]",
		"[hunter2]",
		"{data: [hunter2], metadata: hunter2}",
	} {
		patch, err := kustomize.NewPatch(v1alpha1.Patch{Target: target, Patch: text})
		if err == nil {
			_, err = patch.Apply(object())
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
