package conformity

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// A fault is something wrong that is put into an object that was rendered.
type fault struct {
	reason     string
	kind, name string
	path       []string
	value      any
	// want is part of the line that tells of it.
	want string
}

var kubernetesFaults = []fault{
	{
		"a field that the kind does not have", "Deployment", "istiod",
		[]string{"spec", "template", "spec", "restartPolice"}, "Always", "field not declared in schema",
	},
	{
		"a field that a kind of Istio does not have", "PeerAuthentication", "default",
		[]string{"spec", "mtls", "mod"}, "STRICT", "field not declared in schema",
	},
	{
		"a value that is none of those allowed", "PeerAuthentication", "default",
		[]string{"spec", "mtls", "mode"}, "LOOSE", `Unsupported value: "LOOSE"`,
	},
	{
		"a protocol that does not take TLS", "Gateway", "istio-eastwestgateway",
		[]string{"spec", "listeners"}, []any{map[string]any{
			"name": "mesh", "port": int64(15008), "protocol": "TCP", "tls": map[string]any{"mode": "Terminate"},
		}}, "tls must not be specified for protocols",
	},
	{
		"what is no protocol", "Gateway", "istio-eastwestgateway",
		[]string{"spec", "listeners"}, []any{map[string]any{"name": "mesh", "port": int64(15008), "protocol": "H BONE"}},
		"spec.listeners[0].protocol",
	},
	{
		"a value of another type", "Service", "istiod",
		[]string{"spec", "ports"}, "15012", "spec.ports",
	},
	{
		"a label that is none", "Namespace", "shop",
		[]string{"metadata", "labels", "istio.io/dataplane-mode"}, "ambient!", "metadata.labels",
	},
	{
		"no namespace", "ServiceAccount", "istiod",
		[]string{"metadata", "namespace"}, "", "the kind has namespaces: true",
	},
	{
		"a namespace too many", "ClusterRole", "istio-cni",
		[]string{"metadata", "namespace"}, "applink-system", "the kind has namespaces: false",
	},
	{
		"a kind that is not served", "PeerAuthentication", "default",
		[]string{"apiVersion"}, "security.istio.io/v9", "no matches for kind",
	},
	{
		"what an API server only warns of", "DaemonSet", "ztunnel",
		[]string{"spec", "template", "spec", "nodeSelector", "beta.kubernetes.io/os"}, "linux", "deprecated",
	},
}

// testFaults proves that check reports what is wrong.
func testFaults(t *testing.T, s *server, release catalog.Release, objects []sample) {
	for _, f := range kubernetesFaults {
		broken := f.in(t, objects)
		lines := faults(s.check(t.Context(), []sample{broken}), nil, release)
		if !strings.Contains(strings.Join(lines, "\n"), f.want) {
			t.Errorf("%s: want %q, got %q", f.reason, f.want, lines)
		}
	}
}

// in returns a copy of the first such object with the fault.
func (f fault) in(t *testing.T, objects []sample) sample {
	t.Helper()
	for _, o := range objects {
		if o.object.GetKind() == f.kind && o.object.GetName() == f.name {
			broken := o.object.DeepCopy()
			if err := unstructured.SetNestedField(broken.Object, f.value, f.path...); err != nil {
				t.Fatalf("%s: %v", f.reason, err)
			}
			return sample{object: broken, from: f.reason}
		}
	}
	t.Fatalf("%s: no %s %q was rendered", f.reason, f.kind, f.name)
	return sample{}
}

// TestIstioFaults proves that analyze reports what is wrong.
func TestIstioFaults(t *testing.T) {
	var all []sample
	c := combinations(releases[0])[0]
	b := c.render(t, releases[0].Version)[0]
	for _, o := range b.Objects {
		all = append(all, sample{object: o.Object, from: c.name})
	}
	for _, f := range []fault{
		{
			"a value that Istio cannot read", "PeerAuthentication", "default",
			[]string{"spec", "mtls", "mode"}, "LOOSE", `unknown value "\"LOOSE\""`,
		},
		{
			"ports without a selector", "PeerAuthentication", "default",
			[]string{"spec", "portLevelMtls"}, map[string]any{"8080": map[string]any{"mode": "STRICT"}}, "IST0106",
		},
	} {
		broken := b
		broken.Objects = []bundle.Object{{Object: f.in(t, all).object}}
		lines, err := analyze(t.Context(), istioctl(t), t.TempDir(), broken)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(lines, "\n"), f.want) {
			t.Errorf("%s: want %q, got %q", f.reason, f.want, lines)
		}
	}
}
