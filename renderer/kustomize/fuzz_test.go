package kustomize_test

import (
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
)

// rendered returns, as JSON, an object of each kind that a member runs. They
// are made once per process: charts take longer than patches.
var rendered = sync.OnceValues(func() ([][]byte, error) {
	f, problems := fleet.Load(fstest.MapFS{"fleet.yaml": {Data: []byte(`apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec: {namespaces: [{name: shop, ambient: true, waypoint: {name: waypoint}}]}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: one}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}
  connectivity: {network: one}
`)}})
	if f == nil {
		return nil, problemError(problems[0].String())
	}
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil {
		return nil, err
	}
	var objects [][]byte
	kinds := map[string]bool{}
	for _, object := range result.Bundles[0].Objects {
		if kind := object.Object.GetKind(); !kinds[kind] && kind != "CustomResourceDefinition" {
			kinds[kind] = true
			content, err := object.Object.MarshalJSON()
			if err != nil {
				return nil, err
			}
			objects = append(objects, content)
		}
	}
	return objects, nil
})

type problemError string

func (e problemError) Error() string { return string(e) }

// FuzzPatch: whatever a patch says, and even if no rule of the fleet has looked
// at it, reading and applying it neither panics nor changes the object that it
// is applied to; it gives the same twice, and its errors are short.
func FuzzPatch(f *testing.F) {
	for _, seed := range []struct{ kind, name, selector, patch string }{
		{"Deployment", "", "", "metadata: {annotations: {example.com/team: mesh}}"},
		{"Deployment", "istiod", "", "spec: {template: {spec: {containers: [{name: discovery, env: [{name: EXTRA, value: \"1\"}]}]}}}"},
		{"Deployment|DaemonSet", "", "isthmus.dev/component!=cni", "spec: {template: {spec: {containers: [{name: discovery, $patch: replace}]}}}"},
		{"DaemonSet", "", "", "spec: {$retainKeys: [template], template: {}}"},
		{"Service", "", "", "spec: {ports: [{port: 15012, $patch: delete}], $setElementOrder/ports: [{port: 1}]}"},
		{"Service", "", "", "spec: {$deleteFromPrimitiveList/externalIPs: [1.2.3.4]}"},
		{"", "", "", "$patch: delete"},
		{"", "", "", "$patch: merge\nmetadata: null"},
		{"ConfigMap", "", "", "data: null"},
		{"ConfigMap", "", "", "data: [a, 1, 1.5, null, {}]"},
		{"HorizontalPodAutoscaler", "", "", "[{op: replace, path: /spec/maxReplicas, value: 9}]"},
		{"Service", "", "", "[{op: add, path: /spec/ports/-, value: {}}, {op: remove, path: /spec/ports/-1}]"},
		{"Service", "", "", "[{op: add, path: /spec/ports/99999999999, value: {}}]"},
		{"Service", "", "", "[{op: add, path: /metadata/labels/a~01~10b, value: x}]"},
		{"Service", "", "", "[{op: replace, path: \"\", value: {}}, {op: remove, path: \"\"}]"},
		{"Service", "", "", "[{op: move, from: /spec, path: /spec/ports}, {op: test, path: /kind, value: Pod}]"},
		{"Service", "", "", "[{op: copy, from: \"\", path: /spec/a}]"},
		{"Service", "", "", "{op: add, path: /a}"},
		{"Service", "", "", "[]"},
		{"Service", "", "", "metadata: {annotations: {config.kubernetes.io/local-config: \"true\"}}"},
		{"Service", "", "", "metadata: {annotations: {internal.config.kubernetes.io/path: a, config.kubernetes.io/index: b}}"},
		{"Service", "(a*)*$", "!a, b in (c), d notin (e)", "https://example.com/patch.yaml"},
		{"", "", "", "kind: Kustomization\nresources: [https://example.com/base]\ngenerators: [a.yaml]"},
		{"", "", "", "a: &a [*a]"},
		{"", "", "", "a: &a {b: 1}\nc: {<<: *a}"},
		{"", "", "", "a: .inf\nb: !!binary aGk=\nc: 2001-01-01\nd: 0644\non: yes"},
		{"", "", "", "? [a]\n: b\n? {c: d}\n: e"},
		{"", "", "", "kind: List\nitems: [{kind: Secret}]"},
		{"", "", "", "apiVersion: 1\nkind: {}\nmetadata: {name: [], namespace: 1, labels: x}"},
	} {
		f.Add(seed.kind, seed.name, seed.selector, seed.patch)
	}
	f.Fuzz(func(t *testing.T, kind, name, selector, text string) {
		objects, err := rendered()
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []*v1alpha1.PatchTarget{{Kind: kind, Name: name, LabelSelector: selector}, nil} {
			patch, err := kustomize.NewPatch(v1alpha1.Patch{Target: target, Patch: text})
			if err != nil {
				continue
			}
			for _, content := range objects {
				object := &unstructured.Unstructured{}
				if err := object.UnmarshalJSON(content); err != nil {
					t.Fatal(err)
				}
				if patch.Matches(object) {
					applied(t, patch, object)
				}
			}
		}
	})
}

// applied applies a patch twice and compares.
func applied(t *testing.T, patch *kustomize.Patch, object *unstructured.Unstructured) {
	t.Helper()
	before := object.DeepCopy()
	after, err := patch.Apply(object)
	if diff := cmp.Diff(before.Object, object.Object); diff != "" {
		t.Errorf("the object itself changed (-before +after):\n%s", diff)
	}
	if (after == nil) == (err == nil) {
		t.Errorf("result %v and error %v", after, err)
	}
	if err != nil && (len(err.Error()) > 300 || strings.Contains(err.Error(), "panicked")) {
		t.Errorf("error: %.400q", err)
	}
	again, errAgain := patch.Apply(object)
	if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
		t.Errorf("error %v, and then %v", err, errAgain)
	}
	if err == nil && !cmp.Equal(after.Object, again.Object) {
		t.Errorf("another result the second time: %s", cmp.Diff(after.Object, again.Object))
	}
}
