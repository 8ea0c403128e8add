package reconciler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// defaultGuard is how many members a commit may remove from a network that it
// removes too, and that can therefore say nothing about it.
const defaultGuard = 1

// guard stops a commit that removes more members than it says it means to. It
// returns nil when the commit may pass.
func guard(current []v1alpha1.Member, next *accepted) *status.Failure {
	removed := map[string][]string{} // by network
	for _, member := range current {
		if _, stays := next.bundles[member.Name]; stays || !member.DeletionTimestamp.IsZero() {
			continue
		}
		network := member.Spec.ApplicationNetwork
		if n := next.network(network); n != nil && slices.Contains(n.Spec.DeletionGuard.Allow, member.Name) {
			continue
		}
		removed[network] = append(removed[network], member.Name)
	}
	for _, network := range sortedKeys(removed) {
		names, limit := removed[network], defaultGuard
		if n := next.network(network); n != nil && n.Spec.DeletionGuard.Members != nil {
			limit = int(*n.Spec.DeletionGuard.Members)
		}
		if len(names) <= limit {
			continue
		}
		slices.Sort(names)
		return &status.Failure{
			Reason:  status.ReasonDeletionGuard,
			Stalled: true,
			Message: fmt.Sprintf("commit %s removes %d members of network %q (%s) and the guard lets %d pass: name them in spec.deletionGuard.allow, or remove them one commit at a time",
				status.Short(next.commit), len(names), network, strings.Join(names, ", "), limit),
		}
	}
	return nil
}
