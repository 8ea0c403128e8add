package apply

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// syncAsOperator does what the External Secrets Operator does to its target with
// creationPolicy Orphan: it makes the Secret, or replaces all that is in it, with the
// ExternalSecret's labels and a name of its own for fields. After
// external-secrets v2.9.0, pkg/controllers/externalsecret.
func syncAsOperator(t *testing.T, m *member.Member, network string, data map[string]any) {
	t.Helper()
	ctx, namespace := context.Background(), network+"-system"
	labels := map[string]string{LabelNetwork: network, LabelComponent: "trust", "reconcile.external-secrets.io/managed": "true"}
	secrets := client(t, m, "v1", "Secret", namespace)
	const manager = "externalsecrets.external-secrets.io/cacerts"
	o, err := secrets.Get(ctx, caSecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		o = &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": data}}
		o.SetName(caSecret)
		o.SetLabels(labels)
		_, err = secrets.Create(ctx, o, metav1.CreateOptions{FieldManager: manager})
	} else if err == nil {
		now := o.GetLabels()
		maps.Copy(now, labels)
		o.SetLabels(now)
		o.Object["data"] = data
		_, err = secrets.Update(ctx, o, metav1.UpdateOptions{FieldManager: manager})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func dataOf(t *testing.T, m *member.Member, network string) map[string]string {
	t.Helper()
	o, err := get(m, "v1", "Secret", network+"-system", caSecret)
	if err != nil {
		t.Fatal(err)
	}
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	return data
}

// withCA is a set with other entries in its CA.
func withCA(s Set, digest string, data map[string]any) Set {
	out := clone(s)
	ca := s.Secrets[0].DeepCopy()
	ca.Object["data"] = data
	out.Secrets, out.Digest = []*unstructured.Unstructured{ca}, digest
	return out
}

const (
	oldKey, newKey = "b2xk", "bmV3"
	oldList        = "bGlzdA=="
)

// The way of a CA from us to an operator on the member and back: at no moment is
// there none, and what the operator left in it does not stay.
func TestCAGoesToAnOperatorAndBack(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target := NewTarget(m)
	direct := withCA(small(t, "handed"), "sha256:1", map[string]any{"ca-key.pem": oldKey, "ca-crl.pem": oldList})
	mustApply(t, target, direct)
	before, err := get(m, "v1", "Secret", "handed-system", caSecret)
	if err != nil {
		t.Fatal(err)
	}

	external := clone(direct)
	external.Secrets, external.Digest = nil, "sha256:2"
	mustApply(t, target, external)
	syncAsOperator(t, m, "handed", map[string]any{"ca-key.pem": newKey, "ca-crl.pem": oldList})
	result := mustApply(t, target, external)
	if now, err := get(m, "v1", "Secret", "handed-system", caSecret); err != nil || now.GetUID() != before.GetUID() {
		t.Fatalf("the CA is another object, or none: %v", err)
	}
	if got := dataOf(t, m, "handed"); got["ca-key.pem"] != newKey {
		t.Errorf("what the operator wrote was taken back; changes: %v", result.Changes)
	}

	back := withCA(direct, "sha256:3", map[string]any{"ca-key.pem": oldKey})
	mustApply(t, target, back)
	if got := slices.Sorted(maps.Keys(dataOf(t, m, "handed"))); !slices.Equal(got, []string{"ca-key.pem"}) {
		t.Errorf("entries of the CA: %v", got)
	}
	if got := dataOf(t, m, "handed"); got["ca-key.pem"] != oldKey {
		t.Error("it is not ours again")
	}
	for _, c := range mustApply(t, target, back).Changes {
		if c.Action != Unchanged {
			t.Errorf("then: %s %s", c.Action, c.Subject)
		}
	}
}

// A member that began with an operator goes over to us, and leaves nothing behind.
func TestCAOfAnOperatorIsOurs(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target := NewTarget(m)
	direct := small(t, "begun")
	external := clone(direct)
	external.Secrets = nil
	mustApply(t, target, external)
	syncAsOperator(t, m, "begun", map[string]any{"ca-key.pem": newKey, "ca-crl.pem": oldList})
	mustApply(t, target, external)

	direct.Digest = "sha256:2"
	mustApply(t, target, direct)
	if got := dataOf(t, m, "begun"); len(got) != 1 || got["ca-key.pem"] == newKey {
		t.Errorf("%d entries, those of the operator: %t", len(got), got["ca-key.pem"] == newKey)
	}
	mustApply(t, target, external)
	mustRemove(t, target, external)
	if _, err := get(m, "v1", "Secret", "begun-system", caSecret); !apierrors.IsNotFound(err) {
		t.Errorf("the CA stayed: %v", err)
	}
}

// An entry that somebody adds to a CA is taken out again: istiod reads it.
func TestStrayEntryOfACA(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target := NewTarget(m)
	set := small(t, "stray")
	mustApply(t, target, set)
	patch(t, m, "v1", "Secret", "stray-system", caSecret, `{"data":{"ca-crl.pem":"`+oldList+`"}}`)
	result, err := Correct(context.Background(), target, set, []Subject{subject("v1", "Secret", "stray-system", caSecret)}, quick)
	if err != nil || len(result.Changes) != 1 || result.Changes[0].Action != Configured || !result.Changes[0].Trust {
		t.Fatalf("corrected: %v %v", result.Changes, err)
	}
	if got := dataOf(t, m, "stray"); len(got) != 1 {
		t.Errorf("%d entries", len(got))
	}
	// Another process knows nothing of the one before.
	for _, c := range mustApply(t, NewTarget(m), set).Changes {
		if c.Action != Unchanged {
			t.Errorf("then: %s %s", c.Action, c.Subject)
		}
	}
}

// Once istiod mounts its CA, none is left in a Secret, whoever made it.
// TestEditedObjectComesAnew: one that is read by whoever does not take an edit that is
// put back goes in place of that, with Apply as with Correct, and beside another Apply
// it waits; labels are put back; the next set brings it.
func TestEditedObjectComesAnew(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	target, set := NewTarget(m), small(t, "anew")
	set.Anew = func(s Subject) bool { return s.Name == caSecret }
	mustApply(t, target, set)
	its := subject("v1", "Secret", "anew-system", caSecret)
	edit := func(text string) { patch(t, m, "v1", "Secret", "anew-system", caSecret, text) }
	is := func() types.UID {
		o, err := get(m, "v1", "Secret", "anew-system", caSecret)
		if err != nil {
			return ""
		}
		return o.GetUID()
	}
	change := func(result Result, err error) Change {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(result.Changes, func(c Change) bool { return c.Subject.key() == its.key() })
		if at < 0 {
			return Change{}
		}
		return result.Changes[at]
	}
	correct := func(o Options) (Result, error) {
		return Correct(context.Background(), target, set, []Subject{its}, o)
	}
	before := is()
	edit(`{"metadata":{"labels":{"isthmus.dev/component":"mine"}}}`)
	if got := change(correct(Options{})); got.Action != Configured || got.Content || is() != before {
		t.Errorf("a label: %+v", got)
	}
	for name, call := range map[string]func() (Result, error){
		"Correct": func() (Result, error) { return correct(Options{}) },
		"Apply":   func() (Result, error) { return Apply(context.Background(), target, set, quick) },
		"Apply of a new process": func() (Result, error) {
			target = NewTarget(m)
			return Apply(context.Background(), target, set, quick)
		},
	} {
		before := is()
		edit(`{"data":{"ca-key.pem":"bWluZQ=="}}`)
		result, err := correct(Options{Meanwhile: true})
		if got := change(result, err); got.Action != "" || len(result.Deferred) != 1 || is() != before {
			t.Errorf("%s: beside another one: %+v, deferred %v", name, got, result.Deferred)
		}
		if got := change(call()); got.Action != Deleted || !got.Content || got.By == "" || !got.Corrected() || is() != "" {
			t.Errorf("%s: %+v, there is still %q", name, got, is())
		}
		if got := change(Apply(context.Background(), target, set, quick)); got.Action != Created || is() == before || is() == "" {
			t.Errorf("%s: the next one: %+v", name, got)
		}
	}
}

func TestMountedCALeavesNoSecret(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	direct := small(t, "mounted")
	mounted := clone(direct)
	mounted.Secrets, mounted.MountedCA, mounted.Digest = nil, true, "sha256:2"
	impatient := Options{StageTimeout: 2 * time.Second}
	for name, before := range map[string]func(*Target){
		"ours":           func(target *Target) { mustApply(t, target, direct) },
		"the operator's": func(*Target) { syncAsOperator(t, m, "mounted", map[string]any{"ca-key.pem": newKey}) },
	} {
		target := NewTarget(m)
		before(target)
		// istiod does not become healthy: it may still read the Secret.
		stuck := clone(mounted)
		object(t, stuck, "Deployment", "istiod").Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["nodeSelector"] = map[string]any{"no": "such"}
		if _, err := Apply(context.Background(), target, stuck, impatient); err == nil {
			t.Errorf("%s: an istiod that cannot start is healthy", name)
		}
		if _, err := get(m, "v1", "Secret", "mounted-system", caSecret); err != nil {
			t.Errorf("%s: gone while istiod may read it: %v", name, err)
		}
		result := mustApply(t, target, mounted)
		if _, err := get(m, "v1", "Secret", "mounted-system", caSecret); !apierrors.IsNotFound(err) {
			t.Errorf("%s: there is still one: %v", name, err)
		}
		if result.Inventory.find(subject("v1", "Secret", "mounted-system", caSecret)) != nil {
			t.Errorf("%s: the inventory has it", name)
		}
	}
	// One of somebody else's stays.
	create(t, m, "v1", "Secret", "mounted-system", caSecret, nil)
	mustApply(t, NewTarget(m), mounted)
	if _, err := get(m, "v1", "Secret", "mounted-system", caSecret); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}
