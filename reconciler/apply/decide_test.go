package apply

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func TestDecide(t *testing.T) {
	o := &unstructured.Unstructured{}
	o.SetLabels(map[string]string{LabelNetwork: "n"})
	want := wanted{object: o, hash: "h1", secretHash: [16]byte{1}}
	when := time.Unix(1, 0)
	seen := &sight{network: "n", live: fingerprint{1}, applied: when, by: "x"}
	for _, tt := range []struct {
		reason    string
		situation situation
		want      step
	}{
		{"not there", situation{want: want}, stepWrite},
		{"there without our label: adopted now", situation{want: want, seen: &sight{}}, stepWrite},
		{"there with another network's label", situation{want: want, seen: &sight{network: "m"}}, stepWrite},
		{"nothing remembered and nothing recorded", situation{want: want, seen: seen}, stepCompare},
		{"recorded as applied, this process knows nothing", situation{want: want, seen: seen, entry: &Entry{Hash: "h1"}}, stepCompare},
		{"recorded with another content", situation{want: want, seen: seen, entry: &Entry{Hash: "h0"}}, stepWrite},
		{"only intended so far", situation{want: want, seen: seen, entry: &Entry{}}, stepCompare},
		{"as this process left it", situation{want: want, seen: seen, known: &known{want: [16]byte{1}, live: fingerprint{1}, applied: when}}, stepSkip},
		{"as left, but another content is wanted", situation{want: want, seen: seen, known: &known{want: [16]byte{2}, live: fingerprint{1}, applied: when}}, stepWrite},
		{"changed by somebody", situation{want: want, seen: seen, known: &known{want: [16]byte{1}, live: fingerprint{2}, applied: when}}, stepCompare},
		{"applied anew under our name", situation{want: want, seen: seen, known: &known{want: [16]byte{1}, live: fingerprint{2}, applied: when.Add(time.Second)}}, stepWrite},
	} {
		if got := decide(tt.situation); got != tt.want {
			t.Errorf("%s: step %d, want %d", tt.reason, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	ours := sight{network: "n", applied: time.Unix(1, 0)}
	with := func(change func(*sight)) *sight {
		s := ours
		change(&s)
		return &s
	}
	for _, tt := range []struct {
		reason string
		entry  Entry
		seen   *sight
		want   verdict
	}{
		{"gone already", Entry{}, nil, verdictGone},
		{"ours", Entry{}, &ours, verdictDelete},
		{"ours, its label removed", Entry{}, with(func(s *sight) { s.network = "" }), verdictDelete},
		{"restored from a backup: our label, another manager", Entry{}, with(func(s *sight) { s.applied = time.Time{} }), verdictDelete},
		{"made anew by somebody", Entry{}, &sight{}, verdictForeign},
		{"another network has it now", Entry{}, with(func(s *sight) { s.network = "m" }), verdictForeign},
		{"on its way out", Entry{}, with(func(s *sight) { s.deleting = true }), verdictPending},
		{"there before us, by the inventory", Entry{Keep: true}, &ours, verdictRelease},
		{"to be kept, by its annotation", Entry{}, with(func(s *sight) { s.keep = true }), verdictRelease},
	} {
		if got := judge(tt.entry, tt.seen, "n"); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", tt.reason, got, tt.want)
		}
	}
}

func TestRemovalOrder(t *testing.T) {
	entry := func(stage bundle.Stage, group, kind string) Entry {
		return Entry{Subject: Subject{Group: group, Version: "v1", Kind: kind, Name: "x"}, Stage: stage}
	}
	entries := []Entry{
		entry(bundle.StageFoundation, "", "Namespace"),
		entry(bundle.StageFoundation, "apiextensions.k8s.io", "CustomResourceDefinition"),
		entry(bundle.StageControlPlane, "", "Secret"),
		entry(bundle.StageControlPlane, "apps", "Deployment"),
		entry(bundle.StageControlPlane, "rbac.authorization.k8s.io", "ClusterRole"),
		entry(bundle.StageControlPlane, "rbac.authorization.k8s.io", "ClusterRoleBinding"),
		entry(bundle.StageControlPlane, "admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
		entry(bundle.StageCNI, "apps", "DaemonSet"),
		entry(bundle.StageGateways, "gateway.networking.k8s.io", "Gateway"),
	}
	var got [][]string
	for _, group := range removalOrder(entries) {
		var kinds []string
		for _, e := range group {
			kinds = append(kinds, e.Kind)
		}
		got = append(got, kinds)
	}
	want := [][]string{
		{"Gateway"}, {"DaemonSet"}, {"ValidatingWebhookConfiguration"}, {"Deployment"}, {"ClusterRoleBinding"},
		{"Secret", "ClusterRole"}, {"CustomResourceDefinition"}, {"Namespace"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestFingerprint(t *testing.T) {
	at := func(second int64) *metav1.Time { now := metav1.Unix(second, 0); return &now }
	fields := metav1.NewFieldsV1
	base := func() *metav1.ObjectMeta {
		return &metav1.ObjectMeta{
			UID: "u", ResourceVersion: "1", Labels: map[string]string{"a": "b"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "isthmus", Operation: "Apply", Time: at(1), FieldsV1: fields(`{"f:data":{}}`)}},
		}
	}
	status := metav1.ManagedFieldsEntry{Manager: "kubelet", Operation: "Update", Subresource: "status", Time: at(1), FieldsV1: fields(`{"f:status":{}}`)}
	withStatus := func() *metav1.ObjectMeta {
		o := base()
		o.ManagedFields = append(o.ManagedFields, status)
		return o
	}
	for _, tt := range []struct {
		reason string
		before *metav1.ObjectMeta
		change func(*metav1.ObjectMeta)
		same   bool
	}{
		{"nothing", base(), func(*metav1.ObjectMeta) {}, true},
		{"a new object of the name", base(), func(o *metav1.ObjectMeta) { o.UID = "v" }, false},
		{"a label", base(), func(o *metav1.ObjectMeta) { o.Labels = map[string]string{"a": "c"} }, false},
		{"deleted, with a finalizer", base(), func(o *metav1.ObjectMeta) { o.DeletionTimestamp = at(3) }, false},
		{"a field taken over", base(), func(o *metav1.ObjectMeta) { o.ManagedFields[0].FieldsV1 = fields(`{}`) }, false},
		{"a write in the same second, of a kind without generation", base(), func(o *metav1.ObjectMeta) { o.ResourceVersion = "2" }, false},
		{"a status", withStatus(), func(o *metav1.ObjectMeta) {
			o.ResourceVersion = "2"
			o.ManagedFields[1].Time = at(5)
		}, true},
		{"a status of a kind with generation", func() *metav1.ObjectMeta { o := base(); o.Generation = 1; return o }(), func(o *metav1.ObjectMeta) {
			o.ResourceVersion = "2"
		}, true},
		{"a spec", func() *metav1.ObjectMeta { o := base(); o.Generation = 1; return o }(), func(o *metav1.ObjectMeta) { o.Generation = 2 }, false},
	} {
		after := tt.before.DeepCopy()
		tt.change(after)
		if same := fingerprintOf(tt.before) == fingerprintOf(after); same != tt.same {
			t.Errorf("%s: same %v, want %v", tt.reason, same, tt.same)
		}
	}
}

func TestSightTellsContentFromLabels(t *testing.T) {
	fields := metav1.NewFieldsV1
	own := metav1.ManagedFieldsEntry{Manager: "isthmus", Operation: "Apply", FieldsV1: fields(`{"f:data":{"f:a":{}}}`)}
	for _, tt := range []struct {
		reason string
		entry  metav1.ManagedFieldsEntry
		want   bool
	}{
		{"a label", metav1.ManagedFieldsEntry{Manager: "kubectl-edit", FieldsV1: fields(`{"f:metadata":{"f:labels":{"f:a":{}}}}`)}, false},
		{"an entry of a Secret", metav1.ManagedFieldsEntry{Manager: "kubectl-edit", FieldsV1: fields(`{"f:metadata":{},"f:data":{"f:a":{}}}`)}, true},
		{"by an update in our name", metav1.ManagedFieldsEntry{Manager: "isthmus", Operation: "Update", FieldsV1: fields(`{"f:data":{"f:a":{}}}`)}, true},
		{"a status", metav1.ManagedFieldsEntry{Manager: "kubelet", Subresource: "status", FieldsV1: fields(`{"f:status":{}}`)}, false},
		{"what cannot be read", metav1.ManagedFieldsEntry{Manager: "kubectl-edit", FieldsV1: fields(`?`)}, false},
		{"nothing", metav1.ManagedFieldsEntry{Manager: "kubectl-edit"}, false},
	} {
		if got := sightOf(&metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{own, tt.entry}}).content; got != tt.want {
			t.Errorf("%s: %t", tt.reason, got)
		}
	}
}

func TestSightNamesTheLastOther(t *testing.T) {
	at := func(second int64) *metav1.Time { now := metav1.Unix(second, 0); return &now }
	for _, tt := range []struct {
		reason  string
		entries []metav1.ManagedFieldsEntry
		want    string
	}{
		{"nobody", nil, ""},
		{"only we", []metav1.ManagedFieldsEntry{{Manager: "isthmus", Operation: "Apply", Time: at(1)}}, "isthmus"},
		{"another one, later", []metav1.ManagedFieldsEntry{{Manager: "isthmus", Operation: "Apply", Time: at(1)}, {Manager: "helm", Time: at(2)}}, "helm"},
		{"another one, in the same second", []metav1.ManagedFieldsEntry{{Manager: "helm", Time: at(1)}, {Manager: "isthmus", Operation: "Apply", Time: at(1)}}, "helm"},
		{"a status does not count", []metav1.ManagedFieldsEntry{{Manager: "isthmus", Operation: "Apply", Time: at(1)}, {Manager: "kubelet", Subresource: "status", Time: at(2)}}, "isthmus"},
	} {
		if got := sightOf(&metav1.ObjectMeta{ManagedFields: tt.entries}).by; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}
