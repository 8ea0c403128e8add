package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// published is what the hub has of a fleet: the last accepted commit, and
// members that are leaving.
type published struct {
	networks []v1alpha1.ApplicationNetwork
	members  []v1alpha1.Member
}

// guard stops a commit that would do more harm than it can mean to: nil when
// the commit may pass. Previous is the last accepted commit, nil where it cannot
// be rendered any more.
func guard(previous *accepted, now published, next *accepted) *status.Failure {
	if failure := guardNamespaces(now, next); failure != nil {
		return failure
	}
	if failure := guardMembers(now.members, next); failure != nil {
		return failure
	}
	return guardObjects(previous, now, next)
}

// guardNamespaces stops a change of the system namespace under running members:
// their inventories live in it, and everything that they list would be orphaned.
func guardNamespaces(now published, next *accepted) *status.Failure {
	for i := range now.networks {
		network := &now.networks[i]
		wanted := next.network(network.Name)
		inUse := slices.ContainsFunc(now.members, func(m v1alpha1.Member) bool { return m.Spec.ApplicationNetwork == network.Name })
		if wanted == nil || !inUse || wanted.Spec.DataPlane.Namespace == network.Spec.DataPlane.Namespace {
			continue
		}
		return &status.Failure{
			Reason:  status.ReasonInvalidFleet,
			Stalled: true,
			Message: fmt.Sprintf("commit %s moves the system namespace of network %q from %q to %q while it has members: keep it, or move members to a new network one by one",
				status.Short(next.commit), network.Name, network.Spec.DataPlane.Namespace, wanted.Spec.DataPlane.Namespace),
		}
	}
	return nil
}

// guardMembers stops a commit that removes more members than it says it means
// to, or the last one of a network.
func guardMembers(current []v1alpha1.Member, next *accepted) *status.Failure {
	are, guards := map[string]string{}, map[string]v1alpha1.DeletionGuard{}
	for i := range current {
		if member := &current[i]; member.DeletionTimestamp.IsZero() {
			are[member.Name] = member.Spec.ApplicationNetwork
		}
	}
	stays := func(name string) bool { _, is := next.bundles[name]; return is }
	for _, network := range next.networks {
		guards[network.Name] = network.Spec.DeletionGuard
	}
	removals := deletion.Removals(are, stays, next.hasMembers, guards)
	if len(removals) == 0 {
		return nil
	}
	r := removals[0]
	if r.Last {
		return lastMembers(r.Network, r.Members, next)
	}
	return &status.Failure{
		Reason:  status.ReasonDeletionGuard,
		Stalled: true,
		Message: fmt.Sprintf("commit %s removes %d members of network %q (%s) and the guard lets %d pass: name them in spec.deletionGuard.allow, or remove them one commit at a time",
			status.Short(next.commit), len(r.Members), r.Network, strings.Join(r.Members, ", "), r.Limit),
	}
}

func lastMembers(network string, names []string, next *accepted) *status.Failure {
	how := "name them in spec.deletionGuard.allow"
	if next.network(network) == nil {
		how = "keep the network's file, name them in its spec.deletionGuard.allow, and remove it in a later commit"
	}
	return &status.Failure{
		Reason:  status.ReasonDeletionGuard,
		Stalled: true,
		Message: fmt.Sprintf("commit %s removes all members of network %q (%s): if that is meant, %s",
			status.Short(next.commit), network, strings.Join(names, ", "), how),
	}
}
