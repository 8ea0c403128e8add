package validation

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1alpha2 "sigs.k8s.io/gateway-api/apis/v1alpha2"
	gatewayv1alpha3 "sigs.k8s.io/gateway-api/apis/v1alpha3"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	sigsjson "sigs.k8s.io/json"

	"github.com/isthmus-mesh/isthmus/fleet"
)

// builtins are the kinds that are no CRDs, or whose CRDs are the member's, by
// version.
var builtins = map[schema.GroupVersion]map[string]any{
	corev1.SchemeGroupVersion:        {"ConfigMap": corev1.ConfigMap{}, "Service": corev1.Service{}},
	policyv1.SchemeGroupVersion:      {"PodDisruptionBudget": policyv1.PodDisruptionBudget{}},
	autoscalingv1.SchemeGroupVersion: {"HorizontalPodAutoscaler": autoscalingv1.HorizontalPodAutoscaler{}},
	autoscalingv2.SchemeGroupVersion: {"HorizontalPodAutoscaler": autoscalingv2.HorizontalPodAutoscaler{}},
	gatewayVersion("v1"): {
		"BackendTLSPolicy": gatewayv1.BackendTLSPolicy{}, "Gateway": gatewayv1.Gateway{}, "GRPCRoute": gatewayv1.GRPCRoute{},
		"HTTPRoute": gatewayv1.HTTPRoute{}, "ListenerSet": gatewayv1.ListenerSet{}, "ReferenceGrant": gatewayv1.ReferenceGrant{},
		"TCPRoute": gatewayv1.TCPRoute{}, "TLSRoute": gatewayv1.TLSRoute{}, "UDPRoute": gatewayv1.UDPRoute{},
	},
	gatewayVersion("v1beta1"): {
		"Gateway": gatewayv1beta1.Gateway{}, "HTTPRoute": gatewayv1beta1.HTTPRoute{}, "ReferenceGrant": gatewayv1beta1.ReferenceGrant{},
	},
	gatewayVersion("v1alpha3"): {
		"BackendTLSPolicy": gatewayv1alpha3.BackendTLSPolicy{}, "TLSRoute": gatewayv1alpha3.TLSRoute{},
	},
	gatewayVersion("v1alpha2"): {
		"GRPCRoute": gatewayv1alpha2.GRPCRoute{}, "ReferenceGrant": gatewayv1alpha2.ReferenceGrant{}, "TCPRoute": gatewayv1alpha2.TCPRoute{},
		"TLSRoute": gatewayv1alpha2.TLSRoute{}, "UDPRoute": gatewayv1alpha2.UDPRoute{},
	},
}

func gatewayVersion(version string) schema.GroupVersion {
	return schema.GroupVersion{Group: gatewayv1.GroupName, Version: version}
}

// builtin returns a new value of the Go type of a kind, or nil.
func builtin(gvk schema.GroupVersionKind) any {
	sample := builtins[gvk.GroupVersion()][gvk.Kind]
	if sample == nil {
		return nil
	}
	return reflect.New(reflect.TypeOf(sample)).Interface()
}

// builtinVersions returns the versions that a kind has as Go types, sorted.
func builtinVersions(kind schema.GroupKind) []string {
	var out []string
	for gv, kinds := range builtins {
		if gv.Group == kind.Group && kinds[kind.Kind] != nil {
			out = append(out, gv.Version)
		}
	}
	slices.Sort(out)
	return out
}

func builtinKinds(group string) []string {
	var out []string
	for gv, kinds := range builtins {
		for kind := range kinds {
			if gv.Group == group {
				out = append(out, kind)
			}
		}
	}
	return out
}

// decode finds the fields that a Go type does not have, and a value of another
// type than it has.
func decode(object *unstructured.Unstructured, into any) []Finding {
	content, err := object.MarshalJSON()
	if err != nil {
		return []Finding{{Message: err.Error()}}
	}
	unknown, err := sigsjson.UnmarshalStrict(content, into, sigsjson.DisallowUnknownFields)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return []Finding{{Path: jsonPath(wrong.Field), Message: fmt.Sprintf("want %s, found a %s", kindWord(wrong.Type), wrong.Value)}}
	case err != nil:
		return []Finding{{Message: err.Error()}} // such as a quantity that is none
	}
	var findings []Finding
	for _, err := range unknown {
		findings = append(findings, unknownField(err, reflect.TypeOf(into)))
	}
	return findings
}

// jsonPath returns a decoder's path without the names of embedded structs.
func jsonPath(path string) string {
	names := strings.Split(path, ".")
	return strings.Join(slices.DeleteFunc(names, func(name string) bool { return name != "" && unicode.IsUpper(rune(name[0])) }), ".")
}

func unknownField(err error, in reflect.Type) Finding {
	var at sigsjson.FieldError
	if !errors.As(err, &at) {
		return Finding{Message: err.Error()}
	}
	path := at.FieldPath()
	names := strings.Split(index.ReplaceAllString(path, ""), ".")
	for _, name := range names[:len(names)-1] {
		if in = fieldType(in, name); in == nil {
			return Finding{Path: path, Message: "unknown field"}
		}
	}
	return Finding{Path: path, Message: "unknown field", Hint: fleet.DidYouMean(names[len(names)-1], fieldNames(in))}
}

// kindWord says in words what a field of a Go type takes.
func kindWord(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "fields"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Float64:
		return "a number"
	case reflect.Pointer:
		return kindWord(t.Elem())
	}
	return "a string"
}

// element returns the struct behind pointers and lists.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// fieldNames returns the names of the fields of a struct, as in JSON.
func fieldNames(t reflect.Type) []string {
	var out []string
	visitFields(t, func(name string, _ reflect.Type) { out = append(out, name) })
	return out
}

// fieldType returns the type of a field of a struct, nil without such a field.
func fieldType(t reflect.Type, wanted string) reflect.Type {
	var found reflect.Type
	visitFields(t, func(name string, field reflect.Type) {
		if name == wanted {
			found = field
		}
	})
	return found
}

func visitFields(t reflect.Type, visit func(name string, field reflect.Type)) {
	t = element(t)
	if t.Kind() != reflect.Struct {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name != "" && name != "-":
			visit(name, f.Type)
		case f.Anonymous:
			visitFields(f.Type, visit)
		}
	}
}
