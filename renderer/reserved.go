package renderer

import (
	"maps"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// serverFields are written by the API server or by what made an object: an
// apply that sets one is refused, or has the object collected.
var serverFields = [][]string{
	{"metadata", "creationTimestamp"}, {"metadata", "deletionTimestamp"}, {"metadata", "deletionGracePeriodSeconds"},
	{"metadata", "generateName"}, {"metadata", "generation"}, {"metadata", "managedFields"}, {"metadata", "ownerReferences"},
	{"metadata", "resourceVersion"}, {"metadata", "selfLink"}, {"metadata", "uid"}, {"status"},
}

// buildPrefixes begin annotations that tell Kustomize what to do. With one of
// them a build of the bundle's folder gives other objects than the bundle has.
var buildPrefixes = []string{"config.kubernetes.io/", "internal.config.kubernetes.io/", "kustomize.config.k8s.io/", "config.k8s.io/"}

// reserved names what the patch set although it is for others to set, and why.
func reserved(before, after *unstructured.Unstructured) (what, why string) {
	for _, field := range serverFields {
		old, _, _ := unstructured.NestedFieldNoCopy(before.Object, field...)
		now, _, _ := unstructured.NestedFieldNoCopy(after.Object, field...)
		if !reflect.DeepEqual(old, now) {
			return strings.Join(field, "."), "the API server writes it"
		}
	}
	for _, prefix := range buildPrefixes {
		if !maps.Equal(begun(before.GetAnnotations(), prefix), begun(after.GetAnnotations(), prefix)) {
			return "annotations of " + prefix, "they tell Kustomize what to do when it builds the bundle"
		}
	}
	return "", ""
}

// begun returns those of the labels or annotations that begin with the prefix.
func begun(all map[string]string, prefix string) map[string]string {
	out := map[string]string{}
	for key, value := range all {
		if strings.HasPrefix(key, prefix) {
			out[key] = value
		}
	}
	return out
}
