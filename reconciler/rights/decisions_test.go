package rights_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/reconciler/rights"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// TestRightsOfOddObjects: people's own manifests bring kinds and bindings that no
// fleet of ours has.
func TestRightsOfOddObjects(t *testing.T) {
	t.Parallel()
	granted := rights.Of(bundle.Bundle{Member: "m", SystemNamespace: "mesh", Objects: objects(t, `
apiVersion: v1
kind: Namespace
metadata: {name: mesh}
---
apiVersion: v1
kind: Namespace
metadata: {name: labelled}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: geese.test}
spec: {group: test, names: {kind: Goose, plural: geese}}
---
apiVersion: test/v1
kind: Goose
metadata: {name: g, namespace: shop}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, annotations: {gateway.istio.io/name-override: door}}
spec: {gatewayClassName: istio}
`)})
	for _, tt := range []struct{ reason, namespace, resource, verb, name string }{
		{"a ClusterRole may be bound in the one namespace", "shop", "clusterroles", "bind", "view"},
		{"kinds that end in y", "shop", "networkpolicies", "patch", "deny"},
		{"a CRD of the bundle names its resource", "shop", "geese", "create", "g"},
		{"Gateway is no such kind", "shop", "gateways", "delete", "edge"},
		{"istiod names what it makes by gateway and class", "shop", "deployments", "delete", "edge-istio"},
		{"or as it is told", "shop", "services", "delete", "door"},
		{"CRDs of the Gateway API are others' here", "", "customresourcedefinitions", "get", "gateways.gateway.networking.k8s.io"},
		{"a namespace without objects is labelled too", "", "namespaces", "patch", "labelled"},
	} {
		if !grants(granted, tt.namespace, tt.resource, tt.verb, tt.name) {
			t.Errorf("%s: no %s of %s %q in %q", tt.reason, tt.verb, tt.resource, tt.name, tt.namespace)
		}
	}
	for _, tt := range []struct{ reason, namespace, resource, verb, name string }{
		{"in namespaces of others everything is named", "shop", "deployments", "delete", "somebodys"},
		{"a role of others is bound, and not changed", "shop", "clusterroles", "escalate", "view"},
		{"it is bound in the one namespace only", "", "clusterroles", "bind", "view"},
		{"Secrets are in reach in the system namespace only", "", "secrets", "list", ""},
		{"and in no other", "shop", "secrets", "get", "any"},
		{"namespaces are the admin's", "", "namespaces", "delete", "labelled"},
	} {
		if grants(granted, tt.namespace, tt.resource, tt.verb, tt.name) {
			t.Errorf("%s: %s of %s %q in %q is granted", tt.reason, tt.verb, tt.resource, tt.name, tt.namespace)
		}
	}
	manifest, err := granted.Manifest("m", home)
	if err != nil || strings.Contains(manifest, "*") {
		t.Errorf("wildcards, or error %v:\n%s", err, manifest)
	}
	if again, _ := granted.Manifest("m", home); again != manifest {
		t.Error("the same rights give other bytes")
	}
}

func grants(all rights.Rights, namespace, resource, verb, name string) bool {
	for _, place := range append(all.Namespaces, rights.Namespaced{Rules: all.Cluster}) {
		for _, rule := range place.Rules {
			if place.Namespace == namespace && slices.Contains(rule.Resources, resource) && slices.Contains(rule.Verbs, verb) &&
				(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, name)) {
				return true
			}
		}
	}
	return false
}

func objects(t *testing.T, text string) []bundle.Object {
	t.Helper()
	var out []bundle.Object
	for _, o := range parse(t, text) {
		out = append(out, bundle.Object{Stage: bundle.StageControlPlane, Object: o})
	}
	return out
}
