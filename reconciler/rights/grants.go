package rights

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// grant is the verbs on a kind, in the cluster or a namespace, for one reason.
// Named says whether they are for single objects.
type grant struct {
	namespace string
	resource  schema.GroupResource
	why       string
	named     bool
}

// granted are the verbs of a grant, and the names.
type granted struct{ verbs, names map[string]bool }

type grants map[grant]granted

// add grants verbs; an empty namespace means the cluster, an empty name all names.
func (g grants) add(namespace string, r schema.GroupResource, name, why string, verbs ...string) {
	key := grant{namespace, r, why, name != ""}
	if g[key].verbs == nil {
		g[key] = granted{map[string]bool{}, map[string]bool{}}
	}
	for _, verb := range verbs {
		g[key].verbs[verb] = true
	}
	if name != "" {
		g[key].names[name] = true
	}
}

// rights merges kinds of one group that have the same verbs and names. Namespaces
// are listed also where nothing is granted in them.
func (g grants) rights(namespaces []string) Rights {
	merged := map[string]map[string]*Rule{"": {}}
	for _, namespace := range namespaces {
		merged[namespace] = map[string]*Rule{}
	}
	for key, what := range g {
		rule := Rule{Why: key.why, PolicyRule: rbacv1.PolicyRule{
			APIGroups: []string{key.resource.Group},
			Verbs:     slices.Sorted(maps.Keys(what.verbs)), ResourceNames: slices.Sorted(maps.Keys(what.names)),
		}}
		same := strings.Join([]string{
			key.why, key.resource.Group, strings.Join(rule.Verbs, " "), strings.Join(rule.ResourceNames, " ")}, "|")
		if merged[key.namespace] == nil {
			merged[key.namespace] = map[string]*Rule{}
		}
		if merged[key.namespace][same] == nil {
			merged[key.namespace][same] = &rule
		}
		into := merged[key.namespace][same]
		into.Resources = append(into.Resources, key.resource.Resource)
	}
	var out Rights
	for _, namespace := range slices.Sorted(maps.Keys(merged)) {
		rules := sorted(merged[namespace])
		if namespace == "" {
			out.Cluster = rules
			continue
		}
		out.Namespaces = append(out.Namespaces, Namespaced{namespace, rules})
	}
	return out
}

func sorted(merged map[string]*Rule) []Rule {
	var rules []Rule
	for _, rule := range merged {
		slices.Sort(rule.Resources)
		rules = append(rules, *rule)
	}
	slices.SortFunc(rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(slices.Index(reasons, a.Why), slices.Index(reasons, b.Why)), slices.Compare(a.APIGroups, b.APIGroups), slices.Compare(a.Resources, b.Resources))
	})
	return rules
}
