package reconciler

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// defaultObjectsPercent is how much of what members have a commit may delete.
const defaultObjectsPercent = 20

// guardObjects stops a commit that deletes more of the members' objects than it
// may, or an object of a kind that takes others along. The acknowledgement is a
// digest of what would be deleted: it allows that and nothing else, so one that
// is left in the file does no harm.
func guardObjects(previous *accepted, now published, next *accepted) *status.Failure {
	for _, network := range next.networks {
		percent := percentOf(network)
		if previous == nil {
			if failure := guardCounts(network, now.members, next); failure != nil {
				return failure
			}
			continue
		}
		gone := deletion.Of(network.Name, previous.bundles, next.bundles)
		why, token := gone.Excess(percent), gone.Token()
		if why == "" || slices.Contains(network.Spec.DeletionGuard.Allow, token) {
			continue
		}
		return &status.Failure{Reason: status.ReasonDeletionGuard, Stalled: true, Message: fmt.Sprintf(
			"commit %s deletes %s of network %q: %s (%s): if that is meant, put %q into spec.deletionGuard.allow, which allows just these",
			status.Short(next.commit), objectCount(gone.Count()), network.Name, why, gone, token)}
	}
	return nil
}

func percentOf(network *v1alpha1.ApplicationNetwork) int {
	if p := network.Spec.DeletionGuard.ObjectsPercent; p != nil {
		return int(*p)
	}
	return defaultObjectsPercent
}

// guardCounts stands in where the accepted commit cannot be rendered any more,
// by an isthmus that is newer than it: members tell how many objects they have,
// and a bundle of fewer objects deletes at least the difference.
func guardCounts(network *v1alpha1.ApplicationNetwork, members []v1alpha1.Member, next *accepted) *status.Failure {
	percent := percentOf(network)
	for _, member := range members {
		after, stays := next.bundles[member.Name]
		had := int(member.Status.Objects)
		if member.Spec.ApplicationNetwork != network.Name || !stays || after.Network != network.Name {
			continue
		}
		if lost := had - len(after.Objects) - 1; deletion.TooMany(lost, had, percent) && !slices.Contains(network.Spec.DeletionGuard.Allow, member.Name) {
			return &status.Failure{Reason: status.ReasonDeletionGuard, Stalled: true, Message: fmt.Sprintf(
				"commit %s deletes at least %d of %d objects on %s, the guard lets %d %% pass; which ones is not known, because the accepted commit does not render any more: if that is meant, put %q into spec.deletionGuard.allow of network %q",
				status.Short(next.commit), lost, had, member.Name, percent, member.Name, network.Name)}
		}
	}
	return nil
}

func objectCount(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}
