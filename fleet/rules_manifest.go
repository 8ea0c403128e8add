package fleet

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// deliverable are the kinds that people's own manifests may have, by API group.
// All are namespaced. A group with no kinds is open: whether it has a kind, the
// CRDs of a release say.
var deliverable = map[string][]string{
	"extensions.istio.io":       nil,
	"networking.istio.io":       nil,
	"security.istio.io":         nil,
	"telemetry.istio.io":        nil,
	"gateway.networking.k8s.io": nil,
	"":                          {"ConfigMap", "Service"},
	"autoscaling":               {"HorizontalPodAutoscaler"},
	"policy":                    {"PodDisruptionBudget"},
}

// deliverableHint names what is delivered, for those who wanted more.
const deliverableHint = "Istio's and the Gateway API's kinds are, and ConfigMap, Service, PodDisruptionBudget and HorizontalPodAutoscaler"

// kindHints say where else a kind belongs.
var kindHints = map[string]string{
	"Namespace":    "name it in spec.namespaces",
	"Secret":       "nothing secret belongs in Git; make it on the member",
	"GatewayClass": "istiod makes its classes itself",
}

func eachManifest(check func(m *Manifest, network *v1alpha1.ApplicationNetworkSpec, report field)) func(*documents, reporter) {
	return func(d *documents, report reporter) {
		for _, m := range d.manifests {
			check(m, &d.network(m.Network).network.Spec, func(path, message, hint string) { report(m.at, path, message, hint) })
		}
	}
}

// invalidResourcesSelector finds selectors that select nothing because they are none.
func invalidResourcesSelector(d *documents, report reporter) {
	for _, at := range d.networks {
		for i, entry := range at.network.Spec.Resources {
			if entry.Members == nil {
				continue
			}
			if _, err := metav1.LabelSelectorAsSelector(entry.Members); err != nil {
				report(at, fmt.Sprintf("spec.resources[%d].members", i), fmt.Sprintf("not a selector: %v", err), "")
			}
		}
	}
}

// resourcesForNobody says nothing when a file could not be read: the member may
// be in there.
func resourcesForNobody(d *documents, report reporter) {
	if !d.whole {
		return
	}
	for _, at := range d.networks {
		for i, entry := range at.network.Spec.Resources {
			selected := &Manifest{Network: at.name, selector: selectorOf(entry.Members)}
			_, err := metav1.LabelSelectorAsSelector(entry.Members)
			if err != nil || entry.Members == nil || slices.ContainsFunc(d.members, func(m *document) bool { return selected.For(m.member) }) {
				continue
			}
			report(at, fmt.Sprintf("spec.resources[%d].members", i), "selects no member of the network", "labels are those of the Member objects")
		}
	}
}

// manifestNotAllowed: what is delivered is about traffic. Whatever gives rights
// or runs on a member is somebody else's to deliver and to answer for.
func manifestNotAllowed(m *Manifest, _ *v1alpha1.ApplicationNetworkSpec, report field) {
	if m.deliverable() {
		return
	}
	gvk := m.Object.GroupVersionKind()
	hint := kindHints[gvk.Kind]
	if hint == "" {
		hint = deliverableHint
	}
	report("kind", fmt.Sprintf("a %s is not delivered", shorten(describeKind(gvk.Group, gvk.Kind))), hint)
}

func (m *Manifest) deliverable() bool {
	gvk := m.Object.GroupVersionKind()
	kinds, open := deliverable[gvk.Group]
	return open && (kinds == nil || slices.Contains(kinds, gvk.Kind)) && gvk.Kind != "GatewayClass"
}

func describeKind(group, kind string) string {
	if group == "" {
		return kind
	}
	return kind + " of " + group
}

// invalidManifest finds what an API server would refuse of any kind, and
// metadata that is not for people to set.
func invalidManifest(m *Manifest, _ *v1alpha1.ApplicationNetworkSpec, report field) {
	if _, ok := m.Object.Object["status"]; ok {
		report("status", "status is written on the member", "remove it")
	}
	metadata, _ := m.Object.Object["metadata"].(map[string]any)
	for name, value := range metadata {
		path := "metadata." + name
		switch name {
		case "name", "namespace":
			if text, ok := value.(string); !ok || len(validation.IsDNS1123Subdomain(text)) > 0 {
				report(path, "not a name", "lower-case letters, digits, dashes and dots, with a letter or digit at both ends")
			}
		case "labels", "annotations":
			invalidKeys(value, name, report)
		default:
			report(join("metadata", name, anyFields), "not for a manifest to set", "it has name, namespace, labels and annotations")
		}
	}
}

// invalidKeys checks the labels or annotations of a manifest.
func invalidKeys(value any, name string, report field) {
	path := "metadata." + name
	fields, ok := value.(map[string]any)
	if !ok && value != nil {
		report(path, "want fields", "")
		return
	}
	for key, value := range fields {
		path := join(path, key, anyFields)
		text, ok := value.(string)
		switch {
		case !ok:
			report(path, "want a string", "write it in quotes")
		case strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/"):
			report(path, "isthmus's own, by which it finds its objects again", "remove it")
		case len(validation.IsQualifiedName(strings.ToLower(key))) > 0:
			report(path, "not a name of "+name, labelForm+", after a domain and a slash if you like")
		case name == "labels" && len(validation.IsValidLabelValue(text)) > 0:
			report(path, fmt.Sprintf("%s is not a label's value", quote(text)), labelForm)
		}
	}
}

// foreignNamespace: a network says which namespaces are in it, and writes into
// no other.
func foreignNamespace(m *Manifest, network *v1alpha1.ApplicationNetworkSpec, report field) {
	namespace := m.Object.GetNamespace()
	var names []string
	for _, declared := range network.Namespaces {
		names = append(names, declared.Name)
	}
	switch {
	case !m.deliverable(), namespace == "" && has(m.Object.Object, "metadata", "namespace"):
		// Another rule says so.
	case namespace == "":
		report("metadata.namespace", "not set", "every manifest says where it goes")
	case namespace != network.DataPlane.Namespace && !slices.Contains(names, namespace):
		report("metadata.namespace", fmt.Sprintf("network %s does not have the namespace %s", quote(m.Network), quote(namespace)),
			"add it to spec.namespaces of the network")
	}
}

// reservedManifest finds objects that belong to isthmus or istiod, whether or
// not they are on a member yet.
func reservedManifest(m *Manifest, network *v1alpha1.ApplicationNetworkSpec, report field) {
	gvk := m.Object.GroupVersionKind()
	name, namespace := m.Object.GetName(), m.Object.GetNamespace()
	system := namespace == network.DataPlane.Namespace
	switch {
	case gvk.Kind == "ConfigMap" && (name == "istio-ca-root-cert" || name == "istio-ca-crl"):
		report("metadata.name", fmt.Sprintf("istiod writes the ConfigMap %s itself", quote(name)), "choose another name")
	case system && !strings.HasSuffix(gvk.Group, ".istio.io") && (strings.HasPrefix(name, "istio") || strings.HasPrefix(name, "isthmus-")):
		report("metadata.name", "names in the system namespace that begin with istio or isthmus- are the mesh's own", "choose another name")
	case gvk.Kind == "Service" && isWaypoint(network, namespace, name):
		report("metadata.name", fmt.Sprintf("istiod makes the Service of waypoint %s itself", quote(name)), "choose another name")
	case gvk.Kind == "PeerAuthentication" && system && !has(m.Object.Object, "spec", "selector"):
		report("spec", "a policy for the whole mesh", "set spec.dataPlane.mtls of the network")
	case gvk.Kind == "Telemetry" && system && setsTelemetry(network) && !has(m.Object.Object, "spec", "selector") && !has(m.Object.Object, "spec", "targetRefs"):
		report("spec", "Istio takes one policy for the whole mesh, and spec.telemetry of the network makes it", "set spec.telemetry, or leave its logs and traces out")
	case gvk.Group == "gateway.networking.k8s.io" && gvk.Kind == "Gateway":
		reservedClass(m, report)
	}
}

// setsTelemetry reports whether the network makes the mesh's own telemetry policy.
func setsTelemetry(network *v1alpha1.ApplicationNetworkSpec) bool {
	return network.Telemetry != nil && (network.Telemetry.AccessLogs != nil || network.Telemetry.Tracing != nil)
}

// reservedClass: gateways between networks are found by their class, on every
// member; one that isthmus does not know would draw traffic.
func reservedClass(m *Manifest, report field) {
	spec, _ := m.Object.Object["spec"].(map[string]any)
	if class, _ := spec["gatewayClassName"].(string); class == "istio-east-west" || class == "istio-remote" {
		report("spec.gatewayClassName", fmt.Sprintf("gateways of class %s are the mesh's own", quote(class)),
			"spec.connectivity of members says where networks meet")
	}
}

func isWaypoint(network *v1alpha1.ApplicationNetworkSpec, namespace, name string) bool {
	return slices.ContainsFunc(network.Namespaces, func(n v1alpha1.MeshNamespace) bool {
		return n.Name == namespace && n.Waypoint != nil && n.Waypoint.Name == name
	})
}

// has reports whether a field below nested fields is there.
func has(fields map[string]any, path ...string) bool {
	for i, name := range path {
		value, ok := fields[name]
		if i == len(path)-1 || !ok {
			return ok
		}
		fields, _ = value.(map[string]any)
	}
	return false
}

// duplicateManifests finds objects that a member would receive twice. What two
// members receive each may have one name.
func duplicateManifests(d *documents, report reporter) {
	type identity struct{ network, group, kind, namespace, name string }
	first := map[identity][]*Manifest{}
	for _, m := range d.manifests {
		gvk := m.Object.GroupVersionKind()
		id := identity{m.Network, gvk.Group, gvk.Kind, m.Object.GetNamespace(), m.Object.GetName()}
		for _, other := range first[id] {
			if !d.meet(m, other) {
				continue
			}
			report(m.at, "metadata.name", fmt.Sprintf("the %s %s is already in %s", shorten(id.kind), quote(id.name), other.at.position("metadata.name")), "")
			break
		}
		first[id] = append(first[id], m)
	}
}

// meet reports whether a member may receive both manifests.
func (d *documents) meet(a, b *Manifest) bool {
	return a.index == b.index || a.selector.Empty() && b.selector.Empty() ||
		slices.ContainsFunc(d.members, func(m *document) bool { return a.For(m.member) && b.For(m.member) })
}
