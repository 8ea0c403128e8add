package ambient

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// settings turn what a fleet says about components into values of the charts.
// What is left out is left to the charts.
type settings struct{ v1alpha1.Components }

// settings returns the settings of the mesh.
func (m mesh) settings() (settings, error) {
	var s settings
	if m.components == "" {
		return s, nil
	}
	if err := json.Unmarshal([]byte(m.components), &s.Components); err != nil {
		return s, fmt.Errorf("decode components: %w", err)
	}
	return s, nil
}

// encodeSettings returns the settings as a key: equal settings, equal keys.
func encodeSettings(components v1alpha1.Components) (string, error) {
	if components == (v1alpha1.Components{}) {
		return "", nil
	}
	encoded, err := json.Marshal(components)
	if err != nil {
		return "", fmt.Errorf("encode components: %w", err)
	}
	return string(encoded), nil
}

// istiod adds the settings of istiod to its chart's values. A level is for all
// scopes: the chart's "default:…" is for those without a name only.
func (s settings) istiod(release catalog.Release, values map[string]any) {
	global := values["global"].(map[string]any)
	if classes := s.gatewayClasses(); len(classes) > 0 {
		values["gatewayClasses"] = classes
	}
	if digests := s.digests(release); digests != nil {
		values["image"] = s.pinned(release, "pilot", digests.Pilot)
		global["proxy"] = map[string]any{"image": s.pinned(release, "proxyv2", digests.Proxy)}
	}
	c := s.Istiod
	if c == nil {
		return
	}
	setResources(values, c.Resources)
	if c.LogLevel != "" {
		global["logging"] = map[string]any{"level": "all:" + string(c.LogLevel)}
	}
	if c.Replicas == nil {
		return
	}
	values["autoscaleMin"], values["autoscaleMax"] = bounds(c.Replicas)
}

// bounds of an autoscaler as the charts have it where the fleet says nothing.
func bounds(r *v1alpha1.Replicas) (least, most int64) {
	least = int64(cmp.Or(deref(r.Min), 1))
	return least, cmp.Or(int64(deref(r.Max)), max(least, 5))
}

// gatewayClasses are what istiod lays over the workloads that it makes for
// gateways of a class.
func (s settings) gatewayClasses() map[string]any {
	classes := map[string]any{}
	for class, proxy := range map[string]*v1alpha1.Proxy{classEastWest: s.EastWestGateway, ClassWaypoint: s.Waypoints} {
		overlay := map[string]any{}
		if proxy == nil {
			continue
		}
		if proxy.Resources != nil {
			container := map[string]any{"name": "istio-proxy"}
			setResources(container, proxy.Resources)
			overlay["deployment"] = map[string]any{"spec": map[string]any{"template": map[string]any{
				"spec": map[string]any{"containers": []any{container}},
			}}}
		}
		if proxy.Replicas != nil {
			least, most := bounds(proxy.Replicas)
			overlay["horizontalPodAutoscaler"] = map[string]any{"spec": map[string]any{"minReplicas": least, "maxReplicas": most}}
		}
		if len(overlay) > 0 {
			classes[class] = overlay
		}
	}
	return classes
}

func (s settings) cni(release catalog.Release, values map[string]any) {
	setAffinity(values, s.agentNodes())
	if digests := s.digests(release); digests != nil {
		values["image"] = s.pinned(release, "install-cni", digests.CNI)
	}
	c := s.CNI
	if c == nil {
		return
	}
	setResources(values, c.Resources)
	if c.LogLevel != "" {
		values["logging"] = map[string]any{"level": "all:" + string(c.LogLevel)}
	}
}

// DrainMargin is what ztunnel keeps of its grace period for itself: it cuts
// connections so long before it would be killed.
const DrainMargin = 5 * time.Second

func (s settings) ztunnel(release catalog.Release, values map[string]any) {
	setAffinity(values, s.agentNodes())
	if digests := s.digests(release); digests != nil {
		values["image"] = s.pinned(release, "ztunnel", digests.Ztunnel)
	}
	if names := s.pullSecrets(); len(names) > 0 {
		values["imagePullSecrets"] = names
	}
	c := s.Ztunnel
	if c == nil {
		return
	}
	setResources(values, c.Resources)
	if c.LogLevel != "" {
		values["logLevel"] = string(c.LogLevel)
	}
	if c.Drain != nil {
		values["terminationGracePeriodSeconds"] = int64((c.Drain.Duration + DrainMargin) / time.Second)
	}
}

// setResources writes quantities in Kubernetes' own form. A limit without a
// request is the request too: the chart's request might be more than the limit.
func setResources(values map[string]any, r *v1alpha1.Resources) {
	if r == nil {
		return
	}
	requests, limits := map[string]any{}, map[string]any{}
	set := func(into map[string]any, from *v1alpha1.Quantities) {
		if from == nil {
			return
		}
		for name, text := range map[string]string{"cpu": from.CPU, "memory": from.Memory} {
			if text != "" {
				into[name] = canonical(text)
			}
		}
	}
	set(requests, r.Limits)
	set(requests, r.Requests)
	set(limits, r.Limits)
	resources := map[string]any{"requests": requests}
	if len(limits) > 0 {
		resources["limits"] = limits
	}
	values["resources"] = resources
}

func canonical(quantity string) string {
	parsed, err := resource.ParseQuantity(quantity)
	if err != nil {
		return quantity // loading has refused it
	}
	return parsed.String()
}

// nodeSelector is where istiod and gateways may run.
func (s settings) nodeSelector() map[string]any {
	selector := map[string]any{"kubernetes.io/os": "linux"}
	if s.Nodes != nil {
		for key, value := range s.Nodes.Selector {
			selector[key] = value
		}
	}
	return selector
}

// agentNodes are the conditions on the nodes of the agents. They tolerate every
// taint and so would be put on the virtual nodes of AKS: those run no privileged
// pods, and a pod that never starts there holds up every rollout. The selector
// is an affinity because the CNI agent's chart has no other.
func (s settings) agentNodes() []any {
	var conditions []any
	if s.Nodes == nil || s.Nodes.ExcludeVirtual == nil || *s.Nodes.ExcludeVirtual {
		conditions = append(conditions, condition("type", "NotIn", "virtual-kubelet"))
	}
	if s.Nodes != nil {
		for _, key := range slices.Sorted(maps.Keys(s.Nodes.Selector)) {
			conditions = append(conditions, condition(key, "In", s.Nodes.Selector[key]))
		}
	}
	return conditions
}

func condition(key, operator, value string) map[string]any {
	return map[string]any{"key": key, "operator": operator, "values": []any{value}}
}

func setAffinity(values map[string]any, conditions []any) {
	if len(conditions) == 0 {
		return
	}
	values["affinity"] = map[string]any{"nodeAffinity": map[string]any{
		"requiredDuringSchedulingIgnoredDuringExecution": map[string]any{
			"nodeSelectorTerms": []any{map[string]any{"matchExpressions": conditions}},
		},
	}}
}

// seconds is a duration as Go, istiod, ztunnel and the gateways' agents all read
// it.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) + "s" }

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}
