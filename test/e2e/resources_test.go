package e2e

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	policies = "networks/prod/policies/cart.yaml"
	// Both are taken by a real istiod's webhook, or they would not be there.
	cartPolicies = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart-readers, namespace: shop}
spec:
  action: ALLOW
  targetRefs: [{kind: Service, group: "", name: cart}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
`
)

// testResources delivers people's own manifests to one member, puts drift back,
// and takes them away with the commit that drops them.
func testResources(t *testing.T, r *rig.Rig) {
	check(t, r.Repository.Replace(network, "  # The release of members", `  resources:
  - path: policies
    members: {matchLabels: {ring: canary}}

  # The release of members`))
	check(t, r.Repository.Write(policies, cartPolicies))
	check(t, r.WaitApplied(t.Context(), push(t, r, "Policies for the canary"), time.Minute))
	for _, kind := range []string{"AuthorizationPolicy", "HTTPRoute"} {
		if live, err := resource(t, r, east, kind); err != nil || live.GetLabels()["isthmus.dev/component"] != "resources" {
			t.Errorf("%s on %s: labels %v, %v", kind, east, live.GetLabels(), err)
		}
		if _, err := resource(t, r, west, kind); !apierrors.IsNotFound(err) {
			t.Errorf("%s on %s, which it is not for: %v", kind, west, err)
		}
	}

	policy, err := resource(t, r, east, "AuthorizationPolicy")
	check(t, err)
	member, err := r.ClientOf(east)
	check(t, err)
	check(t, unstructured.SetNestedField(policy.Object, "DENY", "spec", "action"))
	check(t, member.Update(t.Context(), policy, client.FieldOwner("somebody")))
	check(t, rig.Eventually(t.Context(), 30*time.Second, func() error {
		live, err := resource(t, r, east, "AuthorizationPolicy")
		if action, _, _ := unstructured.NestedString(live.Object, "spec", "action"); err == nil && action == "DENY" {
			return errors.New("the policy is still somebody else's")
		}
		return err
	}))

	check(t, r.Repository.Replace(network, `  resources:
  - path: policies
    members: {matchLabels: {ring: canary}}

`, ""))
	check(t, r.WaitApplied(t.Context(), push(t, r, "No policies"), time.Minute))
	for _, kind := range []string{"AuthorizationPolicy", "HTTPRoute"} {
		if _, err := resource(t, r, east, kind); !apierrors.IsNotFound(err) {
			t.Errorf("%s on %s, which the commit has dropped: %v", kind, east, err)
		}
	}
}

// resource reads one of the manifests from a member.
func resource(t *testing.T, r *rig.Rig, member, kind string) (*unstructured.Unstructured, error) {
	t.Helper()
	c, err := r.ClientOf(member)
	check(t, err)
	live, name := &unstructured.Unstructured{}, "cart"
	live.SetAPIVersion("gateway.networking.k8s.io/v1")
	if kind == "AuthorizationPolicy" {
		live.SetAPIVersion("security.istio.io/v1")
		name = "cart-readers"
	}
	live.SetKind(kind)
	return live, c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, live)
}
