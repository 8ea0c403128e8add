package renderer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// hosted renders two members, of which "guest" has its istiod in "host", once
// for each release that the guest may run.
func hosted(t *testing.T, address string, test func(t *testing.T, host, guest bundle.Bundle)) {
	t.Helper()
	for _, release := range catalog.Builtin().Releases() {
		files := fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile)},
			"host.yaml":    {Data: []byte(memberFile("host", "1.30.4"))},
			"guest.yaml": {Data: []byte(memberFile("guest", release.Version) +
				"  controlPlane: {placement: Hosted, host: host, address: " + address + "}\n")},
		}
		bundles := render(t, load(t, files))
		t.Run(release.Version, func(t *testing.T) { test(t, bundles[1], bundles[0]) })
	}
}

// in returns the objects of a namespace, by kind and name.
func in(b bundle.Bundle, namespace string) map[string]*unstructured.Unstructured {
	out := map[string]*unstructured.Unstructured{}
	for _, o := range b.Objects {
		if o.Object.GetNamespace() == namespace {
			out[o.Object.GetKind()+" "+o.Object.GetName()] = o.Object
		}
	}
	return out
}

func TestHostedControlPlane(t *testing.T) {
	hosted(t, "10.1.2.3", func(t *testing.T, host, guest bundle.Bundle) {
		objects := in(host, "applink-system-guest")
		var names []string
		for name := range objects {
			// Newer charts have one for more than one replica only.
			if name != "PodDisruptionBudget istiod" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		want := []string{"Deployment istiod", "HorizontalPodAutoscaler istiod", "Service istiod", "ServiceAccount istiod"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Fatalf("in the host (-want +got):\n%s", diff)
		}
		pod, _, _ := unstructured.NestedMap(objects["Deployment istiod"].Object, "spec", "template", "spec")
		main := pod["containers"].([]any)[0].(map[string]any)
		if image := main["image"].(string); !strings.Contains(image, ":"+guest.Release+"-") {
			t.Errorf("the guest's istiod is %s, not of its release", image)
		}
		if e := env(t, objects["Deployment istiod"]); e["CLUSTER_ID"] != "guest" {
			t.Errorf("the cluster of the guest's istiod is %q", e["CLUSTER_ID"])
		}
		args := main["args"].([]any)
		if diff := cmp.Diff([]any{"--namespace", "applink-system", "--cniNamespace", "applink-system"}, args[len(args)-4:]); diff != "" {
			t.Errorf("namespaces (-want +got):\n%s", diff)
		}
		// Without its kubeconfig it would act on the host's own cluster.
		for _, name := range []string{"istio-kubeconfig", "cacerts"} {
			i := slices.IndexFunc(pod["volumes"].([]any), func(v any) bool { return v.(map[string]any)["name"] == name })
			secret := pod["volumes"].([]any)[i].(map[string]any)["secret"].(map[string]any)
			if diff := cmp.Diff(map[string]any{"secretName": name}, secret); diff != "" {
				t.Errorf("volume %s (-want +got):\n%s", name, diff)
			}
		}
		if got, _, _ := unstructured.NestedString(objects["Service istiod"].Object, "spec", "loadBalancerIP"); got != "10.1.2.3" {
			t.Errorf("the door's address is %q", got)
		}
		// The host's own is untouched.
		if own := in(host, "applink-system")["Deployment istiod"]; own == nil || env(t, own)["CLUSTER_ID"] != "host" {
			t.Error("the host has lost its own istiod")
		}
	})
}

func TestMemberOfAHostedControlPlane(t *testing.T) {
	hosted(t, "10.1.2.3", func(t *testing.T, _, guest bundle.Bundle) {
		objects := in(guest, "applink-system")
		if objects["Deployment istiod"] != nil || objects["HorizontalPodAutoscaler istiod"] != nil {
			t.Error("the guest runs an istiod itself")
		}
		// What istiod reads and acts with is in its member.
		for _, name := range []string{"ConfigMap istio", "ConfigMap istio-sidecar-injector", "ServiceAccount istiod", "Role istiod", "Gateway istio-eastwestgateway", "DaemonSet ztunnel"} {
			if objects[name] == nil {
				t.Errorf("the guest has no %s", name)
			}
		}
		if find(guest, "ClusterRole", "istiod-clusterrole-applink-system") == nil || find(guest, "ValidatingWebhookConfiguration", "istio-validator-applink-system") == nil {
			t.Error("the guest lacks istiod's rights or webhooks")
		}
		if mesh := objects["ConfigMap istio"].Object["data"].(map[string]any)["mesh"].(string); !strings.Contains(mesh, "serviceScopeConfigs") {
			t.Error("the profile's serviceScopeConfigs are lost")
		}
		endpoints, _, _ := unstructured.NestedSlice(objects["EndpointSlice istiod-hosted"].Object, "endpoints")
		if diff := cmp.Diff([]any{map[string]any{"addresses": []any{"10.1.2.3"}}}, endpoints); diff != "" {
			t.Errorf("where istiod is (-want +got):\n%s", diff)
		}
		ports, _, _ := unstructured.NestedSlice(objects["Service istiod"].Object, "spec", "ports")
		if len(ports) != 2 {
			t.Errorf("ports of istiod: %v", ports)
		}
	})
}

func TestHostedControlPlaneByName(t *testing.T) {
	hosted(t, "istiod.example.com", func(t *testing.T, host, guest bundle.Bundle) {
		objects := in(guest, "applink-system")
		if objects["EndpointSlice istiod-hosted"] != nil {
			t.Error("a name has no endpoints")
		}
		if name, _, _ := unstructured.NestedString(objects["Service istiod"].Object, "spec", "externalName"); name != "istiod.example.com" {
			t.Errorf("istiod is at %q", name)
		}
		if ip, found, _ := unstructured.NestedString(in(host, "applink-system-guest")["Service istiod"].Object, "spec", "loadBalancerIP"); found {
			t.Errorf("the door asks for the address %q", ip)
		}
	})
}
