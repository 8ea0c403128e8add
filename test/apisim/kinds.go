package apisim

import (
	"cmp"
	"slices"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// kind is one that a member serves.
type kind struct {
	schema.GroupVersionKind
	resource   string
	namespaced bool
	// generation says that the API server counts changes of the spec.
	generation bool
	// definition is the content of the CustomResourceDefinition; nil for a kind
	// that is built in.
	definition *content
}

func (k kind) gvr() schema.GroupVersionResource { return k.GroupVersion().WithResource(k.resource) }

func (k kind) groupResource() schema.GroupResource { return k.gvr().GroupResource() }

// builtin are the kinds of a member without CustomResourceDefinitions; those that
// a mesh consists of, and those that are looked through when it leaves.
var builtin = builtinKinds()

func builtinKinds() map[schema.GroupVersionResource]kind {
	const (
		clustered, namespaced = false, true
		uncounted, counted    = false, true
	)
	all := map[schema.GroupVersionResource]kind{}
	for _, k := range []struct {
		group, version, kind, resource string
		namespaced, generation         bool
	}{
		{"", "v1", "Namespace", "namespaces", clustered, uncounted},
		{"", "v1", "Node", "nodes", clustered, uncounted},
		{"", "v1", "ConfigMap", "configmaps", namespaced, uncounted},
		{"", "v1", "Secret", "secrets", namespaced, uncounted},
		{"", "v1", "Service", "services", namespaced, uncounted},
		{"", "v1", "ServiceAccount", "serviceaccounts", namespaced, uncounted},
		{"", "v1", "Pod", "pods", namespaced, counted},
		{"", "v1", "ResourceQuota", "resourcequotas", namespaced, uncounted},
		{"apps", "v1", "Deployment", "deployments", namespaced, counted},
		{"apps", "v1", "DaemonSet", "daemonsets", namespaced, counted},
		{"apps", "v1", "StatefulSet", "statefulsets", namespaced, counted},
		{"batch", "v1", "Job", "jobs", namespaced, counted},
		{"autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", namespaced, uncounted},
		{"policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", namespaced, counted},
		{"networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", namespaced, counted},
		{"rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", clustered, uncounted},
		{"rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", clustered, uncounted},
		{"rbac.authorization.k8s.io", "v1", "Role", "roles", namespaced, uncounted},
		{"rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", namespaced, uncounted},
		{"admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", clustered, counted},
		{"admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", clustered, counted},
		{"admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", clustered, counted},
		{"admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", clustered, counted},
		{"apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", clustered, counted},
	} {
		served := kind{
			GroupVersionKind: schema.GroupVersionKind{Group: k.group, Version: k.version, Kind: k.kind},
			resource:         k.resource, namespaced: k.namespaced, generation: k.generation,
		}
		all[served.gvr()] = served
	}
	return all
}

// definedKinds are the kinds that a CustomResourceDefinition makes served.
func definedKinds(o *unstructured.Unstructured, definition *content) []kind {
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	name, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
	scope, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	var out []kind
	for _, version := range versions {
		fields, _ := version.(map[string]any)
		if fields["served"] != true {
			continue
		}
		version, _ := fields["name"].(string)
		out = append(out, kind{
			GroupVersionKind: schema.GroupVersionKind{Group: group, Version: version, Kind: name},
			resource:         plural, namespaced: scope == "Namespaced", generation: true, definition: definition,
		})
	}
	return out
}

// discovery is the aggregated document of the core group, or of all others.
func discovery(kinds map[schema.GroupVersionResource]kind, core bool) apidiscoveryv2.APIGroupDiscoveryList {
	groups := map[string]map[string][]apidiscoveryv2.APIResourceDiscovery{}
	for _, k := range kinds {
		if (k.Group == "") != core {
			continue
		}
		if groups[k.Group] == nil {
			groups[k.Group] = map[string][]apidiscoveryv2.APIResourceDiscovery{}
		}
		scope := apidiscoveryv2.ScopeCluster
		if k.namespaced {
			scope = apidiscoveryv2.ScopeNamespace
		}
		groups[k.Group][k.Version] = append(groups[k.Group][k.Version], apidiscoveryv2.APIResourceDiscovery{
			Resource: k.resource, Scope: scope, SingularResource: k.resource[:len(k.resource)-1],
			ResponseKind: &metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind},
			Verbs:        []string{"create", "delete", "get", "list", "patch", "update", "watch"},
		})
	}
	list := apidiscoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"},
	}
	for name, versions := range groups {
		group := apidiscoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for version, resources := range versions {
			slices.SortFunc(resources, func(a, b apidiscoveryv2.APIResourceDiscovery) int { return cmp.Compare(a.Resource, b.Resource) })
			group.Versions = append(group.Versions, apidiscoveryv2.APIVersionDiscovery{
				Version: version, Resources: resources, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
			})
		}
		// The shorter name is the more stable version: v1 before v1beta1.
		slices.SortFunc(group.Versions, func(a, b apidiscoveryv2.APIVersionDiscovery) int {
			return cmp.Or(cmp.Compare(len(a.Version), len(b.Version)), cmp.Compare(b.Version, a.Version))
		})
		list.Items = append(list.Items, group)
	}
	slices.SortFunc(list.Items, func(a, b apidiscoveryv2.APIGroupDiscovery) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
