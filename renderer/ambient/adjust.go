package ambient

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// place says which component an object of a chart belongs to and when it is
// delivered.
func place(chart string, object *unstructured.Unstructured) (bundle.Component, bundle.Stage) {
	switch {
	case object.GetKind() == "CustomResourceDefinition":
		return bundle.ComponentCRDs, bundle.StageFoundation
	case object.GetLabels()["app"] == "istio-reader":
		return bundle.ComponentPeers, bundle.StageFoundation
	case chart == chartCNI:
		return bundle.ComponentCNI, bundle.StageCNI
	case chart == chartZtunnel:
		return bundle.ComponentZtunnel, bundle.StageZtunnel
	default:
		return bundle.ComponentIstiod, bundle.StageControlPlane
	}
}

// adjust makes an object of a chart one of ours: it gets our labels and loses
// what others write or what means nothing.
func adjust(object *unstructured.Unstructured, network string, component bundle.Component) error {
	prune(object.Object)
	label(object, network, component)
	switch object.GetKind() {
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
		return adjustWebhooks(object)
	}
	return nil
}

// label puts the ownership labels on an object.
func label(object *unstructured.Unstructured, network string, component bundle.Component) {
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[bundle.ComponentLabel] = string(component)
	labels[bundle.NetworkLabel] = network
	object.SetLabels(labels)
}

// adjustWebhooks leaves a webhook's certificate to istiod, which patches it, and
// settles what istiod would otherwise change behind our back: it flips Ignore to
// Fail once it is ready. The annotation keeps AKS's admissions enforcer from
// owning the namespace selectors.
func adjustWebhooks(object *unstructured.Unstructured) error {
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["admissions.enforcer/disabled"] = "true"
	object.SetAnnotations(annotations)

	webhooks, ok := object.Object["webhooks"].([]any)
	if !ok {
		return fmt.Errorf("%s %q has no webhooks", object.GetKind(), object.GetName())
	}
	for _, entry := range webhooks {
		webhook, ok := entry.(map[string]any)
		if !ok {
			return fmt.Errorf("%s %q: webhook of type %T", object.GetKind(), object.GetName(), entry)
		}
		webhook["failurePolicy"] = "Fail"
		if client, ok := webhook["clientConfig"].(map[string]any); ok {
			delete(client, "caBundle")
		}
	}
	return nil
}

// prune removes what templates leave behind and an API server would drop or
// refuse: nulls anywhere, an empty status, and empty metadata maps.
func prune(object map[string]any) {
	dropNulls(object)
	delete(object, "status")
	for _, path := range [][]string{
		{"metadata"}, {"spec", "template", "metadata"},
	} {
		metadata, ok, err := unstructured.NestedFieldNoCopy(object, path...)
		if fields, isMap := metadata.(map[string]any); ok && err == nil && isMap {
			dropEmpty(fields, "labels", "annotations")
			delete(fields, "creationTimestamp")
		}
	}
}

func dropEmpty(fields map[string]any, names ...string) {
	for _, name := range names {
		if value, ok := fields[name].(map[string]any); ok && len(value) == 0 {
			delete(fields, name)
		}
	}
}

func dropNulls(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, element := range value {
			if element == nil {
				delete(value, key)
				continue
			}
			dropNulls(element)
		}
	case []any:
		for _, element := range value {
			dropNulls(element)
		}
	}
}
