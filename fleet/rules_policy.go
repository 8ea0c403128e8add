package fleet

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// An AuthorizationPolicy without targetRefs is enforced by ztunnel, which knows
// connections and not requests.
// Source: https://istio.io/latest/docs/ambient/usage/l4-policy/

// ztunnelPolicy returns the spec of an AuthorizationPolicy that ztunnel enforces
// in a namespace of the mesh, and that namespace.
func ztunnelPolicy(m *Manifest, network *v1alpha1.ApplicationNetworkSpec) (map[string]any, *v1alpha1.MeshNamespace) {
	gvk := m.Object.GroupVersionKind()
	if gvk.Group != "security.istio.io" || gvk.Kind != "AuthorizationPolicy" {
		return nil, nil
	}
	spec, _ := m.Object.Object["spec"].(map[string]any)
	if spec == nil || spec["targetRefs"] != nil || spec["targetRef"] != nil || selectsGateways(spec) {
		return nil, nil
	}
	for i, namespace := range network.Namespaces {
		if namespace.Name == m.Object.GetNamespace() && namespace.Ambient {
			return spec, &network.Namespaces[i]
		}
	}
	return nil, nil
}

// selectsGateways reports whether the selector names a gateway, which enforces
// what it is given itself.
func selectsGateways(spec map[string]any) bool {
	selector, _ := spec["selector"].(map[string]any)
	matched, _ := selector["matchLabels"].(map[string]any)
	for _, key := range []string{"gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name", "istio"} {
		if matched[key] != nil {
			return true
		}
	}
	return false
}

// waypointShutOut warns of a policy that admits callers and not the waypoint
// through which they come. Policies of one workload add up, so one that admits
// it is enough.
func waypointShutOut(d *documents, report reporter) {
	type place struct{ network, namespace string }
	admitting := map[place][]*Manifest{}
	var shut []*Manifest
	for _, m := range d.manifests {
		caller, rules := callersOf(m, &d.network(m.Network).network.Spec)
		switch {
		case len(rules) == 0:
		case slices.ContainsFunc(rules, caller.admitted):
			at := place{m.Network, caller.namespace}
			admitting[at] = append(admitting[at], m)
		default:
			shut = append(shut, m)
		}
	}
	for _, m := range shut {
		caller, _ := callersOf(m, &d.network(m.Network).network.Spec)
		if slices.ContainsFunc(admitting[place{m.Network, caller.namespace}], m.joinedBy) {
			continue
		}
		report(m.at, "spec.rules", fmt.Sprintf("shuts out the waypoint %s, through which callers of the namespace's services come", quote(caller.account)),
			fmt.Sprintf("admit principal %q here or in another policy, or attach the policy with targetRefs", caller))
	}
}

// callersOf returns the rules of a policy that ztunnel enforces by admitting
// callers, in a namespace whose callers come through the returned waypoint.
func callersOf(m *Manifest, network *v1alpha1.ApplicationNetworkSpec) (waypoint principal, rules []map[string]any) {
	spec, namespace := ztunnelPolicy(m, network)
	if spec == nil || namespace.Waypoint == nil || !isAction(spec, "ALLOW") {
		return principal{}, nil
	}
	return principal{network.Trust.Domain, namespace.Name, namespace.Waypoint.Name}, items(spec["rules"])
}

// joinedBy reports whether the other policy holds for every workload that this
// one is for.
func (m *Manifest) joinedBy(other *Manifest) bool {
	selector, _, _ := unstructured.NestedMap(other.Object.Object, "spec", "selector", "matchLabels")
	own, _, _ := unstructured.NestedMap(m.Object.Object, "spec", "selector", "matchLabels")
	for key, value := range selector {
		if own[key] != value {
			return false
		}
	}
	return true
}

func isAction(spec map[string]any, action string) bool {
	written, ok := spec["action"].(string)
	return written == action || !ok && action == "ALLOW"
}

// principal is the identity of a workload.
type principal struct{ trustDomain, namespace, account string }

// String returns the principal as policies write it.
func (p principal) String() string {
	return p.trustDomain + "/ns/" + p.namespace + "/sa/" + p.account
}

// admitted reports whether the rule may admit the principal. A rule with
// conditions may: what they come to is not worked out here.
func (p principal) admitted(rule map[string]any) bool {
	sources := items(rule["from"])
	if len(sources) == 0 || len(items(rule["when"])) > 0 {
		return true
	}
	return slices.ContainsFunc(sources, func(from map[string]any) bool {
		source, _ := from["source"].(map[string]any)
		accounts := texts(source["serviceAccounts"])
		return matchesAny(texts(source["principals"]), p.String()) &&
			matchesAny(texts(source["namespaces"]), p.namespace) &&
			(len(accounts) == 0 || slices.Contains(accounts, p.account) || slices.Contains(accounts, p.namespace+"/"+p.account))
	})
}

// matchesAny reports whether a list that says nothing, or one of its patterns,
// admits the value: Istio's patterns begin or end with a star.
func matchesAny(patterns []string, value string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
		switch {
		case strings.HasPrefix(pattern, "*"):
			return strings.HasSuffix(value, pattern[1:])
		case strings.HasSuffix(pattern, "*"):
			return strings.HasPrefix(value, pattern[:len(pattern)-1])
		}
		return pattern == value
	})
}

// Conditions that only a proxy of requests can check.
var (
	requestSources    = []string{"requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"}
	requestOperations = []string{"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"}
	connectionKeys    = []string{"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"}
)

// policyNotEnforced warns of conditions on requests in a policy that ztunnel
// enforces: there an ALLOW rule with one admits nobody, and a DENY rule refuses
// whatever else it says.
func policyNotEnforced(m *Manifest, network *v1alpha1.ApplicationNetworkSpec, report field) {
	spec, _ := ztunnelPolicy(m, network)
	if spec == nil || !isAction(spec, "ALLOW") && !isAction(spec, "DENY") {
		return
	}
	effect := "so the rule admits nobody"
	if isAction(spec, "DENY") {
		effect = "so the rule refuses without it"
	}
	for i, rule := range items(spec["rules"]) {
		for _, path := range requestConditions(rule) {
			report(fmt.Sprintf("spec.rules[%d].%s", i, path), "ztunnel does not see requests, "+effect,
				"attach the policy to a Service with targetRefs: its waypoint sees them")
		}
	}
}

// requestConditions returns the paths of a rule's conditions on requests.
func requestConditions(rule map[string]any) []string {
	var out []string
	collect := func(list, holder string, names []string) {
		for i, item := range items(rule[list]) {
			fields, _ := item[holder].(map[string]any)
			for _, name := range names {
				if fields[name] != nil {
					out = append(out, fmt.Sprintf("%s[%d].%s.%s", list, i, holder, name))
				}
			}
		}
	}
	collect("from", "source", requestSources)
	collect("to", "operation", requestOperations)
	for i, condition := range items(rule["when"]) {
		if key, _ := condition["key"].(string); !slices.Contains(connectionKeys, key) {
			out = append(out, fmt.Sprintf("when[%d].key", i))
		}
	}
	return out
}

// items returns the fields of each item of a list; an item that has none is nil.
func items(list any) []map[string]any {
	values, _ := list.([]any)
	out := make([]map[string]any, len(values))
	for i, value := range values {
		out[i], _ = value.(map[string]any)
	}
	return out
}

// texts returns the strings of a list.
func texts(list any) []string {
	values, _ := list.([]any)
	out := make([]string, 0, len(values))
	for _, value := range values {
		if text, ok := value.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// waypointForSome: peers take a waypoint to be on every member. It says nothing
// when a file could not be read: what the members are is not known then.
func waypointForSome(d *documents, report reporter) {
	for _, m := range d.manifests {
		class, _, _ := unstructured.NestedString(m.Object.Object, "spec", "gatewayClassName")
		if m.Object.GetKind() != "Gateway" || class != "istio-waypoint" || !d.whole {
			continue
		}
		for _, at := range d.members {
			if at.member.Spec.ApplicationNetwork == m.Network && !m.For(at.member) {
				report(m.at, "spec.gatewayClassName", fmt.Sprintf("member %s does not receive this waypoint", quote(at.name)),
					"Istio needs the same waypoints on every member: deliver it to all, or name it in spec.namespaces")
				break
			}
		}
	}
}
