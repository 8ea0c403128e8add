package diff

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// Action is what a delivery does with an object.
type Action string

// The actions.
const (
	Create Action = "Create"
	Change Action = "Change"
	// Recreate deletes and makes anew: a binding's role cannot change.
	Recreate Action = "Recreate"
	Remove   Action = "Remove"
	// Release gives up our fields of an object that stays.
	Release Action = "Release"
)

// Actions in the order in which they are counted.
var Actions = []Action{Create, Change, Recreate, Remove, Release}

// ObjectChange is one change of an object, on all the members where it is the same.
type ObjectChange struct {
	Action    Action           `json:"action"`
	Component bundle.Component `json:"component"`
	// APIVersion, Kind, Namespace and Name identify the object.
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	// Restarts says that its pods are replaced.
	Restarts bool `json:"restarts,omitempty"`
	// Fields that change, sorted by path; only with action Change or Recreate. Where
	// they have a member's own name in them, {member} stands for it.
	Fields []FieldChange `json:"fields,omitempty"`
	// MoreFields is how many more there are, as in a CRD of another release.
	MoreFields int `json:"moreFields,omitempty"`
	// Members that it happens on, sorted.
	Members []string `json:"members"`

	// before and after are the object on the first of the members.
	before, after *unstructured.Unstructured
}

// mostFields of one object are told.
const mostFields = 40

// Before is the object on the first of the members as it was, nil for one that is
// created. It must not be changed.
func (c ObjectChange) Before() map[string]any { return contentOf(c.before) }

// After is the object on the first of the members as it will be, nil for one that
// goes. It must not be changed.
func (c ObjectChange) After() map[string]any { return contentOf(c.after) }

func contentOf(object *unstructured.Unstructured) map[string]any {
	if object == nil {
		return nil
	}
	return object.Object
}

// FieldChange is one field with another value.
type FieldChange struct {
	// Path of the field, such as "spec.template.spec.containers[istio-proxy].image".
	Path string `json:"path"`
	// Before and After are its values as JSON; empty where there is none.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// change is one change of an object on one member.
type change struct {
	action        Action
	stage         bundle.Stage
	before, after *unstructured.Unstructured
	fields        []FieldChange
	restarts      bool
}

// object is the one that is left, or that was.
func (c change) object() *unstructured.Unstructured {
	if c.after != nil {
		return c.after
	}
	return c.before
}

func (c change) component() bundle.Component {
	return bundle.Component(c.object().GetLabels()[bundle.ComponentLabel])
}

// comparer keeps what it has worked out: members of one release share most of
// their objects.
type comparer struct {
	// known by the digests of both objects.
	known map[[2]string]change
	texts texts
}

func newComparer() *comparer { return &comparer{known: map[[2]string]change{}, texts: texts{}} }

// bundles returns what the change from one bundle to another does, in the order of
// delivery, removals last.
func (c *comparer) bundles(before, after bundle.Bundle) []change {
	if before.Digest == after.Digest {
		return nil
	}
	old := make(map[bundle.Identity]bundle.Object, len(before.Objects))
	for _, o := range before.Objects {
		old[bundle.IdentityOf(o.Object)] = o
	}
	var out []change
	for _, o := range after.Objects {
		id := bundle.IdentityOf(o.Object)
		was, existed := old[id]
		delete(old, id)
		switch {
		case !existed:
			out = append(out, change{action: Create, stage: o.Stage, after: o.Object})
		case was.Digest != o.Digest:
			out = append(out, c.objects(was, o))
		}
	}
	for _, o := range slices.Backward(before.Objects) {
		if _, gone := old[bundle.IdentityOf(o.Object)]; gone {
			action := Remove
			if deletion.Released(o.Object) {
				action = Release
			}
			out = append(out, change{action: action, stage: o.Stage, before: o.Object})
		}
	}
	return out
}

// removal is what becomes of an object of a member that leaves.
func removal(object *unstructured.Unstructured) Action {
	if object.GetAnnotations()[bundle.PruneAnnotation] == bundle.PruneRelease {
		return Release
	}
	return Remove
}

// objects compares two objects of one identity.
func (c *comparer) objects(before, after bundle.Object) change {
	key := [2]string{before.Digest, after.Digest}
	if known, ok := c.known[key]; ok {
		return known
	}
	out := change{action: Change, stage: after.Stage, before: before.Object, after: after.Object}
	out.fields = c.texts.changes(before.Object.Object, after.Object.Object)
	switch {
	case isBinding(after.Object) && out.touches("roleRef"):
		out.action = Recreate
	case hasPods(after.Object) && out.touches("spec.template"):
		out.restarts = !onDelete(after.Object)
	}
	c.known[key] = out
	return out
}

// touches tells whether a field changes, or one below it.
func (c change) touches(path string) bool {
	return slices.ContainsFunc(c.fields, func(f FieldChange) bool {
		rest, below := strings.CutPrefix(f.Path, path)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func isBinding(object *unstructured.Unstructured) bool {
	return object.GetKind() == "ClusterRoleBinding" || object.GetKind() == "RoleBinding"
}

func hasPods(object *unstructured.Unstructured) bool {
	return slices.Contains([]string{"Deployment", "DaemonSet", "StatefulSet"}, object.GetKind())
}

// onDelete: pods stay until somebody deletes them.
func onDelete(object *unstructured.Unstructured) bool {
	strategy, _, _ := unstructured.NestedString(object.Object, "spec", "updateStrategy", "type")
	return strategy == "OnDelete"
}

// objectChanges are those of the members that stay, the same ones as one.
func (s *scene) objectChanges() []ObjectChange {
	out := []ObjectChange{}
	at := map[string]int{}
	ranks := []int{}
	s.each(func(name string, _, after view) {
		for _, c := range s.changes[name] {
			fields := inGeneral(c.fields, name, after.member.Spec.Connectivity.Network)
			key := keyOf(c, fields)
			if i, known := at[key]; known {
				out[i].Members = append(out[i].Members, name)
				continue
			}
			at[key] = len(out)
			ranks = append(ranks, rank(c))
			o := c.object()
			out = append(out, ObjectChange{
				Action: c.action, Component: c.component(),
				APIVersion: o.GetAPIVersion(), Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(),
				Restarts: c.restarts, Fields: fields[:min(mostFields, len(fields))], MoreFields: max(0, len(fields)-mostFields),
				Members: []string{name},
				before:  c.before, after: c.after,
			})
		}
	})
	return sortedBy(out, ranks)
}

// rank orders changes as they are delivered.
func rank(c change) int {
	stage := slices.Index(bundle.Stages, c.stage)
	if c.action == Remove || c.action == Release {
		return 2*len(bundle.Stages) - stage
	}
	return stage
}

// sortedBy sorts by rank, then by what identifies the object.
func sortedBy(changes []ObjectChange, ranks []int) []ObjectChange {
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if ranks[a] != ranks[b] {
			return ranks[a] - ranks[b]
		}
		return strings.Compare(changes[a].identify(), changes[b].identify())
	})
	out := make([]ObjectChange, len(changes))
	for i, from := range order {
		out[i] = changes[from]
	}
	return out
}

// identify is "Kind namespace/name".
func (c ObjectChange) identify() string {
	if c.Namespace != "" {
		return c.Kind + " " + c.Namespace + "/" + c.Name
	}
	return c.Kind + " " + c.Name
}

// keyOf is equal for changes that are the same thing on different members.
func keyOf(c change, fields []FieldChange) string {
	id := bundle.IdentityOf(c.object())
	parts := []string{string(c.action), id.String()}
	for _, f := range fields {
		parts = append(parts, f.Path, f.Before, f.After)
	}
	return strings.Join(parts, "\x00")
}

// inGeneral puts {member} and {network} in place of a member's own name and pod
// network, so that what is the same on all of them reads the same.
func inGeneral(fields []FieldChange, member, network string) []FieldChange {
	general := strings.NewReplacer(`"`+member+`"`, `"{member}"`, `"`+network+`"`, `"{network}"`)
	out := make([]FieldChange, len(fields))
	for i, f := range fields {
		out[i] = FieldChange{Path: f.Path, Before: general.Replace(f.Before), After: general.Replace(f.After)}
	}
	return out
}
