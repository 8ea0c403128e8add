package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// AdoptAnnotation on a Member with the value AdoptExisting takes over objects
// that were on its cluster before it joined.
const (
	AdoptAnnotation = "isthmus.dev/adopt"
	AdoptExisting   = "Existing"
)

// fresh reports whether an object was never ours, as far as anything tells:
// should it be there, it is somebody else's.
func fresh(s situation) bool {
	delivered := s.known != nil || s.entry != nil && (s.entry.UID != "" || s.entry.Hash != "")
	return !delivered && (s.seen == nil || s.seen.network != s.want.object.GetLabels()[LabelNetwork])
}

// ofNetwork is the refusal of what another network has, which no annotation lifts.
func ofNetwork(network string) error {
	return &member.Error{Reason: NotOurs, Doing: fmt.Sprintf(
		"it belongs to the network %q, by its label %s: take it out of one of the two", network, LabelNetwork)}
}

func notOurs(why string) error {
	return &member.Error{Reason: NotOurs, Doing: fmt.Sprintf(
		"it was there before isthmus: %s: remove it there, or take such objects over with the annotation %s: %s on the Member in Git",
		why, AdoptAnnotation, AdoptExisting)}
}

// refusal gives the refusal to write over somebody else's fields its reason.
func (a attempt) refusal(err error) error {
	owners := conflictingManagers(err)
	switch {
	case a.fields == takeOver || len(owners) == 0:
		return err
	case a.isGatewayAPI():
		return &member.Error{Reason: GatewayAPIOwned, Err: err,
			Doing: "somebody else delivers the Gateway API here: leave it to them with gatewayAPI.owner: Member, or remove it there first"}
	}
	return notOurs("its fields belong to " + strings.Join(owners, ", "))
}

// conflictingManagers are the managers whose fields an apply would take, sorted.
func conflictingManagers(err error) []string {
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var names []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		names = append(names, fmt.Sprintf("%q", conflictingManager(cause.Message)))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isReplaceable reports whether an object may be deleted to be made anew with
// another value of an immutable field. It has to be an object that carries
// nothing: between the two a binding grants nothing for a moment, a Job starts
// anew. What runs, keeps, or defines something is left to a person.
func (s Subject) isReplaceable() bool {
	switch s.Group + "/" + s.Kind {
	case "rbac.authorization.k8s.io/RoleBinding", "rbac.authorization.k8s.io/ClusterRoleBinding",
		"admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding", "batch/Job", "/ConfigMap":
		return true
	}
	return false
}

// clear deletes an object that is made anew at once. The inventory lists it all
// the while, so a process that dies in between leaves nothing undone.
func (d *delivery) clear(ctx context.Context, a attempt) error {
	live, err := d.target.wire.get(ctx, a.at)
	if err != nil {
		return ignoreNotFound(err)
	}
	if err := d.target.wire.delete(ctx, a.at, live.UID); ignoreNotFound(err) != nil {
		return err
	}
	for range 50 {
		now, err := d.target.wire.get(ctx, a.at)
		if apierrors.IsNotFound(err) || err == nil && now.UID != live.UID {
			return nil
		}
		if err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return &member.Error{Reason: NotGone, Doing: "make it anew: it was deleted and is still there"}
}
