package fleetgen_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/test/fleetgen"
)

// fixed are fields, and those below them, that are not varied, and why.
var fixed = map[string]string{
	"ApplicationNetwork.discovery.mode":            "Messaging is refused as yet",
	"ApplicationNetwork.discovery.credentials":     "bundles are the same",
	"ApplicationNetwork.trust.vault.azure.cloud":   "it is that of the address",
	"ApplicationNetwork.trust.root.proceedWithout": "bundles are the same",
	"ApplicationNetwork.trust.workload.rotateAt":   "there is one value",
	"ApplicationNetwork.upgrade":                   "members are varied",
	"ApplicationNetwork.gatewayAPI":                "CRDs are fetched, not built in",
	"ApplicationNetwork.releases":                  "charts are fetched, not built in",
	"ApplicationNetwork.resources":                 "manifests are the same however members are rendered",
	"Member.cluster.peerEndpoint":                  "bundles are the same",
	"ApplicationNetwork.review":                    "bundles are the same",
	"Member.trust.revokeIssuedBefore":              "bundles are the same",
	"Member.gatewayAPI":                            "CRDs are fetched, not built in",
	"Member.patches.target":                        "a network's are varied",
	"Member.controlPlane":                          "Hosted has tests of its own",
}

// A field that nobody varies is one of which nothing is proved.
func TestEveryFieldIsVaried(t *testing.T) {
	values := map[string]map[string]bool{}
	for name, file := range fleetgen.Files(fleetgen.Options{Seed: 1, Networks: 40, Members: 400}) {
		var content map[string]any
		if err := yaml.Unmarshal(file.Data, &content); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		collect(content["kind"].(string), content["spec"], values)
	}
	var fields []string
	fields = append(fields, leaves("ApplicationNetwork", reflect.TypeFor[v1alpha1.ApplicationNetworkSpec]())...)
	fields = append(fields, leaves("Member", reflect.TypeFor[v1alpha1.MemberSpec]())...)
	for _, field := range fields {
		if len(values[field]) < 2 && !isFixed(field) {
			t.Errorf("%s has %d values: vary it", field, len(values[field]))
		}
		if len(values[field]) > 1 && fixed[field] != "" {
			t.Errorf("%s is varied: it needs no reason", field)
		}
	}
	for field := range fixed {
		if !slices.ContainsFunc(fields, func(f string) bool { return f == field || strings.HasPrefix(f, field+".") }) {
			t.Errorf("there is no field %s", field)
		}
	}
}

func isFixed(field string) bool {
	for name := range maps.Keys(fixed) {
		if field == name || strings.HasPrefix(field, name+".") {
			return true
		}
	}
	return false
}

// collect adds the values of the fields at and below path.
func collect(path string, value any, values map[string]map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, element := range value {
			collect(path+"."+key, element, values)
		}
		if len(value) > 0 {
			return
		}
	case []any:
		for _, element := range value {
			collect(path, element, values)
		}
		return
	}
	if values[path] == nil {
		values[path] = map[string]bool{}
	}
	values[path][fmt.Sprint(value)] = true
}

// leaves are the fields of a type that hold no fields of ours. Those whose keys are
// not ours either are none.
func leaves(path string, of reflect.Type) []string {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice:
		return leaves(path, of.Elem())
	case reflect.Struct:
	default:
		return []string{path}
	}
	switch {
	case of == reflect.TypeFor[metav1.LabelSelector](), of == reflect.TypeFor[runtime.RawExtension]():
		return nil
	case !strings.HasSuffix(of.PkgPath(), "fleet/v1alpha1"):
		return []string{path}
	}
	var out []string
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if of.Field(i).Type.Kind() == reflect.Map {
			continue
		}
		if name != "" {
			name = "." + name
		}
		out = append(out, leaves(path+name, of.Field(i).Type)...)
	}
	return out
}
