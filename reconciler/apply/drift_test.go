package apply

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// change of one object in a result; zero for none.
func changeOf(r Result, kind, name string) Change {
	for _, c := range r.Changes {
		if c.Subject.Kind == kind && c.Subject.Name == name {
			return c
		}
	}
	return Change{}
}

func TestReportLeavesWhatOthersChanged(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	target, set := NewTarget(m), small(t, "reporting")
	set.Drift.Report = true
	mustApply(t, target, set)
	patch(t, m, "v1", "ConfigMap", "reporting-system", "istio", `{"data":{"mesh":"edited"}}`)
	remove(t, m, "v1", "ServiceAccount", "reporting-system", "istiod")
	patch(t, m, "v1", "Secret", "reporting-system", "cacerts", `{"data":{"ca-key.pem":"b3RoZXI="}}`)

	wire.Reset()
	result := mustApply(t, target, set)
	if c := changeOf(result, "ConfigMap", "istio"); c.Action != Left || c.By != "kubectl-edit" || c.At.IsZero() {
		t.Errorf("edited ConfigMap: %+v, want it left, with who and when", c)
	}
	if c := changeOf(result, "ServiceAccount", "istiod"); c.Action != Left {
		t.Errorf("deleted ServiceAccount: %+v, want it left", c)
	}
	if c := changeOf(result, "Secret", "cacerts"); c.Action != Configured || !c.Trust {
		t.Errorf("cacerts: %+v, want it put back in any mode", c)
	}
	if writes := wire.Writes(); len(writes) > 2 { // cacerts, and the inventory at most
		t.Errorf("%d writes: %v", len(writes), writes)
	}

	again := mustApply(t, NewTarget(m), set)
	if c := changeOf(again, "ConfigMap", "istio"); c.Action != Left {
		t.Errorf("after a restart: %+v, want it left still", c)
	}

	next := clone(set)
	next.Digest = "sha256:2"
	object(t, next, "ConfigMap", "istio").Object["data"] = map[string]any{"mesh": "trustDomain: example.org"}
	delivered := mustApply(t, target, next)
	if c := changeOf(delivered, "ConfigMap", "istio"); c.Action != Configured {
		t.Errorf("a new commit: %+v, want it delivered over what others changed", c)
	}

	corrected := clone(next)
	corrected.Drift.Report = false
	if c := changeOf(mustApply(t, target, corrected), "ServiceAccount", "istiod"); c.Action != Created {
		t.Errorf("back to correcting: %+v, want it made again", c)
	}
}

func TestAnnotationGoesBeforeTheMode(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target, set := NewTarget(m), small(t, "annotated")
	object(t, set, "ConfigMap", "istio").SetAnnotations(map[string]string{v1alpha1.DriftAnnotation: "Report"})
	mustApply(t, target, set)
	patch(t, m, "v1", "ConfigMap", "annotated-system", "istio", `{"data":{"mesh":"edited"}}`)
	remove(t, m, "v1", "ServiceAccount", "annotated-system", "istiod")
	result := mustApply(t, target, set)
	if c := changeOf(result, "ConfigMap", "istio"); c.Action != Left {
		t.Errorf("annotated: %+v, want it left", c)
	}
	if c := changeOf(result, "ServiceAccount", "istiod"); c.Action != Created {
		t.Errorf("not annotated: %+v, want it put back", c)
	}
}

func TestHeldObjectsAreLeftForNow(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target, set := NewTarget(m), small(t, "held")
	mustApply(t, target, set)
	patch(t, m, "v1", "ConfigMap", "held-system", "istio", `{"data":{"mesh":"edited"}}`)
	hold := true
	set.Drift.Hold = func(s Subject) bool { return hold && s.Name == "istio" }
	if c := changeOf(mustApply(t, target, set), "ConfigMap", "istio"); c.Action != Left {
		t.Errorf("held: %+v, want it left", c)
	}
	hold = false
	if c := changeOf(mustApply(t, target, set), "ConfigMap", "istio"); c.Action != Configured || c.By != "kubectl-edit" {
		t.Errorf("held no more: %+v, want it put back", c)
	}
}

// TestFieldsOfOthers has two kinds of rivals: one that updates, as an autoscaler
// or kubectl edit does, and one that applies.
func TestFieldsOfOthers(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	target, set := NewTarget(m), small(t, "yielding")
	deployment := object(t, set, "Deployment", "istiod")
	if err := unstructured.SetNestedField(deployment.Object, int64(2), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	set.Drift.Ignore = []v1alpha1.DriftIgnore{
		{Group: "apps", Kind: "Deployment", Name: "istiod", Fields: []v1alpha1.JSONPointer{
			"/spec/replicas", "/spec/template/spec/containers/discovery/image"}},
		{Kind: "ConfigMap", Namespace: "yielding-system", Fields: []v1alpha1.JSONPointer{"/data/mesh"}},
	}
	mustApply(t, target, set)
	replicas := func() int64 {
		live, err := get(m, "apps/v1", "Deployment", "yielding-system", "istiod")
		if err != nil {
			t.Fatal(err)
		}
		n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
		return n
	}
	if replicas() != 2 {
		t.Fatalf("%d replicas after delivery, want 2: the field is set when the object is made", replicas())
	}
	mustApply(t, NewTarget(m), set)
	if replicas() != 2 {
		t.Fatalf("%d replicas, want 2: nobody else has taken the field", replicas())
	}

	_, err := client(t, m, "apps/v1", "Deployment", "yielding-system").Patch(context.Background(), "istiod", types.MergePatchType,
		[]byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "autoscaler"}, "scale")
	if err != nil {
		t.Fatal(err)
	}
	patch(t, m, "apps/v1", "Deployment", "yielding-system", "istiod",
		`{"spec":{"template":{"spec":{"containers":[{"name":"discovery","image":"mirror/pilot"}]}}}}`)
	_, err = client(t, m, "v1", "ConfigMap", "yielding-system").Patch(context.Background(), "istio", types.ApplyYAMLPatchType,
		[]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: yielding-system}\ndata: {mesh: theirs}\n"),
		metav1.PatchOptions{FieldManager: "another-gitops", Force: new(true)})
	if err != nil {
		t.Fatal(err)
	}

	mustApply(t, target, set)
	wire.Reset()
	mustApply(t, target, set)
	mustApply(t, NewTarget(m), set)
	if writes := wire.Writes(); len(writes) > 0 {
		t.Errorf("writes over fields that are theirs: %v", writes)
	}
	live, err := get(m, "apps/v1", "Deployment", "yielding-system", "istiod")
	if err != nil {
		t.Fatal(err)
	}
	containers, _, _ := unstructured.NestedSlice(live.Object, "spec", "template", "spec", "containers")
	if image := containers[0].(map[string]any)["image"]; replicas() != 5 || image != "mirror/pilot" {
		t.Errorf("%d replicas of image %v, want 5 of mirror/pilot: theirs", replicas(), image)
	}
	config, err := get(m, "v1", "ConfigMap", "yielding-system", "istio")
	if err != nil {
		t.Fatal(err)
	}
	if mesh, _, _ := unstructured.NestedString(config.Object, "data", "mesh"); mesh != "theirs" {
		t.Errorf("data.mesh is %q, want theirs", mesh)
	}

	patch(t, m, "apps/v1", "Deployment", "yielding-system", "istiod", `{"spec":{"template":{"metadata":{"labels":{"app":"yielding","other":"x"}}}}}`)
	patch(t, m, "apps/v1", "Deployment", "yielding-system", "istiod", `{"metadata":{"labels":{"isthmus.dev/component":"edited"}}}`)
	mustApply(t, target, set)
	if live, err = get(m, "apps/v1", "Deployment", "yielding-system", "istiod"); err != nil {
		t.Fatal(err)
	}
	if live.GetLabels()[LabelComponent] != "istiod" || replicas() != 5 {
		t.Errorf("label %q and %d replicas, want ours put back beside theirs", live.GetLabels()[LabelComponent], replicas())
	}
}

func TestAdmissionsEnforcerIsNotFought(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	target, set := NewTarget(m), small(t, "enforced")
	const api, kind = "admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"
	hook := object(t, set, kind, "enforced-validator")
	hooks, _, _ := unstructured.NestedSlice(hook.Object, "webhooks")
	hooks[0].(map[string]any)["namespaceSelector"] = map[string]any{"matchLabels": map[string]any{"a": "b"}}
	hook.Object["webhooks"] = hooks
	mustApply(t, target, set)
	edit := func(manager string) {
		live, err := get(m, api, kind, "", "enforced-validator")
		if err != nil {
			t.Fatal(err)
		}
		hooks, _, _ := unstructured.NestedSlice(live.Object, "webhooks")
		hooks[0].(map[string]any)["namespaceSelector"] = map[string]any{"matchExpressions": []any{
			map[string]any{"key": "control-plane", "operator": "DoesNotExist"}}}
		live.Object["webhooks"] = hooks
		if _, err := client(t, m, api, kind, "").Update(context.Background(), live, metav1.UpdateOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	edit("kubectl-edit")
	if c := changeOf(mustApply(t, target, set), kind, "enforced-validator"); c.Action != Configured || c.By != "kubectl-edit" {
		t.Errorf("edited by a person: %+v, want it put back", c)
	}
	edit("admissionsenforcer")
	mustApply(t, target, set)
	wire.Reset()
	mustApply(t, NewTarget(m), set)
	if writes := wire.Writes(); len(writes) > 0 {
		t.Errorf("writes against the enforcer: %v", writes)
	}
}

func TestExpandFindsFields(t *testing.T) {
	o := map[string]any{"spec": map[string]any{
		"a/b":        "x",
		"containers": []any{map[string]any{"name": "one", "image": "i"}, map[string]any{"name": "two"}, "plain"},
	}}
	for _, tt := range []struct {
		reason  string
		pointer []string
		want    []string
	}{
		{"a key", []string{"spec"}, []string{".spec"}},
		{"an escaped key", []string{"spec", "a~1b"}, []string{".spec.a/b"}},
		{"an item by name", []string{"spec", "containers", "one", "image"}, []string{`.spec.containers[name="one"].image`}},
		{"an item by number", []string{"spec", "containers", "0", "image"}, []string{`.spec.containers[name="one"].image`}},
		{"every named item", []string{"spec", "containers", "*"}, []string{`.spec.containers[name="one"]`, `.spec.containers[name="two"]`}},
		{"what is not there", []string{"spec", "replicas"}, nil},
		{"below a value", []string{"spec", "a~1b", "c"}, nil},
	} {
		var got []string
		for _, l := range expand(o, tt.pointer, location{}) {
			got = append(got, l.path.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestWhatWasThereBeforeIsNotTaken(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "squatted")
	create(t, m, "v1", "Namespace", "", "squatted-system", nil)
	theirs := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "istio", "namespace": "squatted-system"},
		"data": map[string]any{"mesh": "theirs"},
	}}
	if _, err := client(t, m, "v1", "ConfigMap", "squatted-system").Create(context.Background(), theirs, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		t.Fatal(err)
	}
	_, err := Apply(context.Background(), NewTarget(m), set, quick)
	var failed Errors
	if !errors.As(err, &failed) || len(failed) != 1 || failed[0].Reason != NotOurs || failed[0].Subject.Name != "istio" {
		t.Fatalf("error %v, want NotOurs of the ConfigMap", err)
	}
	if !Stalls(err) {
		t.Error("somebody else's object does not become ours by waiting")
	}
	live, err := get(m, "v1", "ConfigMap", "squatted-system", "istio")
	if err != nil || live.Object["data"].(map[string]any)["mesh"] != "theirs" {
		t.Errorf("it is %v (%v), want it as it was", live, err)
	}

	set.Adopt = true
	target := NewTarget(m)
	mustApply(t, target, set)
	result := mustRemove(t, target, set)
	if c := changeOf(result, "ConfigMap", "istio"); c.Action != Released {
		t.Errorf("leaving: %+v, want what was there before us to stay", c)
	}
}

func TestAnotherNetworksObjectIsRefused(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	first, second := small(t, "firstnet"), small(t, "secondnet")
	mustApply(t, NewTarget(m), first)
	shared := object(t, first, "ClusterRole", "firstnet-istiod").DeepCopy()
	shared.SetLabels(map[string]string{LabelNetwork: "secondnet"})
	second.Objects = append(second.Objects, bundle.Object{Stage: bundle.StageControlPlane, Object: shared})
	for _, second.Adopt = range []bool{false, true} {
		_, err := Apply(context.Background(), NewTarget(m), second, quick)
		var failed Errors
		if !errors.As(err, &failed) || failed[0].Reason != NotOurs || !strings.Contains(err.Error(), `"firstnet"`) {
			t.Fatalf("adopting %v: error %v, want NotOurs that names the network", second.Adopt, err)
		}
	}
	mustApply(t, NewTarget(m), without(second, "ClusterRole", "firstnet-istiod"))
}

func TestBindingIsMadeAnew(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	target, set := NewTarget(m), small(t, "rebound")
	mustApply(t, target, set)
	next := clone(set)
	next.Digest = "sha256:2"
	role := object(t, next, "ClusterRole", "rebound-istiod").DeepCopy()
	role.SetName("rebound-other")
	next.Objects = append(next.Objects, bundle.Object{Stage: bundle.StageControlPlane, Object: role})
	binding := object(t, next, "ClusterRoleBinding", "rebound-istiod")
	if err := unstructured.SetNestedField(binding.Object, "rebound-other", "roleRef", "name"); err != nil {
		t.Fatal(err)
	}
	mustApply(t, target, next)
	live, err := get(m, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", "rebound-istiod")
	if err != nil {
		t.Fatal(err)
	}
	if name, _, _ := unstructured.NestedString(live.Object, "roleRef", "name"); name != "rebound-other" {
		t.Errorf("it binds %q, want rebound-other", name)
	}
	wire.Reset()
	mustApply(t, NewTarget(m), next)
	if writes := wire.Writes(); len(writes) > 0 {
		t.Errorf("writes after that: %v", writes)
	}
}

func TestWhatRunsIsNeverMadeAnew(t *testing.T) {
	for _, s := range []Subject{
		subject("apps/v1", "DaemonSet", "a", "istio-cni-node"), subject("apps/v1", "Deployment", "a", "istiod"),
		subject("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "x"), subject("v1", "Namespace", "", "x"),
		subject("v1", "Secret", "a", "cacerts"), subject("v1", "Service", "a", "istiod"),
		subject("gateway.networking.k8s.io/v1", "Gateway", "a", "x"),
	} {
		if s.isReplaceable() {
			t.Errorf("%s may be deleted to be made anew", s)
		}
	}
}

func TestCorrectMeanwhileDefersWhatHasNotComeYet(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target, set := NewTarget(m), small(t, "meanwhile")
	mustApply(t, target, set)
	next := clone(set)
	object(t, next, "ConfigMap", "istio").Object["data"] = map[string]any{"mesh": "next"}
	patch(t, m, "v1", "ConfigMap", "meanwhile-system", "istio", `{"data":{"mesh":"edited"}}`)
	remove(t, m, "v1", "ServiceAccount", "meanwhile-system", "istiod")
	o := quick
	o.Meanwhile = true
	subjects := []Subject{subject("v1", "ConfigMap", "meanwhile-system", "istio"), subject("v1", "ServiceAccount", "meanwhile-system", "istiod")}
	result, err := Correct(context.Background(), target, next, subjects, o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(result.Deferred, subjects[:1]) {
		t.Errorf("deferred %v, want the ConfigMap, which the new set has otherwise", result.Deferred)
	}
	if c := changeOf(result, "ServiceAccount", "istiod"); c.Action != Created {
		t.Errorf("ServiceAccount: %+v, want it put back", c)
	}
}
