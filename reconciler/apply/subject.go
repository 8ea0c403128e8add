package apply

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Subject names one object on a member.
type Subject struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// SubjectOf names an object.
func SubjectOf(o *unstructured.Unstructured) Subject {
	kind := o.GroupVersionKind()
	return Subject{kind.Group, kind.Version, kind.Kind, o.GetNamespace(), o.GetName()}
}

// String is "Kind name" or "Kind namespace/name".
func (s Subject) String() string {
	if s.Namespace == "" {
		return s.Kind + " " + s.Name
	}
	return s.Kind + " " + s.Namespace + "/" + s.Name
}

func (s Subject) groupKind() schema.GroupKind { return schema.GroupKind{Group: s.Group, Kind: s.Kind} }

func (s Subject) kind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: s.Group, Version: s.Version, Kind: s.Kind}
}

// key is the identity of an object: the same in every version of its kind.
func (s Subject) key() Subject {
	s.Version = ""
	return s
}

func compareSubjects(a, b Subject) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.Group, b.Group))
}

// Action is what was done to an object.
type Action string

// The actions.
const (
	// Created: it was not there.
	Created Action = "Created"
	// Configured: it was there and differed in fields that we own.
	Configured Action = "Configured"
	// Unchanged: it is as it should be; nothing was written.
	Unchanged Action = "Unchanged"
	// Left: others changed or deleted it, and it is left so, because its drift is
	// only reported or because they keep changing it.
	Left Action = "Left"
	// Deleted: it is on its way out, or was gone already.
	Deleted Action = "Deleted"
	// Released: it stays, without our fields, because it was there before us, is
	// in use by others, is marked to be kept, or is no longer ours.
	Released Action = "Released"
)

// Change is what was done to one object.
type Change struct {
	Subject Subject
	Stage   bundle.Stage
	Action  Action
	// By is, for an object that was put back or left, the field manager that wrote
	// last beside us ("kubectl-edit"); empty where there is none.
	By string
	// At is when that manager wrote, by the API server's clock; zero where By is
	// empty.
	At time.Time
	// Trust: it is a Secret of the set, such as cacerts.
	Trust bool
	// Content: of an object that was put back, somebody else had changed or added more
	// than labels and annotations. What was only removed does not show. One that is
	// Deleted for it comes anew, see [Set.Anew].
	Content bool
}

// Corrected tells whether a set that had been applied before had to be seen to.
func (c Change) Corrected() bool {
	return c.Action == Created || c.Action == Configured || c.Action == Deleted && c.Content
}

// Waiting is an object that is not yet what it should become.
type Waiting struct {
	Subject Subject
	Stage   bundle.Stage
	// Why, in words without times and counts that change by themselves.
	Why string
}

// Result is what happened on a member. It is valid beside an error too, as far
// as the call came.
type Result struct {
	// Changes sorted by stage, then kind, namespace and name. An object that
	// failed has none; it is in the error.
	Changes []Change
	// Waiting for health or for deletion, sorted in the same way.
	Waiting []Waiting
	// Inventory as it now is on the member.
	Inventory Inventory
	// Nodes that a DaemonSet of the set is scheduled on, of them the most; zero if none was
	// looked at.
	Nodes int32
	// Deferred are subjects that [Correct] left to the delivery under way.
	Deferred []Subject
	// Step is how far [Leave] came: those before it are done. Notes are what people
	// should know of steps.
	Step  LeaveStep
	Notes map[LeaveStep]string
}

// Count of the changes with one of the actions; of all without any.
func (r Result) Count(actions ...Action) int {
	if len(actions) == 0 {
		return len(r.Changes)
	}
	count := 0
	for _, c := range r.Changes {
		if slices.Contains(actions, c.Action) {
			count++
		}
	}
	return count
}

func (r *Result) sort() {
	slices.SortFunc(r.Changes, func(a, b Change) int {
		return cmp.Or(compareStages(a.Stage, b.Stage), compareSubjects(a.Subject, b.Subject))
	})
	slices.SortFunc(r.Waiting, func(a, b Waiting) int {
		return cmp.Or(compareStages(a.Stage, b.Stage), compareSubjects(a.Subject, b.Subject))
	})
}

func compareStages(a, b bundle.Stage) int {
	return cmp.Compare(slices.Index(bundle.Stages, a), slices.Index(bundle.Stages, b))
}
