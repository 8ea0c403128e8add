package reconciler

import (
	"context"
	"slices"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	"k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// setConditions makes the object's conditions the given ones. A condition that
// keeps its status and reason keeps its transition time: it is still so, in other words.
func setConditions(object conditions.Setter, want []metav1.Condition, generation int64) {
	for _, old := range object.GetConditions() {
		if !slices.ContainsFunc(want, func(c metav1.Condition) bool { return c.Type == old.Type }) {
			conditions.Delete(object, old.Type)
		}
	}
	for _, condition := range want {
		condition.ObservedGeneration = generation
		before := apimeta.FindStatusCondition(object.GetConditions(), condition.Type)
		since := metav1.Time{}
		if before != nil && before.Status == condition.Status && before.Reason == condition.Reason {
			since = before.LastTransitionTime
		}
		conditions.Set(object, &condition)
		if after := apimeta.FindStatusCondition(object.GetConditions(), condition.Type); !since.IsZero() {
			after.LastTransitionTime = since
		}
	}
}

// writeStatus patches the status of an object, or does nothing when it is as it
// was: an idle fleet costs no writes.
func writeStatus(ctx context.Context, hub client.Client, before, after client.Object) error {
	old, err := statusOf(before)
	if err != nil {
		return err
	}
	current, err := statusOf(after)
	if err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(old, current) {
		return nil
	}
	return hub.Status().Patch(ctx, after, client.MergeFrom(before), client.FieldOwner(fieldManager))
}

func statusOf(object client.Object) (any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	return content["status"], nil
}

func readyOf(object client.Object) *metav1.Condition {
	getter, ok := object.(interface{ GetConditions() []metav1.Condition })
	if !ok {
		return nil
	}
	return apimeta.FindStatusCondition(getter.GetConditions(), meta.ReadyCondition)
}
