package apply

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// The reasons of this package, beside those of package member; member.ReasonOf
// tells the one of any error. Values are frozen once released.
const (
	// InvalidSet: the set cannot be meant; nothing was written.
	InvalidSet member.Reason = "InvalidSet"
	// InvalidObject: the API server refuses the object as it is.
	InvalidObject member.Reason = "InvalidObject"
	// ImmutableField: the change needs a deletion, which only a person may do.
	ImmutableField member.Reason = "ImmutableField"
	// NotOurs: the object was there before us and belongs to somebody else.
	NotOurs member.Reason = "NotOurs"
	// Conflict: somebody else wrote at the same time.
	Conflict member.Reason = "Conflict"
	// Terminating: the object or its namespace is being deleted.
	Terminating member.Reason = "Terminating"
	// NotReady: applied, but not healthy in time.
	NotReady member.Reason = "NotReady"
	// NotGone: deleted, but not gone in time.
	NotGone member.Reason = "NotGone"
	// Enrolled: workloads are in the mesh that is to go.
	Enrolled member.Reason = "WorkloadsEnrolled"
	// InventoryTooNew: the inventory was written by a later isthmus.
	InventoryTooNew member.Reason = "InventoryTooNew"
)

// ObjectError is the failure of one object.
type ObjectError struct {
	Subject Subject
	Stage   bundle.Stage
	Reason  member.Reason
	// Manager that stands in the way, where the API server names one.
	Manager string
	// Doing is what failed: "apply", "compare", "delete".
	Doing string
	Err   error
}

func (e *ObjectError) Error() string {
	if e.Manager != "" {
		return fmt.Sprintf("%s %s: %v (field manager %q)", e.Doing, e.Subject, e.Err, e.Manager)
	}
	return fmt.Sprintf("%s %s: %v", e.Doing, e.Subject, e.Err)
}

func (e *ObjectError) Unwrap() error {
	return &member.Error{Reason: e.Reason, Doing: e.Doing, Err: e.Err}
}

// Errors are the failures of several objects, worst first: those that waiting
// does not mend, then by subject.
type Errors []*ObjectError

func (e Errors) Error() string {
	const shown = 3
	var lines []string
	for _, one := range e[:min(shown, len(e))] {
		lines = append(lines, one.Error())
	}
	if more := len(e) - shown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// err is nil for no errors; sorted.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortFunc(e, func(a, b *ObjectError) int {
		if s, t := stalls(a.Reason), stalls(b.Reason); s != t {
			if s {
				return -1
			}
			return 1
		}
		return compareSubjects(a.Subject, b.Subject)
	})
	return e
}

// Stalls reports whether waiting does not help against an error of this package:
// somebody has to act.
func Stalls(err error) bool { return err != nil && stalls(member.ReasonOf(err)) }

// stalls reports whether waiting does not help against a reason.
func stalls(r member.Reason) bool {
	switch r {
	case InvalidSet, InvalidObject, ImmutableField, NotOurs, InventoryTooNew, Enrolled, GatewayAPIMissing, GatewayAPIOwned:
		return true
	}
	return r.Stalls()
}

// objectError classifies the failure of a call for one object.
func objectError(s Subject, stage bundle.Stage, doing string, err error) *ObjectError {
	failed := &ObjectError{Subject: s, Stage: stage, Doing: doing, Err: err, Reason: reasonOf(err)}
	if cause, found := apierrors.StatusCause(err, metav1.CauseTypeFieldManagerConflict); found {
		failed.Manager = conflictingManager(cause.Message)
	}
	if s.Group == "" && s.Kind == "Secret" {
		// A refused field is quoted with its value.
		failed.Err = withoutValues(err)
	}
	return failed
}

func reasonOf(err error) member.Reason {
	switch {
	case errors.As(err, new(*member.Error)):
		return member.ReasonOf(err)
	case apierrors.HasStatusCause(err, "NamespaceTerminating"):
		return Terminating
	case apierrors.IsInvalid(err) && mentionsImmutable(err):
		return ImmutableField
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return InvalidObject
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return Conflict
	}
	return member.ReasonOf(err)
}

// mentionsImmutable looks for the API server's own sentences: it has no type for
// a change of an immutable field, and another sentence for a binding's role.
func mentionsImmutable(err error) bool {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return strings.Contains(c.Message, validation.FieldImmutableErrorMsg) || strings.Contains(c.Message, "cannot change roleRef")
	})
}

// conflictingManager takes the name out of `conflict with "kubectl" using v1`.
func conflictingManager(message string) string {
	if parts := strings.SplitN(message, `"`, 3); len(parts) == 3 {
		return parts[1]
	}
	return ""
}

// withoutValues keeps only what kind of refusal it was.
func withoutValues(err error) error {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return err
	}
	return fmt.Errorf("the API server answers %d %s", status.Status().Code, status.Status().Reason)
}
