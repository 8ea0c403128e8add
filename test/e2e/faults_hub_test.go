package e2e

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// unreadable stores a Member past a validation that somebody weakened. The
// others go on, also from a new start.
func (f *faults) unreadable(t *testing.T) {
	hub := f.rig.HubClient
	crd := &apiextensionsv1.CustomResourceDefinition{}
	check(t, hub.Get(t.Context(), client.ObjectKey{Name: "members.isthmus.dev"}, crd))
	strict := crd.Spec.DeepCopy()
	for i := range crd.Spec.Versions {
		crd.Spec.Versions[i].SelectableFields = nil // need a schema
		crd.Spec.Versions[i].Schema.OpenAPIV3Schema = &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: ptr.To(true)}
	}
	check(t, hub.Update(t.Context(), crd))
	bad := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Member",
		"metadata": map[string]any{"namespace": rig.Namespace, "name": "unreadable"},
		"spec":     map[string]any{"maintenanceWindows": []any{map[string]any{"duration": "one fine day"}}},
	}}
	// The API server needs a moment to forget the old schema.
	check(t, rig.Eventually(t.Context(), 20*time.Second, func() error { return hub.Create(t.Context(), bad.DeepCopy()) }))
	check(t, f.rig.WaitApplied(t.Context(), f.change(t), time.Minute))
	f.run(nil)
	check(t, f.rig.WaitApplied(t.Context(), f.change(t), time.Minute))
	check(t, hub.Delete(t.Context(), bad))
	check(t, rig.Eventually(t.Context(), 20*time.Second, func() error {
		if err := hub.Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		crd.Spec = *strict.DeepCopy()
		return hub.Update(t.Context(), crd)
	}))
}

// fullDisk lets no file of the reconciler grow any more: the last good commit
// stays in force and is held up against drift, and the next one comes when there
// is space.
func (f *faults) fullDisk(t *testing.T) {
	f.limitFiles(t, 0)
	commit := f.change(t)
	check(t, f.rig.WaitFleet(t.Context(), time.Minute, "Ready", metav1.ConditionFalse, "CacheFailed"))
	if _, err := f.disturb(t, west, f.changes-1); err != nil {
		t.Errorf("drift with a full disk: %v", err)
	}
	for _, name := range names(f.rig) {
		check(t, f.rig.WaitMember(t.Context(), name, time.Minute, "Ready", metav1.ConditionTrue, status.ReasonApplied))
	}
	f.limitFiles(t, ^uint64(0))
	check(t, f.rig.WaitApplied(t.Context(), commit, time.Minute))
}

// limitFiles sets how large files of the running reconciler may become.
func (f *faults) limitFiles(t *testing.T, most uint64) {
	t.Helper()
	pid := f.process.Process.Pid
	var limit unix.Rlimit
	check(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &limit))
	limit.Cur = min(most, limit.Max)
	check(t, unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil))
}
