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

func (s settings) hub(release catalog.Release) string {
	if s.Images == nil {
		return release.Hub
	}
	return cmp.Or(s.Images.Registry, release.Hub)
}

func (s settings) pullSecrets() []any {
	if s.Images == nil {
		return nil
	}
	var names []any
	for _, name := range s.Images.PullSecrets {
		names = append(names, string(name))
	}
	return names
}

func withPullSecrets(global map[string]any, s settings) map[string]any {
	if names := s.pullSecrets(); len(names) > 0 {
		global["imagePullSecrets"] = names
	}
	return global
}

// istiod adds the settings of istiod to its chart's values. A level is for all
// scopes: the chart's "default:…" is for those without a name only.
func (s settings) istiod(values map[string]any) {
	c := s.Istiod
	if c == nil {
		return
	}
	setResources(values, c.Resources)
	if c.LogLevel != "" {
		values["global"].(map[string]any)["logging"] = map[string]any{"level": "all:" + string(c.LogLevel)}
	}
	if c.Replicas == nil {
		return
	}
	least := cmp.Or(deref(c.Replicas.Min), 1)
	values["autoscaleMin"] = int64(least)
	values["autoscaleMax"] = int64(cmp.Or(deref(c.Replicas.Max), max(least, 5)))
}

func (s settings) cni(values map[string]any) {
	setAffinity(values, s.agentNodes())
	c := s.CNI
	if c == nil {
		return
	}
	setResources(values, c.Resources)
	if c.LogLevel != "" {
		values["logging"] = map[string]any{"level": "all:" + string(c.LogLevel)}
	}
}

// drainMargin is what ztunnel keeps of its grace period for itself: it cuts
// connections so long before it would be killed.
const drainMargin = 5 * time.Second

func (s settings) ztunnel(values map[string]any) {
	setAffinity(values, s.agentNodes())
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
		values["terminationGracePeriodSeconds"] = int64((c.Drain.Duration + drainMargin) / time.Second)
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
