package validation_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/validation"
)

// definitions are the kinds of each release, compiled once for all tests.
var definitions = sync.OnceValue(func() map[string]*validation.Definitions {
	out := map[string]*validation.Definitions{}
	engine := ambient.New()
	for _, release := range catalog.Builtin().Releases() {
		crds, err := engine.Definitions(release)
		if err != nil {
			panic(err)
		}
		out[release.Version] = validation.NewDefinitions(crds)
	}
	return out
})

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	json, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(json); err != nil {
		t.Fatal(err)
	}
	return object
}

func lines(findings []validation.Finding) []string {
	var out []string
	for _, f := range findings {
		line := f.Path + ": " + f.Message
		if f.Warning {
			line = "warning: " + line
		}
		if f.Hint != "" {
			line += " (" + f.Hint + ")"
		}
		out = append(out, line)
	}
	return out
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		reason, release, text string
		want                  []string
	}{
		{"a policy as it should be", "1.31.0", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {ports: ["80"]}}]}]}`, nil},
		{"a misspelt field, deep down", "1.31.0", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec: {rules: [{to: [{operation: {methds: [GET]}}]}]}`,
			[]string{`spec.rules[0].to[0].operation.methds: unknown field (did you mean "methods"?)`}},
		{"a value that is none", "1.31.0", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec: {action: ALOW, rules: {}}`,
			[]string{
				`spec.action: unsupported value: "ALOW": supported values: "ALLOW", "DENY", "AUDIT", "CUSTOM"`,
				`spec.rules: must be of type array: "object"`,
			}},
		{"a rule of the CRD", "1.31.0", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec: {selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: a, group: ""}]}`,
			[]string{`spec: only one of targetRefs or selector can be set`}},
		{"what only istiod knows", "1.31.0", `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: shop}
spec: {hosts: [a], http: [{fault: {abort: {percentage: {value: 150}, httpStatus: 500}}, route: [{destination: {host: a}}]}]}`,
			[]string{`spec: percentage 150 is neither 0.0, nor in range [0.0001, 100.0]`}},
		{"a field of a later release", "1.27.9", `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}
spec: {rules: [{from: [{source: {serviceAccounts: [web]}}]}]}`, nil},
		{"a kind of a later release", "1.27.9", `
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: a, namespace: shop}
spec: {}`, []string{`kind: extensions.istio.io has no kind "TrafficExtension"`}},
		{"a misspelt kind", "1.31.0", `
apiVersion: security.istio.io/v1
kind: AuthorisationPolicy
metadata: {name: a, namespace: shop}`, []string{`kind: security.istio.io has no kind "AuthorisationPolicy" (did you mean "AuthorizationPolicy"?)`}},
		{"a version that there is not", "1.31.0", `
apiVersion: security.istio.io/v2
kind: AuthorizationPolicy
metadata: {name: a, namespace: shop}`, []string{`apiVersion: AuthorizationPolicy has no version "v2" (one of v1, v1beta1)`}},
		{"no validator: the schema still", "1.31.0", `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: a, namespace: shop}
spec: {configPatch: []}`, []string{`spec.configPatch: unknown field (did you mean "configPatches"?)`}},

		{"a route as it should be", "1.31.0", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec: {parentRefs: [{name: a, kind: Service, group: ""}], rules: [{backendRefs: [{name: a, port: 80, weight: 1}]}]}`, nil},
		{"a misspelt field, by the Go type", "1.31.0", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec: {parentRefs: [], rules: [{backendRef: [{name: a, port: 80}]}, {matches: [{path: {typ: Exact}}]}]}`,
			[]string{
				`spec.rules[0].backendRef: unknown field (did you mean "backendRefs"?)`,
				`spec.rules[1].matches[0].path.typ: unknown field (did you mean "type"?)`,
			}},
		{"a wrong type, by the Go type", "1.31.0", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec: {rules: [{backendRefs: [{name: a, port: http}]}]}`, []string{`spec.rules.backendRefs.port: want a number, found a string`}},
		{"an old version", "1.31.0", `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: HTTPRoute
metadata: {name: a, namespace: shop}`, []string{`apiVersion: HTTPRoute has no version "v1alpha2" (one of v1, v1beta1)`}},
		{"a kind of Kubernetes", "1.31.0", `
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {ports: [{port: 80, targetport: 8080}]}`, []string{`spec.ports[0].targetport: unknown field (did you mean "targetPort"?)`}},
	} {
		findings, err := definitions()[tt.release].Check(parse(t, tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.reason, err)
		}
		if diff := cmp.Diff(tt.want, lines(findings)); diff != "" {
			t.Errorf("%s: findings (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestCheckMeshConfig(t *testing.T) {
	for _, tt := range []struct {
		reason, text string
		want         []string
	}{
		{"as it should be", "accessLogFile: /dev/stdout\ndefaultConfig: {holdApplicationUntilProxyStarts: true, drainDuration: 45s}\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}", nil},
		{"unknown, at the top and below", "acessLogFile: /dev/stdout\ndefaultConfig: {drainDuratio: 45s}\nextensionProviders: [{name: a, opentelemetry: {service: a, prot: 4317}}]",
			[]string{
				`acessLogFile: unknown field (did you mean "accessLogFile"?)`,
				`defaultConfig.drainDuratio: unknown field (did you mean "drainDuration"?)`,
				`extensionProviders[0].opentelemetry.prot: unknown field (did you mean "port"?)`,
			}},
		{"protobuf's other names", "trust_domain: a", []string{`trust_domain: unknown field (did you mean "trustDomain"?)`}},
		{"wrong types", "accessLogFile: 5\nconnectTimeout: soon\noutboundTrafficPolicy: {mode: SOME}",
			[]string{
				`accessLogFile: want a string, found a number`,
				`connectTimeout: bad Duration: time: invalid duration "soon"`,
				`outboundTrafficPolicy.mode: "SOME" is not one of REGISTRY_ONLY, ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS`,
			}},
		{"what Istio's validator finds", "connectTimeout: 50h\nextensionProviders: [{name: ok, zipkin: {service: zipkin.a.svc, port: 9411}}, {name: bad, opentelemetry: {port: 9411}}, {name: empty}]",
			[]string{
				"connectTimeout: invalid connect timeout: time 50h0m0s must be >1ms and <1h0m0s",
				`extensionProviders[1]: extension provider "bad": service must not be empty`,
				`extensionProviders[2]: extension provider "empty": says what it is called and not what it is`,
			}},
	} {
		var fields map[string]any
		if err := yaml.Unmarshal([]byte(tt.text), &fields); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, lines(validation.CheckMeshConfig(fields))); diff != "" {
			t.Errorf("%s: findings (-want +got):\n%s", tt.reason, diff)
		}
	}
}
