package apply

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// withGateway adds the two kinds of the Gateway API, as far as they matter
// here, and a Gateway.
func withGateway(t testing.TB, s Set) Set {
	out := clone(s)
	add := func(stage bundle.Stage, text string) {
		for _, o := range parse(t, s.Network, text) {
			out.Objects = append(out.Objects, bundle.Object{Stage: stage, Object: o})
		}
	}
	add(bundle.StageFoundation, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gateways.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, a test"}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: Gateway, plural: gateways, singular: gateway, listKind: GatewayList}
  versions:
  - {name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gatewayclasses.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "unapproved, a test"}
spec:
  group: gateway.networking.k8s.io
  scope: Cluster
  names: {kind: GatewayClass, plural: gatewayclasses, singular: gatewayclass, listKind: GatewayClassList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`)
	add(bundle.StageGateways, `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: istio-eastwestgateway, namespace: SYSTEM}
spec: {gatewayClassName: istio-east-west}
`)
	return out
}

func class(t testing.TB, m *member.Member, name, controller string) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"controllerName": controller},
	}}
	if _, err := client(t, m, "gateway.networking.k8s.io/v1", "GatewayClass", "").Create(context.Background(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIstiodMadeGoesWithTheMesh(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := withGateway(t, small(t, "made"))
	target := NewTarget(m)

	result := mustApply(t, target, set)

	if len(result.Waiting) != 1 || !result.Waiting[0].Subject.isGateway() || result.Waiting[0].Why != "no controller has taken it" {
		t.Errorf("a Gateway without controller is reported, not an error: %+v", result.Waiting)
	}
	gateway, err := get(m, "gateway.networking.k8s.io/v1", "Gateway", "made-system", "istio-eastwestgateway")
	if err != nil {
		t.Fatal(err)
	}
	child := func(name string, owner *unstructured.Unstructured) map[string]any {
		metadata := map[string]any{"labels": map[string]any{gatewayNameLabel: name}}
		if owner != nil {
			metadata["ownerReferences"] = []any{map[string]any{
				"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": owner.GetName(), "uid": string(owner.GetUID()),
			}}
		}
		return metadata
	}
	create(t, m, "v1", "ServiceAccount", "made-system", "istio-eastwestgateway", child("istio-eastwestgateway", gateway))
	create(t, m, "v1", "ServiceAccount", "default", "of-another-gateway", child("another", nil))
	class(t, m, "istio-east-west", "istio.io/eastwest-controller")
	class(t, m, "istio", "example.com/another-controller")
	class(t, m, "mine", "istio.io/gateway-controller")

	removed := mustRemove(t, target, set)

	for _, gone := range [][4]string{
		{"v1", "ServiceAccount", "made-system", "istio-eastwestgateway"},
		{"gateway.networking.k8s.io/v1", "GatewayClass", "", "istio-east-west"},
	} {
		if _, err := get(m, gone[0], gone[1], gone[2], gone[3]); !apierrors.IsNotFound(err) {
			t.Errorf("%v is still there: %v", gone, err)
		}
	}
	for _, kept := range [][4]string{
		{"v1", "ServiceAccount", "default", "of-another-gateway"},
		{"gateway.networking.k8s.io/v1", "GatewayClass", "", "istio"},
		{"gateway.networking.k8s.io/v1", "GatewayClass", "", "mine"},
	} {
		if _, err := get(m, kept[0], kept[1], kept[2], kept[3]); err != nil {
			t.Errorf("%v went: %v", kept, err)
		}
	}
	if removed.Count(Released) != 2 { // the users' namespace and the CRD with classes of others
		t.Errorf("changes: %v", removed.Changes)
	}
}

// TestAnotherMeshKeepsItsThings is alone: its istiod is on the member for all.
func TestAnotherMeshKeepsItsThings(t *testing.T) {
	m, _ := connected(t)
	set := small(t, "second")
	mustApply(t, NewTarget(m), set)
	create(t, m, "v1", "Namespace", "", "istio-system", nil)
	other := object(t, set, "Deployment", "istiod").DeepCopy()
	other.SetNamespace("istio-system")
	other.SetLabels(map[string]string{"app": "istiod"})
	if _, err := client(t, m, "apps/v1", "Deployment", "istio-system").Create(context.Background(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, m, "apps/v1", "Deployment", "istio-system", "istiod") })
	create(t, m, "v1", "ConfigMap", "second-shop", "istio-ca-root-cert", map[string]any{"labels": map[string]any{"istio.io/config": "true"}})

	mustRemove(t, NewTarget(m), set)

	if _, err := get(m, "v1", "ConfigMap", "second-shop", "istio-ca-root-cert"); err != nil {
		t.Errorf("took the root certificate of another mesh: %v", err)
	}
}
