package rights

import (
	"cmp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Rule is one rule and why it is needed.
type Rule struct {
	rbacv1.PolicyRule
	Why string
}

// Namespaced are the rules of one namespace, none where it is only to be labelled.
type Namespaced struct {
	Namespace string
	Rules     []Rule
}

// Rights on one member, sorted.
type Rights struct {
	Cluster []Rule
	// Namespaces sorted by name.
	Namespaces []Namespaced
}

// The reasons, as the YAML has them.
const (
	whyWatch     = "Find what carries isthmus's label. RBAC knows no labels, so all of these kinds can be listed."
	whyLeave     = "Look, before leaving, for objects of others and for what istiod made. Lists cannot be bound to labels either."
	whyDeliver   = "Deliver, correct and remove, by name."
	whySpaces    = "Label the namespaces that are made here: isthmus can neither make nor delete one."
	whySystem    = "The system namespace is isthmus's: what is in it changes with every release, so nothing here is named."
	whyInventory = "Replace the inventory, which is not applied but owned whole."
	whySecrets   = "cacerts, the credentials for peers, and what those of peers hang on: here and nowhere else."
	whyProve     = "Ask istiod what its CA issues, as a workload does: with a token of an account without rights, by forwarding its port."
	whyPeers     = "Make the tokens that peers' istiods read this member's services with."
	whyEscalate  = "Roles that grant more than isthmus has itself. Whoever has this can let these roles say anything: guard the token."
	whyBind      = "Bind roles that grant more than isthmus has itself."
	whyIdentity  = "Tell clusters apart."
	whyGateways  = "Check that the Gateway API is installed."
	whyChildren  = "Remove what istiod made for gateways."
	whyRestart   = "Restart the proxies of gateways when a root CA is replaced in an emergency, or CAs are revoked."
	whyLeftovers = "Remove what istiod leaves behind."
)

// reasons in the order in which the YAML has them.
var reasons = []string{
	whyIdentity, whyGateways, whyWatch, whyLeave, whySpaces, whyDeliver, whySystem, whyInventory, whySecrets, whyProve, whyPeers,
	whyEscalate, whyBind, whyChildren, whyRestart, whyLeftovers,
}

var (
	deliver = []string{"create", "delete", "get", "patch"}
	leases  = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}
	secrets = schema.GroupResource{Resource: "secrets"}
	configs = schema.GroupResource{Resource: "configmaps"}
	crds    = schema.GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}
	classes = schema.GroupResource{Group: "gateway.networking.k8s.io", Resource: "gatewayclasses"}
	// Of gateways and waypoints.
	proxies = schema.GroupResource{Group: "apps", Resource: "deployments"}
	// Ports of pods, and tokens of accounts.
	portForward = schema.GroupResource{Resource: "pods/portforward"}
	tokens      = schema.GroupResource{Resource: "serviceaccounts/token"}

	allPods = schema.GroupResource{Resource: "pods"}
	spaces  = schema.GroupResource{Resource: "namespaces"}
)

// Of a member that is to have a bundle.
func Of(b bundle.Bundle) Rights {
	w := work{bundle: b, plurals: pluralsOf(b), grants: grants{}, touched: apply.Touched()}
	w.read()
	for _, o := range b.Objects {
		w.deliver(o.Object)
	}
	w.system()
	w.leftovers()
	return w.grants.rights(w.spaces())
}

type work struct {
	bundle  bundle.Bundle
	plurals map[schema.GroupKind]string
	grants  grants
	touched apply.Footprint
}

func (w work) resource(kind schema.GroupKind) schema.GroupResource {
	return schema.GroupResource{Group: kind.Group, Resource: cmp.Or(w.plurals[kind], plural(kind.Kind))}
}

func (w work) has(kind schema.GroupKind) bool {
	return slices.ContainsFunc(w.bundle.Objects, func(o bundle.Object) bool {
		return o.Object.GroupVersionKind().GroupKind() == kind
	})
}

// read grants the lists, and reads that no object of the bundle needs.
func (w work) read() {
	watched := map[schema.GroupResource]bool{configs: true}
	for _, o := range w.bundle.Objects {
		watched[w.resource(o.Object.GroupVersionKind().GroupKind())] = true
	}
	for r := range watched {
		w.grants.add("", r, "", whyWatch, "list", "watch")
	}
	listed := []schema.GroupResource{allPods, spaces, classes}
	for kind := range w.plurals {
		listed = append(listed, w.resource(kind))
	}
	for _, kind := range w.touched.GatewayChildren {
		listed = append(listed, w.resource(kind.GroupKind()))
	}
	for _, r := range listed {
		if !watched[r] {
			w.grants.add("", r, "", whyLeave, "list")
		}
	}
	w.grants.add("", spaces, "kube-system", whyIdentity, "get")
	if !w.has(gateway) {
		return
	}
	for _, name := range w.touched.CRDs {
		w.grants.add("", crds, name, whyGateways, "get")
	}
}

var gateway = schema.GroupKind{Group: "gateway.networking.k8s.io", Kind: "Gateway"}

// deliver grants what one object needs.
func (w work) deliver(o *unstructured.Unstructured) {
	kind, namespace := o.GroupVersionKind().GroupKind(), o.GetNamespace()
	r := w.resource(kind)
	switch {
	case r == spaces:
		w.grants.add("", r, o.GetName(), whySpaces, "get", "patch")
	case namespace == w.bundle.SystemNamespace:
		w.grants.add(namespace, r, "", whySystem, deliver...)
	default:
		w.grants.add(namespace, r, o.GetName(), whyDeliver, deliver...)
	}
	switch {
	case kind == gateway:
		w.children(o)
	case kind.Group != rbacv1.GroupName:
	case strings.HasSuffix(kind.Kind, "Role"):
		w.grants.add(namespace, r, o.GetName(), whyEscalate, "escalate")
	default:
		role, _, _ := unstructured.NestedStringMap(o.Object, "roleRef")
		bound := w.resource(schema.GroupKind{Group: rbacv1.GroupName, Kind: role["kind"]})
		w.grants.add(namespace, bound, role["name"], whyBind, "bind")
	}
}

// children grants the removal of what istiod makes for a Gateway, and the restart of
// its proxies. It is named as the Gateway, with its class behind it unless the class
// is one of the mesh's own.
func (w work) children(o *unstructured.Unstructured) {
	class, _, _ := unstructured.NestedString(o.Object, "spec", "gatewayClassName")
	names := []string{o.GetName(), o.GetName() + "-" + class, o.GetAnnotations()["gateway.istio.io/name-override"]}
	for _, kind := range w.touched.GatewayChildren {
		r := w.resource(kind.GroupKind())
		if o.GetNamespace() == w.bundle.SystemNamespace {
			w.grants.add(o.GetNamespace(), r, "", whySystem, "delete")
			if r == proxies {
				w.grants.add(o.GetNamespace(), r, "", whySystem, "patch")
			}
			continue
		}
		for _, name := range names {
			if name != "" {
				w.grants.add(o.GetNamespace(), r, name, whyChildren, "delete")
				if r == proxies {
					w.grants.add(o.GetNamespace(), r, name, whyRestart, "patch")
				}
			}
		}
	}
}

// spaces are the namespaces of the bundle.
func (w work) spaces() []string {
	var names []string
	for _, o := range w.bundle.Objects {
		if w.resource(o.Object.GroupVersionKind().GroupKind()) == spaces {
			names = append(names, o.Object.GetName())
		}
	}
	return names
}

// system grants what is in the system namespace and in no bundle.
func (w work) system() {
	home := w.bundle.SystemNamespace
	w.grants.add(home, secrets, "", whySecrets, append([]string{"list", "watch"}, deliver...)...)
	w.grants.add(home, configs, "", whySystem, deliver...)
	w.grants.add(home, configs, "", whyInventory, "update")
	w.grants.add(home, portForward, "", whyProve, "create")
	w.grants.add(home, tokens, proof.Account, whyProve, "create")
	w.grants.add(home, tokens, peering.Account, whyPeers, "create")
	w.grants.add(home, leases, "", whyLeftovers, "delete", "list")
}

// leftovers grants the removal of what istiod writes elsewhere.
func (w work) leftovers() {
	for _, name := range w.touched.ConfigMaps {
		w.grants.add("", configs, name, whyLeftovers, "delete")
	}
	for _, name := range w.touched.GatewayClasses {
		w.grants.add("", classes, name, whyLeftovers, "delete", "get")
	}
}

// pluralsOf are the resources of the kinds that the bundle itself defines.
func pluralsOf(b bundle.Bundle) map[schema.GroupKind]string {
	out := map[schema.GroupKind]string{}
	for _, o := range b.Objects {
		if o.Object.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: crds.Group, Kind: "CustomResourceDefinition"}) {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object.Object, "spec", "group")
		names, _, _ := unstructured.NestedMap(o.Object.Object, "spec", "names")
		kind, _ := names["kind"].(string)
		out[schema.GroupKind{Group: group, Kind: kind}], _ = names["plural"].(string)
	}
	return out
}

// plural is the resource of a kind by Kubernetes' own way of naming them.
func plural(kind string) string {
	name := strings.ToLower(kind)
	last := name[max(0, len(name)-1):]
	switch {
	case name == "endpoints":
		return name
	case last == "s" || last == "x" || strings.HasSuffix(name, "ch") || strings.HasSuffix(name, "sh"):
		return name + "es"
	case last == "y" && !strings.HasSuffix(name, "ay") && !strings.HasSuffix(name, "ey") && !strings.HasSuffix(name, "oy"):
		return strings.TrimSuffix(name, "y") + "ies"
	}
	return name + "s"
}
