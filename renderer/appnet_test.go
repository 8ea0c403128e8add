package renderer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// appNetNetwork has, of each feature that a network can say, one.
const appNetNetwork = `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  namespaces:
  - {name: shop, ambient: true, waypoint: {global: true}}
  - {name: back, ambient: true, waypoint: {name: back-door}}
  - {name: plain, ambient: true}
  - {name: outside}
`

// appNet are features of Azure Kubernetes Application Network that show in what
// a member is given; docs/appnet.md names them as they are here. Features that
// tests of their own prove are not repeated.
var appNet = []struct {
	feature string
	check   func(t *testing.T, b bundle.Bundle)
}{
	{"every member has its own control plane and data plane", func(t *testing.T, b bundle.Bundle) {
		for _, w := range append(workloads, [2]string{"Gateway", "istio-eastwestgateway"}) {
			if object := find(b, w[0], w[1]); object == nil || object.GetNamespace() != "applink-system" {
				t.Errorf("no %s %s in the system namespace", w[0], w[1])
			}
		}
	}},
	{"the data plane is two DaemonSets on Linux nodes", func(t *testing.T, b bundle.Bundle) {
		var names []string
		for _, object := range b.Objects {
			if object.Object.GetKind() != "DaemonSet" {
				continue
			}
			names = append(names, object.Object.GetName())
			selector := at(t, b, "DaemonSet", object.Object.GetName(), "spec", "template", "spec", "nodeSelector")
			if diff := cmp.Diff(map[string]any{"kubernetes.io/os": "linux"}, selector); diff != "" {
				t.Errorf("%s (-want +got):\n%s", object.Object.GetName(), diff)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff([]string{"istio-cni-node", "ztunnel"}, names); diff != "" {
			t.Errorf("DaemonSets (-want +got):\n%s", diff)
		}
	}},
	{"the CRDs of Istio come before all else", func(t *testing.T, b bundle.Bundle) {
		groups := map[string]int{}
		for _, object := range b.Objects {
			if object.Object.GetKind() != "CustomResourceDefinition" {
				continue
			}
			_, group, _ := strings.Cut(object.Object.GetName(), ".")
			groups[group]++
			if object.Stage != bundle.StageFoundation {
				t.Errorf("%s comes in stage %s", object.Object.GetName(), object.Stage)
			}
		}
		want := map[string]int{"security.istio.io": 3, "networking.istio.io": 9, "telemetry.istio.io": 1, "extensions.istio.io": 1}
		if catalog.Compare(b.Release, "1.30") >= 0 {
			want["extensions.istio.io"]++ // TrafficExtension
		}
		if diff := cmp.Diff(want, groups); diff != "" {
			t.Errorf("CRDs by group (-want +got):\n%s", diff)
		}
	}},
	{"the CRDs of the Gateway API and its classes are not delivered", func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			o := object.Object
			if o.GetKind() == "GatewayClass" || strings.HasSuffix(o.GetName(), ".gateway.networking.k8s.io") {
				t.Errorf("%s is rendered", id(o))
			}
		}
	}},
	{"namespaces are enrolled by label, others are left alone", func(t *testing.T, b bundle.Bundle) {
		got := map[string]map[string]string{}
		for _, name := range []string{"shop", "back", "plain", "outside"} {
			got[name] = map[string]string{}
			for key, value := range find(b, "Namespace", name).GetLabels() {
				if strings.HasPrefix(key, "istio.io/") {
					got[name][key] = value
				}
			}
		}
		want := map[string]map[string]string{
			"shop":    {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"},
			"back":    {"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "back-door"},
			"plain":   {"istio.io/dataplane-mode": "ambient"},
			"outside": {},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
	}},
	{"a waypoint is a Gateway in its namespace, global if asked for", func(t *testing.T, b bundle.Bundle) {
		for name, want := range map[string]struct{ namespace, global string }{"waypoint": {"shop", "true"}, "back-door": {"back", ""}} {
			gateway := find(b, "Gateway", name)
			if class := at(t, b, "Gateway", name, "spec", "gatewayClassName"); class != "istio-waypoint" || gateway.GetNamespace() != want.namespace {
				t.Errorf("%s is of class %v in %s", name, class, gateway.GetNamespace())
			}
			service, _, _ := unstructured.NestedStringMap(gateway.Object, "spec", "infrastructure", "labels")
			if gateway.GetLabels()["istio.io/global"] != want.global || service["istio.io/global"] != want.global {
				t.Errorf("%s: global on the Gateway %q, on its Service %q", name, gateway.GetLabels()["istio.io/global"], service["istio.io/global"])
			}
		}
		plain := find(b, "Namespace", "plain").GetLabels()
		if waypoint, ok := plain["istio.io/use-waypoint"]; ok {
			t.Errorf("a namespace without a waypoint uses %q", waypoint)
		}
	}},
	{"services are global by their label, and only by it", func(t *testing.T, b bundle.Bundle) {
		var mesh struct {
			ServiceScopeConfigs []struct {
				Scope            string
				ServicesSelector any
			}
		}
		if err := yaml.Unmarshal([]byte(at(t, b, "ConfigMap", "istio", "data", "mesh").(string)), &mesh); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"matchExpressions": []any{
			map[string]any{"key": "istio.io/global", "operator": "In", "values": []any{"true"}},
		}}
		if len(mesh.ServiceScopeConfigs) != 1 || mesh.ServiceScopeConfigs[0].Scope != "GLOBAL" {
			t.Fatalf("scopes: %+v", mesh.ServiceScopeConfigs)
		}
		if diff := cmp.Diff(want, mesh.ServiceScopeConfigs[0].ServicesSelector); diff != "" {
			t.Errorf("services (-want +got):\n%s", diff)
		}
	}},
	{"mTLS is on, and plain text is taken beside it", func(t *testing.T, b bundle.Bundle) {
		if mode := at(t, b, "PeerAuthentication", "default", "spec", "mtls", "mode"); mode != "PERMISSIVE" {
			t.Errorf("mode %v", mode)
		}
	}},
	{"peers read a member through one account", func(t *testing.T, b bundle.Bundle) {
		if find(b, "ServiceAccount", "istio-reader-service-account") == nil {
			t.Error("no account for peers")
		}
	}},
	{"the gateway takes HBONE on 15008 and says its network", func(t *testing.T, b bundle.Bundle) {
		gateway := find(b, "Gateway", "istio-eastwestgateway")
		listener := at(t, b, "Gateway", "istio-eastwestgateway", "spec", "listeners").([]any)[0].(map[string]any)
		if listener["protocol"] != "HBONE" || listener["port"] != int64(15008) {
			t.Errorf("listener %v", listener)
		}
		if network := gateway.GetLabels()["topology.istio.io/network"]; network != "net-"+b.Member {
			t.Errorf("network %q", network)
		}
	}},
	{"the pods of the mesh say where their metrics are", func(t *testing.T, b bundle.Bundle) {
		for name, port := range map[string]string{"istiod": "15014", "ztunnel": "15020", "istio-cni-node": "15014"} {
			kind := map[bool]string{true: "Deployment", false: "DaemonSet"}[name == "istiod"]
			annotations := at(t, b, kind, name, "spec", "template", "metadata", "annotations").(map[string]any)
			if annotations["prometheus.io/scrape"] != "true" || annotations["prometheus.io/port"] != port {
				t.Errorf("%s: %v", name, annotations)
			}
		}
		// istiod makes waypoints from this.
		config := at(t, b, "ConfigMap", "istio-sidecar-injector", "data", "config").(string)
		if !strings.Contains(config, `"prometheus.io/port" "15020"`) {
			t.Error("waypoints do not say where their metrics are")
		}
	}},
	{"nobody's labels for other gateways are touched", func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			for _, key := range []string{"networking.istio.io/tunnel", "istio.io/ingress-use-waypoint"} {
				if _, ok := object.Object.GetLabels()[key]; ok {
					t.Errorf("%s has %s", id(object.Object), key)
				}
			}
			if mode := object.Object.GetLabels()["istio.io/dataplane-mode"]; mode != "" && mode != "ambient" {
				t.Errorf("%s is set to %q", id(object.Object), mode)
			}
		}
	}},
}

// TestAppNet checks each feature on every release of the catalog.
func TestAppNet(t *testing.T) {
	files := fstest.MapFS{"network.yaml": {Data: []byte(appNetNetwork)}}
	for _, release := range catalog.Builtin().Releases() {
		name := "m" + strings.ReplaceAll(release.Version, ".", "-")
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, release.Version))}
	}
	bundles := render(t, load(t, files))
	for _, tt := range appNet {
		t.Run(tt.feature, func(t *testing.T) {
			for _, b := range bundles {
				t.Run(b.Release, func(t *testing.T) { tt.check(t, b) })
			}
		})
	}
}

// TestTrustDomain: the domain is in every identity, so all that take part in
// one have to be told the same.
func TestTrustDomain(t *testing.T) {
	for trust, want := range map[string]string{"": "cluster.local", "  trust: {domain: mesh.example.com}\n": "mesh.example.com"} {
		withComponents(t, trust, "", func(t *testing.T, b bundle.Bundle) {
			var mesh struct{ TrustDomain string }
			if err := yaml.Unmarshal([]byte(at(t, b, "ConfigMap", "istio", "data", "mesh").(string)), &mesh); err != nil {
				t.Fatal(err)
			}
			if mesh.TrustDomain != want {
				t.Errorf("the mesh's trust domain is %q, want %q", mesh.TrustDomain, want)
			}
		})
	}
}
