package renderer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

const networkFile = `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  namespaces:
  - {name: shop, ambient: true, waypoint: {name: waypoint, global: true}}
  - {name: quiet}
`

func memberFile(name, version string) string {
	return fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: %q}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: %q}}
  connectivity: {network: "net-%s"}
  upgrade: {mode: SelfManaged, version: %q}
`, name, name, name, version)
}

// files of a fleet with a member on every release of the catalog.
func everyRelease() fstest.MapFS {
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile)}}
	for _, release := range catalog.Builtin().Releases() {
		name := "m" + strings.ReplaceAll(release.Version, ".", "-")
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, release.Version))}
	}
	return files
}

func load(t testing.TB, files fstest.MapFS) *fleet.Fleet {
	t.Helper()
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	return f
}

// shared keeps charts between tests: running them anew in each takes minutes.
var shared = renderer.New(catalog.Builtin())

func render(t testing.TB, f *fleet.Fleet) []bundle.Bundle {
	t.Helper()
	return renderBy(t, shared, f)
}

func renderBy(t testing.TB, r *renderer.Renderer, f *fleet.Fleet) []bundle.Bundle {
	t.Helper()
	result, err := r.Render(f, plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	if errs := result.Problems.Errors(); len(errs) > 0 {
		t.Fatalf("render: %v", errs)
	}
	return result.Bundles
}

// eachRelease runs a test on the bundle of every release.
func eachRelease(t *testing.T, test func(t *testing.T, b bundle.Bundle)) {
	t.Helper()
	bundles := render(t, load(t, everyRelease()))
	if len(bundles) != len(catalog.Builtin().Releases()) {
		t.Fatalf("%d bundles", len(bundles))
	}
	for _, b := range bundles {
		t.Run(b.Release, func(t *testing.T) { test(t, b) })
	}
}

// find returns the object, or nil.
func find(b bundle.Bundle, kind, name string) *unstructured.Unstructured {
	for _, object := range b.Objects {
		if object.Object.GetKind() == kind && object.Object.GetName() == name {
			return object.Object
		}
	}
	return nil
}

func id(object *unstructured.Unstructured) string {
	return strings.Join([]string{object.GetAPIVersion(), object.GetKind(), object.GetNamespace(), object.GetName()}, "/")
}

func TestEveryObjectIsFoundAgain(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			labels := object.Object.GetLabels()
			component := bundle.Component(labels[bundle.ComponentLabel])
			if component == "" {
				t.Errorf("%s: no component", id(object.Object))
			}
			if labels[bundle.NetworkLabel] != "prod" {
				t.Errorf("%s: network label %q, want %q", id(object.Object), labels[bundle.NetworkLabel], "prod")
			}
		}
	})
}

func TestObjectsStayInTheirNamespaces(t *testing.T) {
	allowed := []string{"", "applink-system", "shop"}
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			if !slices.Contains(allowed, object.Object.GetNamespace()) {
				t.Errorf("%s is outside of the mesh's namespaces", id(object.Object))
			}
			text, _ := json.Marshal(object.Object.Object)
			if component := object.Object.GetLabels()[bundle.ComponentLabel]; component == string(bundle.ComponentCRDs) {
				continue // descriptions name Istio's own default
			}
			if strings.Contains(string(text), "istio-system") {
				t.Errorf("%s mentions istio-system", id(object.Object))
			}
		}
	})
}

// What others write must not be in what we apply: we would fight over it.
func TestNothingThatOthersWrite(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			o := object.Object
			switch o.GetKind() {
			case "Secret", "GatewayClass":
				t.Errorf("%s is rendered", id(o))
			case "ConfigMap":
				if o.GetName() == "values" {
					t.Error("the chart's ConfigMap of values is rendered")
				}
			}
			if _, ok := o.Object["status"]; ok {
				t.Errorf("%s has a status", id(o))
			}
			walk(o.Object, func(key string, value any) {
				if key == "caBundle" {
					t.Errorf("%s has a caBundle, which istiod patches", id(o))
				}
				if value == nil {
					t.Errorf("%s: %s is null", id(o), key)
				}
			})
		}
		if find(b, "HorizontalPodAutoscaler", "istiod") == nil {
			t.Error("no autoscaler for istiod")
		}
		if _, ok, _ := unstructured.NestedFieldNoCopy(find(b, "Deployment", "istiod").Object, "spec", "replicas"); ok {
			t.Error("istiod has replicas beside an autoscaler")
		}
	})
}

func walk(value any, visit func(key string, value any)) {
	switch value := value.(type) {
	case map[string]any:
		for key, element := range value {
			visit(key, element)
			walk(element, visit)
		}
	case []any:
		for _, element := range value {
			walk(element, visit)
		}
	}
}

// env returns the plain variables of the first container.
func env(t *testing.T, object *unstructured.Unstructured) map[string]string {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) == 0 {
		t.Fatalf("%s has no containers: %v", id(object), err)
	}
	variables, _, err := unstructured.NestedSlice(containers[0].(map[string]any), "env")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, variable := range variables {
		entry := variable.(map[string]any)
		if value, ok := entry["value"]; ok {
			text, isText := value.(string)
			if !isText {
				t.Errorf("%s: variable %v is a %T", id(object), entry["name"], value)
			}
			if _, twice := out[entry["name"].(string)]; twice {
				t.Errorf("%s: variable %v is set twice", id(object), entry["name"])
			}
			out[entry["name"].(string)] = text
		}
	}
	return out
}

func TestIstiodFlagsAreExplicit(t *testing.T) {
	since := map[string]string{
		"PILOT_ENABLE_AMBIENT":                  "1.27",
		"AMBIENT_ENABLE_MULTI_NETWORK":          "1.27",
		"ISTIO_MULTIROOT_MESH":                  "1.27",
		"AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT": "1.28",
		"AMBIENT_ENABLE_BAGGAGE":                "1.29",
		"AMBIENT_ENABLE_MULTI_NETWORK_INGRESS":  "1.29",
	}
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		variables := env(t, find(b, "Deployment", "istiod"))
		for flag, first := range since {
			want := ""
			if catalog.Compare(b.Release, first) >= 0 {
				want = "true"
			}
			if variables[flag] != want {
				t.Errorf("%s = %q, want %q", flag, variables[flag], want)
			}
		}
	})
}

func TestIdentityOfAMember(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		network := "net-" + b.Member
		istiod := env(t, find(b, "Deployment", "istiod"))
		ztunnel := env(t, find(b, "DaemonSet", "ztunnel"))
		got := map[string]string{
			"istiod's cluster":     istiod["CLUSTER_ID"],
			"ztunnel's cluster":    ztunnel["ISTIO_META_CLUSTER_ID"],
			"ztunnel's network":    ztunnel["NETWORK"],
			"ztunnel's CA":         ztunnel["CA_ADDRESS"],
			"ztunnel's istiod":     ztunnel["XDS_ADDRESS"],
			"trusted node account": istiod["CA_TRUSTED_NODE_ACCOUNTS"],
			"namespace's network":  find(b, "Namespace", "applink-system").GetLabels()["topology.istio.io/network"],
		}
		want := map[string]string{
			"istiod's cluster":     b.Member,
			"ztunnel's cluster":    b.Member,
			"ztunnel's network":    network,
			"ztunnel's CA":         "istiod.applink-system.svc:15012",
			"ztunnel's istiod":     "istiod.applink-system.svc:15012",
			"trusted node account": "applink-system/ztunnel",
			"namespace's network":  network,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
		injector := find(b, "ConfigMap", "istio-sidecar-injector")
		text, _, _ := unstructured.NestedString(injector.Object, "data", "values")
		var values struct {
			Global struct {
				MeshID, Network, IstioNamespace string
				MultiCluster                    struct{ ClusterName string }
				Waypoint                        struct{ NodeSelector map[string]string }
			}
		}
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			t.Fatal(err)
		}
		global := values.Global
		if global.MeshID != "prod" || global.Network != network || global.IstioNamespace != "applink-system" ||
			global.MultiCluster.ClusterName != b.Member {
			t.Errorf("gateways are told %+v", global)
		}
		if global.Waypoint.NodeSelector["kubernetes.io/os"] != "linux" {
			t.Errorf("gateways may land on %v", global.Waypoint.NodeSelector)
		}
	})
}

func TestMeshConfig(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		text, _, _ := unstructured.NestedString(find(b, "ConfigMap", "istio").Object, "data", "mesh")
		for _, want := range []string{
			"trustDomain: cluster.local", "rootNamespace: applink-system", "meshId: prod",
			"discoveryAddress: istiod.applink-system.svc:15012",
			"serviceScopeConfigs:", "scope: GLOBAL", `ISTIO_META_ENABLE_HBONE: "true"`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("mesh config lacks %q:\n%s", want, text)
			}
		}
	})
}

func TestImagesAndVersionsAreTheRelease(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for kindName, image := range map[[2]string]string{
			{"Deployment", "istiod"}:        "docker.io/istio/pilot:%s-distroless",
			{"DaemonSet", "ztunnel"}:        "docker.io/istio/ztunnel:%s-distroless",
			{"DaemonSet", "istio-cni-node"}: "docker.io/istio/install-cni:%s-distroless",
		} {
			object := find(b, kindName[0], kindName[1])
			containers, _, _ := unstructured.NestedSlice(object.Object, "spec", "template", "spec", "containers")
			if got, want := containers[0].(map[string]any)["image"], fmt.Sprintf(image, b.Release); got != want {
				t.Errorf("%s: image %v, want %s", id(object), got, want)
			}
			labels := object.GetLabels()
			if labels["app.kubernetes.io/version"] != b.Release || !strings.HasSuffix(labels["helm.sh/chart"], "-"+b.Release) {
				t.Errorf("%s: labels of another version: %v", id(object), labels)
			}
			if labels["app.kubernetes.io/managed-by"] != "isthmus" {
				t.Errorf("%s: managed by %q", id(object), labels["app.kubernetes.io/managed-by"])
			}
			selector, _, _ := unstructured.NestedStringMap(object.Object, "spec", "template", "spec", "nodeSelector")
			if selector["kubernetes.io/os"] != "linux" {
				t.Errorf("%s: may land on %v", id(object), selector)
			}
		}
	})
}

// istiod turns Ignore into Fail once it is ready; rendered as Ignore, that is
// drift for ever. AKS's admissions enforcer owns selectors unless told not to.
func TestTrapWebhooks(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		seen := 0
		for _, object := range b.Objects {
			o := object.Object
			if !strings.HasSuffix(o.GetKind(), "WebhookConfiguration") {
				continue
			}
			seen++
			if o.GetAnnotations()["admissions.enforcer/disabled"] != "true" {
				t.Errorf("%s: AKS's admissions enforcer is not disabled", id(o))
			}
			for _, webhook := range o.Object["webhooks"].([]any) {
				if policy := webhook.(map[string]any)["failurePolicy"]; policy != "Fail" {
					t.Errorf("%s: failure policy %v", id(o), policy)
				}
			}
		}
		if seen != 3 {
			t.Errorf("%d webhook configurations, want 3", seen)
		}
	})
}

// While a load balancer is pending istiod would publish the cluster IP, and
// peers would send their traffic to it.
func TestTrapGatewayAddress(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		gateway := find(b, "Gateway", "istio-eastwestgateway")
		if got := gateway.GetAnnotations()["networking.istio.io/address-type"]; got != "Hostname" {
			t.Errorf("address type %q", got)
		}
	})
}

// infrastructure.labels replaces what istiod copies from the Gateway: without
// the network in it, peers do not know whose gateway the Service is; without the
// field, our ownership labels end up on istiod's objects.
func TestTrapInfrastructureLabels(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		labels, _, _ := unstructured.NestedStringMap(find(b, "Gateway", "istio-eastwestgateway").Object, "spec", "infrastructure", "labels")
		if diff := cmp.Diff(map[string]string{"topology.istio.io/network": "net-" + b.Member}, labels); diff != "" {
			t.Errorf("east-west gateway (-want +got):\n%s", diff)
		}
		labels, _, _ = unstructured.NestedStringMap(find(b, "Gateway", "waypoint").Object, "spec", "infrastructure", "labels")
		want := map[string]string{"istio.io/global": "true", "istio.io/waypoint-for": "service"}
		if diff := cmp.Diff(want, labels); diff != "" {
			t.Errorf("waypoint (-want +got):\n%s", diff)
		}
	})
}

// A namespace of people's workloads must never be deleted with the mesh.
func TestTrapUserNamespacesAreReleased(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for name, want := range map[string]string{"shop": bundle.PruneRelease, "quiet": bundle.PruneRelease, "applink-system": ""} {
			if got := find(b, "Namespace", name).GetAnnotations()[bundle.PruneAnnotation]; got != want {
				t.Errorf("namespace %s: %s = %q, want %q", name, bundle.PruneAnnotation, got, want)
			}
		}
		labels := find(b, "Namespace", "shop").GetLabels()
		if labels["istio.io/dataplane-mode"] != "ambient" || labels["istio.io/use-waypoint"] != "waypoint" {
			t.Errorf("namespace shop is not enrolled: %v", labels)
		}
		if mode, ok := find(b, "Namespace", "quiet").GetLabels()["istio.io/dataplane-mode"]; ok {
			t.Errorf("namespace quiet is enrolled: %q", mode)
		}
	})
}

// A peer of a newer release reads more than an older reader role allows, so the
// role comes before any istiod.
func TestTrapReaderComesFirst(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		var kinds []string
		for _, object := range b.Objects {
			if object.Object.GetLabels()[bundle.ComponentLabel] != string(bundle.ComponentPeers) {
				continue
			}
			kinds = append(kinds, object.Object.GetKind())
			if object.Stage != bundle.StageFoundation {
				t.Errorf("%s is delivered in stage %s", id(object.Object), object.Stage)
			}
		}
		if diff := cmp.Diff([]string{"ClusterRole", "ClusterRoleBinding", "ServiceAccount"}, kinds); diff != "" {
			t.Errorf("reader (-want +got):\n%s", diff)
		}
		subjects, _, _ := unstructured.NestedSlice(find(b, "ClusterRoleBinding", "istio-reader-clusterrole-applink-system").Object, "subjects")
		want := []any{map[string]any{"kind": "ServiceAccount", "name": "istio-reader-service-account", "namespace": "applink-system"}}
		if diff := cmp.Diff(want, subjects); diff != "" {
			t.Errorf("subjects (-want +got):\n%s", diff)
		}
	})
}

// Without the right to list secrets a peer's istiod never syncs, and with the
// variable that should make it needless, it crashes.
func TestTrapReaderReadsSecrets(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		rules, _, _ := unstructured.NestedSlice(find(b, "ClusterRole", "istio-reader-clusterrole-applink-system").Object, "rules")
		lists := slices.ContainsFunc(rules, func(rule any) bool {
			resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
			verbs, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "verbs")
			return slices.Contains(resources, "secrets") && slices.Contains(verbs, "list") && slices.Contains(verbs, "watch")
		})
		value, set := env(t, find(b, "Deployment", "istiod"))["PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER"]
		if !lists || set {
			t.Errorf("the reader lists secrets: %t; PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER is set: %t, %q", lists, set, value)
		}
	})
}

// Every role that a binding gives is rendered, and goes to an account that is.
func TestBindingsAreWhole(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for _, object := range b.Objects {
			kind := object.Object.GetKind()
			if kind != "ClusterRoleBinding" && kind != "RoleBinding" {
				continue
			}
			role := object.Object.Object["roleRef"].(map[string]any)
			if find(b, role["kind"].(string), role["name"].(string)) == nil {
				t.Errorf("%s gives %v, which is not rendered", id(object.Object), role["name"])
			}
			for _, entry := range object.Object.Object["subjects"].([]any) {
				subject := entry.(map[string]any)
				account := find(b, "ServiceAccount", subject["name"].(string))
				if account == nil || account.GetNamespace() != subject["namespace"] {
					t.Errorf("%s goes to %v, which is not rendered", id(object.Object), subject)
				}
			}
		}
	})
}

// The agents tolerate every taint; on a virtual node of AKS they never start.
func TestTrapVirtualNodes(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for _, name := range []string{"ztunnel", "istio-cni-node"} {
			terms, _, _ := unstructured.NestedSlice(find(b, "DaemonSet", name).Object, "spec", "template", "spec", "affinity",
				"nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
			if text := fmt.Sprint(terms); !strings.Contains(text, "NotIn") || !strings.Contains(text, "virtual-kubelet") {
				t.Errorf("%s: %v", name, terms)
			}
		}
	})
}

// ztunnel's chart leaves the cluster name unquoted: 123 became a number, which
// no API server takes as a variable.
func TestTrapNamesThatLookLikeNumbers(t *testing.T) {
	for _, name := range []string{"123", "true", "null", "1e3"} {
		b := render(t, load(t, fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile)},
			"member.yaml":  {Data: []byte(memberFile(name, "1.31.0"))},
		}))[0]
		if got := env(t, find(b, "DaemonSet", "ztunnel"))["ISTIO_META_CLUSTER_ID"]; got != name {
			t.Errorf("cluster %q is %q to ztunnel", name, got)
		}
	}
}

func TestMTLSMode(t *testing.T) {
	for mode, want := range map[string]string{"Permissive": "PERMISSIVE", "Strict": "STRICT"} {
		b := render(t, load(t, fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile + "  dataPlane: {mtls: " + mode + ", namespace: mesh-home}\n")},
			"member.yaml":  {Data: []byte(memberFile("one", "1.30.4"))},
		}))[0]
		policy := find(b, "PeerAuthentication", "default")
		if got, _, _ := unstructured.NestedString(policy.Object, "spec", "mtls", "mode"); got != want {
			t.Errorf("mode %s renders %q", mode, got)
		}
		if policy.GetNamespace() != "mesh-home" || policy.GetNamespace() != b.SystemNamespace {
			t.Errorf("policy is in %q, the root namespace is %q", policy.GetNamespace(), b.SystemNamespace)
		}
	}
}

func TestGatewayVisibility(t *testing.T) {
	const (
		azure = "service.beta.kubernetes.io/azure-load-balancer-internal"
		gke   = "networking.gke.io/load-balancer-type"
		aws   = "service.beta.kubernetes.io/aws-load-balancer-scheme"
		probe = "service.beta.kubernetes.io/port_15008_health-probe_protocol"
	)
	aks := "{type: AKS, resourceID: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/one}"
	any := "{type: Kubernetes, kubeconfigRef: {name: one}}"
	tests := []struct {
		cluster, visibility string
		want                map[string]string
		reason              string
	}{
		{aks, "Internal", map[string]string{azure: "true", probe: "tcp"}, "AKS reads Azure's only"},
		{aks, "External", map[string]string{azure: "false", probe: "tcp"}, "said, not assumed"},
		{any, "Internal", map[string]string{azure: "true", gke: "Internal", aws: "internal", probe: "tcp"}, "internal on any cloud"},
		{any, "External", map[string]string{azure: "false", aws: "internet-facing", probe: "tcp"}, "AWS is internal by default"},
	}
	for _, tt := range tests {
		member := "apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: one}\nspec:\n  applicationNetwork: prod\n" +
			"  cluster: " + tt.cluster + "\n  connectivity: {eastWestGateway: {visibility: " + tt.visibility + "}}\n"
		b := render(t, load(t, fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile)}, "member.yaml": {Data: []byte(member)},
		}))[0]
		got, _, _ := unstructured.NestedStringMap(find(b, "Gateway", "istio-eastwestgateway").Object, "spec", "infrastructure", "annotations")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: annotations (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestGatewayAddress(t *testing.T) {
	const (
		aks    = "{type: AKS, resourceID: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/one}"
		other  = "{type: Kubernetes, kubeconfigRef: {name: one}}"
		prefix = "service.beta.kubernetes.io/azure-load-balancer-"
	)
	for _, tt := range []struct {
		cluster, gateway         string
		ipv4, ipv6, subnet, spec string
		reason                   string
	}{
		{aks, "{}", "", "", "", "", "the load balancer chooses"},
		{aks, "{address: 10.1.2.3, subnet: gateways}", "10.1.2.3", "", "gateways", "", "AKS goes by annotations"},
		{aks, "{address: 'fd00::3'}", "", "fd00::3", "", "", "IPv6 has its own"},
		{other, "{address: 10.1.2.3}", "10.1.2.3", "", "", "10.1.2.3", "any cloud, which may be Azure"},
		{other, "{address: 20.1.2.3, visibility: External}", "20.1.2.3", "", "", "20.1.2.3", "a public address"},
	} {
		for _, release := range catalog.Builtin().Releases() {
			member := "apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: one}\nspec:\n  applicationNetwork: prod\n" +
				"  cluster: " + tt.cluster + "\n  upgrade: {version: \"" + release.Version + "\"}\n" +
				"  connectivity: {eastWestGateway: " + tt.gateway + "}\n"
			b := render(t, load(t, fstest.MapFS{
				"network.yaml": {Data: []byte(networkFile)}, "member.yaml": {Data: []byte(member)},
			}))[0]
			gateway := find(b, "Gateway", "istio-eastwestgateway")
			annotations, _, _ := unstructured.NestedStringMap(gateway.Object, "spec", "infrastructure", "annotations")
			var addresses []any
			if tt.spec != "" {
				addresses = []any{map[string]any{"type": "IPAddress", "value": tt.spec}}
			}
			got, _, _ := unstructured.NestedSlice(gateway.Object, "spec", "addresses")
			if diff := cmp.Diff(addresses, got); diff != "" {
				t.Errorf("%s: %s: addresses (-want +got):\n%s", release.Version, tt.reason, diff)
			}
			for name, want := range map[string]string{"ipv4": tt.ipv4, "ipv6": tt.ipv6, "internal-subnet": tt.subnet} {
				if annotations[prefix+name] != want {
					t.Errorf("%s: %s: %s is %q, want %q", release.Version, tt.reason, name, annotations[prefix+name], want)
				}
			}
			// What istiod makes of spec.addresses.
			templates, _, _ := unstructured.NestedString(find(b, "ConfigMap", "istio-sidecar-injector").Object, "data", "config")
			if !strings.Contains(templates, "loadBalancerIP: {{ (index .Spec.Addresses 0).Value | quote}}") {
				t.Errorf("%s makes no use of an address", release.Version)
			}
		}
	}
}

// Members on one L3 network reach each other's pods; a door would only be an
// address to attack.
func TestGatewaysByTopology(t *testing.T) {
	for _, tt := range []struct {
		networks []string
		want     bool
		reason   string
	}{
		{[]string{"flat", "flat", "flat"}, false, "all on one L3 network"},
		{[]string{"east", "west"}, true, "each on its own"},
		{[]string{"flat", "flat", "west"}, true, "mixed: the third reaches both through their doors"},
		{[]string{"flat"}, true, "a network of one keeps its address for the next member"},
	} {
		files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile)}}
		for i, network := range tt.networks {
			name := fmt.Sprintf("member-%d", i)
			files[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(memberFile(name, "1.30.4"), "net-"+name, network, 1))}
		}
		for _, b := range render(t, load(t, files)) {
			if got := find(b, "Gateway", "istio-eastwestgateway") != nil; got != tt.want {
				t.Errorf("%s: %s has a gateway: %t", tt.reason, b.Member, got)
			}
			if find(b, "Gateway", "waypoint") == nil {
				t.Errorf("%s: %s has no waypoint", tt.reason, b.Member)
			}
		}
	}
}

func TestSameInputSameBytes(t *testing.T) {
	files := everyRelease()
	first, err := bundle.Files(render(t, load(t, files)))
	if err != nil {
		t.Fatal(err)
	}
	fresh := renderer.New(catalog.Builtin())
	second, err := bundle.Files(renderBy(t, fresh, load(t, files)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := differing(first, second); diff != nil {
		t.Errorf("a second rendering differs in %v", diff)
	}
	shuffled := load(t, files)
	slices.Reverse(shuffled.Members)
	third, err := bundle.Files(render(t, shuffled))
	if err != nil {
		t.Fatal(err)
	}
	if diff := differing(first, third); diff != nil {
		t.Errorf("shuffled members render differently: %v", diff)
	}
}

// differing names the files that are not the same in both.
func differing(a, b map[string][]byte) []string {
	var names []string
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// What a person builds from the files is what the reconciler applies.
func TestKustomizeBuildGivesTheBundle(t *testing.T) {
	buildsAreBundles(t, render(t, load(t, everyRelease())))
}

func buildsAreBundles(t *testing.T, bundles []bundle.Bundle) {
	t.Helper()
	files, err := bundle.Files(bundles)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bundles {
		built, err := kustomize.Build(files, bundle.MemberDir(b.Member))
		if err != nil {
			t.Fatalf("member %s: %v", b.Member, err)
		}
		want, got := map[string]any{}, map[string]any{}
		for _, object := range b.Objects {
			want[id(object.Object)] = object.Object.Object
		}
		for _, object := range built {
			got[id(object)] = object.Object
		}
		if len(built) != len(b.Objects) {
			t.Errorf("member %s: built %d objects, the bundle has %d", b.Member, len(built), len(b.Objects))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("member %s: kustomize build differs (-bundle +built):\n%s", b.Member, diff)
		}
	}
}

// Objects are shared between members; a member's edit must not reach another.
func TestMembersDoNotLeakIntoEachOther(t *testing.T) {
	f := load(t, fstest.MapFS{
		"network.yaml": {Data: []byte(networkFile)},
		"a.yaml":       {Data: []byte(memberFile("alpha", "1.30.4"))},
		"b.yaml":       {Data: []byte(memberFile("beta", "1.30.4"))},
	})
	for _, b := range render(t, f) {
		other := map[string]string{"alpha": "beta", "beta": "alpha"}[b.Member]
		for _, object := range b.Objects {
			text, _ := json.Marshal(object.Object.Object)
			// Istio's own texts have beta in them: look for whole names only.
			for _, leak := range []string{`"` + other + `"`, "net-" + other, "ISTHMUS_"} {
				if strings.Contains(string(text), leak) {
					t.Errorf("%s of %s contains %s", id(object.Object), b.Member, leak)
				}
			}
		}
	}
}

func TestARunningMemberKeepsItsRelease(t *testing.T) {
	f := load(t, fstest.MapFS{
		"network.yaml": {Data: []byte(networkFile)},
		"member.yaml":  {Data: []byte("apiVersion: isthmus.dev/v1alpha1\nkind: Member\nmetadata: {name: one}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: one}}\n")},
	})
	for _, tt := range []struct {
		observed     plan.Observed
		want, reason string
	}{
		{plan.Observed{}, "1.30.4", "a new member gets the Stable release"},
		{plan.Observed{Members: map[string]plan.Seen{"one": {Release: "1.29.1"}}}, "1.29.1", "a running one keeps what it runs"},
	} {
		result, err := shared.Render(f, tt.observed)
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Bundles[0].Release; got != tt.want {
			t.Errorf("%s: release %s", tt.reason, got)
		}
	}
}

func TestAnErrorRendersNothing(t *testing.T) {
	f := load(t, fstest.MapFS{
		"network.yaml": {Data: []byte(networkFile)},
		"a.yaml":       {Data: []byte(memberFile("alpha", "1.30.4"))},
		"b.yaml":       {Data: []byte(memberFile("beta", "1.26.0"))},
	})
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Bundles) != 0 {
		t.Errorf("rendered %d bundles beside an error", len(result.Bundles))
	}
	errs := result.Problems.Errors()
	if len(errs) != 1 || !strings.HasPrefix(errs[0].String(), "b.yaml:8: spec.upgrade.version: ") {
		t.Errorf("problems: %v", errs)
	}
}
