package apply

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Drift says what becomes of differences that others made. The zero value puts
// everything back.
type Drift struct {
	// Report leaves what others changed as it is, for objects that do not say
	// otherwise by [v1alpha1.DriftAnnotation]. Secrets of the set are put back
	// in any case.
	Report bool
	// Ignore names fields that others may take, beside [OthersFields].
	Ignore []v1alpha1.DriftIgnore
	// Hold tells which objects are not to be put back for now, because somebody
	// keeps changing them; nil for none.
	Hold func(Subject) bool
}

// OthersField is a field that one manager may take on every member.
type OthersField struct {
	v1alpha1.DriftIgnore
	// Manager that may; what anybody else does to the field is drift.
	Manager string
}

// OthersFields is the one list of fields that others take everywhere. Much
// needs no entry, because it is not part of what we apply: the caBundle of
// webhooks and CRDs, replicas of what an autoscaler scales, istiod's annotations
// on Gateways, and every status.
var OthersFields = []OthersField{
	// It keeps webhooks away from the namespaces that AKS runs itself in.
	{Manager: "admissionsenforcer", DriftIgnore: v1alpha1.DriftIgnore{
		Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration",
		Fields: []v1alpha1.JSONPointer{"/webhooks/*/namespaceSelector"}}},
	{Manager: "admissionsenforcer", DriftIgnore: v1alpha1.DriftIgnore{
		Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration",
		Fields: []v1alpha1.JSONPointer{"/webhooks/*/namespaceSelector"}}},
}

// reports says whether drift of an object is only reported.
func (d Drift) reports(o *unstructured.Unstructured) bool {
	switch v1alpha1.DriftMode(o.GetAnnotations()[v1alpha1.DriftAnnotation]) {
	case v1alpha1.DriftReport:
		return true
	case v1alpha1.DriftCorrect:
		return false
	}
	return d.Report
}

// othersFields are the rules about the fields of one object.
func (d Drift) othersFields(s Subject) []OthersField {
	var rules []OthersField
	for _, rule := range d.Ignore {
		rules = append(rules, OthersField{DriftIgnore: rule})
	}
	return slices.DeleteFunc(append(rules, OthersFields...), func(rule OthersField) bool {
		return rule.Group != s.Group || rule.Kind != s.Kind ||
			rule.Namespace != "" && rule.Namespace != s.Namespace || rule.Name != "" && rule.Name != s.Name
	})
}

// withoutTaken is the object without those of the fields that somebody else owns. A
// field that nobody else has taken stays: leaving it out would delete it.
func withoutTaken(o *unstructured.Unstructured, rules []OthersField, managers []metav1.ManagedFieldsEntry) *unstructured.Unstructured {
	out := o
	for _, rule := range rules {
		others := ownedBesideUs(managers, rule.Manager)
		for _, field := range rule.Fields {
			for _, at := range expand(o.Object, strings.Split(string(field), "/")[1:], location{}) {
				if !owns(others, at.path) {
					continue
				}
				if out == o {
					out = o.DeepCopy()
				}
				drop(out.Object, at.steps)
			}
		}
	}
	return out
}

// ownedBesideUs are the fields that another manager owns: the one named, or
// any. Those of a status are no part of it; those of the scale are.
func ownedBesideUs(managers []metav1.ManagedFieldsEntry, name string) *fieldpath.Set {
	all := fieldpath.NewSet()
	for _, entry := range managers {
		if entry.Manager == FieldManager || entry.Subresource == "status" || entry.FieldsV1 == nil ||
			name != "" && entry.Manager != name {
			continue
		}
		var owned fieldpath.Set
		if err := owned.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err != nil {
			continue // of a form that we do not know: then our own holds
		}
		all = all.Union(&owned)
	}
	return all
}

// location is a field of one object: the steps to it, and the path by which
// managed fields name it.
type location struct {
	steps []any // string for a map's key, int for a list's index
	path  fieldpath.Path
}

func (l location) key(name string) location {
	return location{append(slices.Clone(l.steps), name), append(l.path.Copy(), fieldpath.PathElement{FieldName: &name})}
}

func (l location) item(index int, item any) (location, bool) {
	fields, _ := item.(map[string]any)
	name, named := fields["name"].(string)
	if !named {
		return location{}, false
	}
	key := value.FieldList{{Name: "name", Value: value.NewValueInterface(name)}}
	return location{append(slices.Clone(l.steps), index), append(l.path.Copy(), fieldpath.PathElement{Key: &key})}, true
}

// expand finds the fields that a pointer means in an object: through a list by
// the name of an item, or by "*" through all of its named items.
func expand(at any, pointer []string, so location) []location {
	if len(pointer) == 0 {
		return []location{so}
	}
	step := strings.NewReplacer("~1", "/", "~0", "~").Replace(pointer[0])
	var found []location
	switch node := at.(type) {
	case map[string]any:
		if below, there := node[step]; there {
			return expand(below, pointer[1:], so.key(step))
		}
	case []any:
		for i, item := range node {
			next, named := so.item(i, item)
			if !named {
				continue
			}
			fields, _ := item.(map[string]any)
			if step == "*" || step == fields["name"] || step == strconv.Itoa(i) {
				found = append(found, expand(item, pointer[1:], next)...)
			}
		}
	}
	return found
}

// owns reports whether a set has a field, something below it, or a whole above
// it that cannot be owned in parts.
func owns(set *fieldpath.Set, path fieldpath.Path) bool {
	for i := 1; i < len(path); i++ {
		if set.Has(path[:i]) && below(set, path[:i]).Empty() {
			return true
		}
	}
	return set.Has(path) || !below(set, path).Empty()
}

// below are the fields of a set below a path.
func below(set *fieldpath.Set, path fieldpath.Path) *fieldpath.Set {
	for _, step := range path {
		set = set.WithPrefix(step)
	}
	return set
}

// drop removes a field from an object.
func drop(object map[string]any, steps []any) {
	var at any = object
	for _, step := range steps[:len(steps)-1] {
		switch node := at.(type) {
		case map[string]any:
			at = node[step.(string)]
		case []any:
			at = node[step.(int)]
		}
	}
	if node, ok := at.(map[string]any); ok {
		if last, ok := steps[len(steps)-1].(string); ok {
			delete(node, last)
		}
	}
}
