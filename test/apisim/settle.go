package apisim

import (
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// settle does to an object that was written what API server and controllers do:
// it counts its generation and says that all is well. Before is empty for a new one.
func settle(k kind, before, after *unstructured.Unstructured) {
	created := before.GetUID() == ""
	if k.generation {
		switch {
		case created:
			after.SetGeneration(1)
		case !reflect.DeepEqual(desired(before), desired(after)):
			after.SetGeneration(before.GetGeneration() + 1)
		default:
			after.SetGeneration(before.GetGeneration())
		}
	}
	if status := statusOf(k, after); status != nil {
		after.Object["status"] = status
	}
	if k.Group == "" && k.Kind == "Namespace" {
		labels := after.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["kubernetes.io/metadata.name"] = after.GetName()
		after.SetLabels(labels)
	}
}

// desired is what of an object somebody wants, metadata aside.
func desired(o *unstructured.Unstructured) map[string]any {
	out := maps.Clone(o.Object)
	delete(out, "metadata")
	delete(out, "status")
	return out
}

// statusOf an object with which all is well; nil if it has none to be played.
func statusOf(k kind, o *unstructured.Unstructured) map[string]any {
	generation := o.GetGeneration()
	replicas, found, _ := unstructured.NestedInt64(o.Object, "spec", "replicas")
	if !found {
		replicas = 1
	}
	fine := func(name string) map[string]any {
		c := map[string]any{"type": name, "status": "True", "reason": "Played", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}
		if k.Kind == "Gateway" {
			c["observedGeneration"] = generation
		}
		return c
	}
	switch k.Kind {
	case "Namespace":
		return map[string]any{"phase": "Active"}
	case "Deployment":
		return map[string]any{
			"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
			"readyReplicas": replicas, "availableReplicas": replicas,
			"conditions": []any{fine("Available"), fine("Progressing")},
		}
	case "StatefulSet":
		return map[string]any{
			"observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
			"readyReplicas": replicas, "currentReplicas": replicas, "availableReplicas": replicas,
		}
	case "DaemonSet":
		const nodes = int64(2)
		return map[string]any{
			"observedGeneration": generation, "desiredNumberScheduled": nodes, "currentNumberScheduled": nodes,
			"updatedNumberScheduled": nodes, "numberReady": nodes, "numberAvailable": nodes, "numberMisscheduled": int64(0),
		}
	case "Gateway":
		return map[string]any{
			"conditions": []any{fine("Accepted"), fine("Programmed")},
			"addresses":  []any{map[string]any{"type": "IPAddress", "value": "192.0.2.1"}},
		}
	case "CustomResourceDefinition":
		names, _, _ := unstructured.NestedMap(o.Object, "spec", "names")
		return map[string]any{
			"conditions": []any{fine("NamesAccepted"), fine("Established")}, "acceptedNames": names,
		}
	}
	return nil
}
