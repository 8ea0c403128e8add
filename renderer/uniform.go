package renderer

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/renderer/ambient"
)

// ReasonMembersDiffer says that Istio needs the same on every member of a network, and
// this is for some.
const ReasonMembersDiffer = "MembersDiffer"

// uniform names what a change touches although Istio needs it to be the same on
// every member: it reads neither the scope of services nor the waypoints of its
// peers, and takes them to be as its own.
func uniform(before, after *unstructured.Unstructured) string {
	switch {
	case isWaypoint(before) && !reflect.DeepEqual(waypointOf(before), waypointOf(after)):
		return "waypoint"
	case isMeshConfig(before):
		was, is := meshOf(before), meshOf(after)
		for _, field := range []string{"trustDomain", "rootNamespace", "serviceScopeConfigs"} {
			if !reflect.DeepEqual(was[field], is[field]) {
				return field
			}
		}
	}
	return ""
}

func isWaypoint(object *unstructured.Unstructured) bool {
	class, _, _ := unstructured.NestedString(object.Object, "spec", "gatewayClassName")
	return object.GetKind() == "Gateway" && class == ambient.ClassWaypoint
}

// waypointOf is what peers take a waypoint to be.
func waypointOf(gateway *unstructured.Unstructured) []any {
	labels := map[string]string{}
	for key, value := range gateway.GetLabels() {
		if strings.HasPrefix(key, "istio.io/") && key != "istio.io/rev" {
			labels[key] = value
		}
	}
	spec, _, _ := unstructured.NestedMap(gateway.Object, "spec")
	service, _, _ := unstructured.NestedMap(spec, "infrastructure", "labels")
	return []any{labels, service, spec["gatewayClassName"], spec["listeners"]}
}

func isMeshConfig(object *unstructured.Unstructured) bool {
	return object.GetKind() == "ConfigMap" && object.GetName() == "istio"
}

// meshOf returns Istio's mesh config; text that does not parse has no fields,
// which is a difference.
func meshOf(object *unstructured.Unstructured) map[string]any {
	text, _, _ := unstructured.NestedString(object.Object, "data", "mesh")
	var mesh map[string]any
	if err := yaml.Unmarshal([]byte(text), &mesh); err != nil {
		return nil
	}
	return mesh
}
