package renderer

import (
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// keptVariables are variables of istiod that no patch may change, and why.
var keptVariables = map[string]string{
	"ISTIO_MULTIROOT_MESH": "without it istiod refuses a new root, and members end up trusting different ones",
	"PILOT_ENABLE_CA_CRL":  "without it nothing is revoked",
	"ROOT_CA_DIR":          "istiod's CA is there; elsewhere it would make one of its own",
}

// keptVariable returns the first such variable of a container that is another one
// after the patch, or that the patch adds; empty for none.
func keptVariable(before, after *unstructured.Unstructured) string {
	if before.GetKind() != "Deployment" {
		return ""
	}
	was, is := variables(before), variables(after)
	for _, name := range slices.Sorted(maps.Keys(keptVariables)) {
		if !reflect.DeepEqual(was[name], is[name]) {
			return name
		}
	}
	return ""
}

// variables returns the kept variables of an object's containers: by name, each as
// it is written, in the order of the containers.
func variables(object *unstructured.Unstructured) map[string][]any {
	out := map[string][]any{}
	field, _, _ := unstructured.NestedFieldNoCopy(object.Object, "spec", "template", "spec", "containers")
	containers, _ := field.([]any)
	for _, container := range containers {
		container, _ := container.(map[string]any)
		env, _ := container["env"].([]any)
		for _, variable := range env {
			variable, _ := variable.(map[string]any)
			if name, _ := variable["name"].(string); keptVariables[name] != "" {
				out[name] = append(out[name], container["name"], variable)
			}
		}
	}
	return out
}
