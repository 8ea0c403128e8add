package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// longestDrain is what a node's proxy may take to go: a day.
const longestDrain = 24 * time.Hour

// finding is a field below spec.components and what is wrong with it.
type finding struct{ path, message, hint string }

// invalidComponents checks what is in effect, since a member's limit may be
// below its network's request. What the network gets wrong itself is told there.
func invalidComponents(d *documents, report reporter) {
	for _, at := range d.networks {
		for _, f := range componentFindings(at.network.Spec.Components) {
			report(at, "spec.components."+f.path, f.message, f.hint)
		}
	}
	for _, at := range d.members {
		if at.member.Spec.Components == nil {
			continue
		}
		network := d.network(at.member.Spec.ApplicationNetwork)
		if network == nil {
			continue // unknownNetworks says so
		}
		effective, err := ComponentsOf(network.network, at.member)
		if err != nil {
			report(at, "spec.components", err.Error(), "")
			continue
		}
		inherited := componentFindings(network.network.Spec.Components)
		for _, f := range componentFindings(&effective) {
			if !slices.Contains(inherited, f) {
				report(at, "spec.components."+f.path, f.message, f.hint)
			}
		}
	}
}

func componentFindings(components *v1alpha1.Components) []finding {
	if components == nil {
		return nil
	}
	var out []finding
	tell := func(path, message, hint string) { out = append(out, finding{path, message, hint}) }
	if c := components.Istiod; c != nil {
		invalidResources(c.Resources, "istiod.resources", tell)
		invalidReplicas(c.Replicas, "istiod.replicas", tell)
	}
	for _, proxies := range []struct {
		path string
		*v1alpha1.Proxy
	}{{"eastWestGateway", components.EastWestGateway}, {"waypoints", components.Waypoints}} {
		if proxies.Proxy != nil {
			invalidResources(proxies.Resources, proxies.path+".resources", tell)
			invalidReplicas(proxies.Replicas, proxies.path+".replicas", tell)
		}
	}
	if c := components.Ztunnel; c != nil {
		invalidResources(c.Resources, "ztunnel.resources", tell)
		if c.Drain != nil && (c.Drain.Duration < time.Second || c.Drain.Duration > longestDrain || c.Drain.Duration%time.Second != 0) {
			tell("ztunnel.drain", fmt.Sprintf("%s is not whole seconds from 1s to %s", hours(c.Drain.Duration), hours(longestDrain)), "")
		}
	}
	if c := components.CNI; c != nil {
		invalidResources(c.Resources, "cni.resources", tell)
	}
	if components.Nodes != nil {
		invalidSelector(components.Nodes.Selector, tell)
	}
	return out
}

func invalidReplicas(replicas *v1alpha1.Replicas, path string, report field) {
	if replicas != nil && replicas.Min != nil && replicas.Max != nil && *replicas.Min > *replicas.Max {
		report(path, fmt.Sprintf("min %d is more than max %d", *replicas.Min, *replicas.Max), "")
	}
}

func invalidResources(resources *v1alpha1.Resources, path string, report field) {
	if resources == nil || resources.Requests == nil || resources.Limits == nil {
		return
	}
	for _, pair := range []struct{ name, request, limit string }{
		{"cpu", resources.Requests.CPU, resources.Limits.CPU},
		{"memory", resources.Requests.Memory, resources.Limits.Memory},
	} {
		request, errRequest := resource.ParseQuantity(pair.request)
		limit, errLimit := resource.ParseQuantity(pair.limit)
		if errRequest == nil && errLimit == nil && request.Cmp(limit) > 0 {
			report(path, fmt.Sprintf("the %s request %s is more than the limit %s", pair.name, quote(pair.request), quote(pair.limit)), "")
		}
	}
}

func invalidSelector(selector map[string]string, report field) {
	for key, value := range selector {
		path := "nodes.selector[" + key + "]"
		switch {
		case key == "kubernetes.io/os":
			report(path, "the mesh runs on Linux nodes only", "remove it")
		case len(validation.IsQualifiedName(key)) > 0:
			report(path, "not a label's name", labelForm+", after a domain and a slash if you like")
		case len(validation.IsValidLabelValue(value)) > 0 || strings.TrimSpace(value) == "":
			report(path, fmt.Sprintf("%s is not a label's value", quote(value)), labelForm)
		}
	}
}
