package reconciler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	// peerTimeout bounds what one other member may take of a leave.
	peerTimeout = 10 * time.Second
	// sameCommit is how long before a deletion a member that replaces another may
	// have been made: both are in one commit.
	sameCommit = time.Minute
)

// heirs are the members by which a cluster may go on.
type heirs struct {
	// heir is the member that has the cluster now; empty for none.
	heir string
	// unknown is a member of the same commit that was not reached yet, so that it
	// may be the same cluster; empty for none.
	unknown string
}

// heirsOf looks for the member that a cluster goes on as: a member that is
// renamed is, for Git, one that goes and one that comes. A cluster is known by
// its identity, whatever leads to it.
func (r *memberReconciler) heirsOf(ctx context.Context, m *v1alpha1.Member) (heirs, *status.Failure) {
	all, failure := r.liveMembers(ctx, m.Namespace)
	if failure != nil {
		return heirs{}, failure
	}
	if heir := heirAmong(all, m); heir != "" || begun(m) {
		// Once the cluster is changed there is nothing to inherit: takeOver waits.
		return heirs{heir: heir}, nil
	}
	for i := range all {
		other := &all[i]
		if other.UID == m.UID || !mayInherit(other, m) || other.Status.ClusterUID != "" {
			continue
		}
		uid, err := r.identityOf(ctx, other)
		switch {
		case err == nil && uid == m.Status.ClusterUID:
			return heirs{heir: other.Name}, nil
		case err != nil && other.CreationTimestamp.After(m.DeletionTimestamp.Add(-sameCommit)):
			return heirs{unknown: other.Name}, nil
		}
	}
	return heirs{}, nil
}

// mayInherit reports whether a member may go on with the cluster of another:
// what is there is its network's.
func mayInherit(heir, m *v1alpha1.Member) bool {
	return heir.DeletionTimestamp.IsZero() && heir.Spec.ApplicationNetwork == m.Spec.ApplicationNetwork
}

func heirAmong(all []v1alpha1.Member, m *v1alpha1.Member) string {
	for i := range all {
		if other := &all[i]; other.UID != m.UID && mayInherit(other, m) && other.Status.ClusterUID == m.Status.ClusterUID {
			return other.Name
		}
	}
	return ""
}

func (r *memberReconciler) liveMembers(ctx context.Context, namespace string) ([]v1alpha1.Member, *status.Failure) {
	var all v1alpha1.MemberList
	if err := r.live.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return nil, hubFailure("list Members", err)
	}
	return all.Items, nil
}

// liveMembersOf are the Members that have a cluster. The API server selects them: a
// fleet of a thousand asks twice for each, and would read a million.
func (r *memberReconciler) liveMembersOf(ctx context.Context, namespace, uid string) ([]v1alpha1.Member, *status.Failure) {
	var all v1alpha1.MemberList
	err := r.live.List(ctx, &all, client.InNamespace(namespace), client.MatchingFields{"status.clusterUID": uid})
	if apierrors.IsBadRequest(err) {
		// A hub before Kubernetes 1.31, or with CRDs from before, selects by no such field.
		return r.liveMembers(ctx, namespace)
	}
	if err != nil {
		return nil, hubFailure("list Members", err)
	}
	return all.Items, nil
}

// identityOf asks a member's cluster who it is.
func (r *memberReconciler) identityOf(ctx context.Context, m *v1alpha1.Member) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	c, err := r.peer(ctx, m)
	if err != nil {
		return "", err
	}
	uid, err := c.member.ClusterUID(ctx)
	return string(uid), err
}

// peer is the connection of another member than the one being worked on.
func (r *memberReconciler) peer(ctx context.Context, m *v1alpha1.Member) (*connection, error) {
	var network v1alpha1.ApplicationNetwork
	if err := r.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, errors.New("its network is not on the hub")
		}
		return nil, err
	}
	c, failure := r.connections.get(ctx, m, meshOf(&network))
	if failure != nil {
		return nil, errors.New(failure.Message)
	}
	return c, nil
}

// takeOver decides whether a member may have a cluster that another has: not
// while that one stays, nor once its leave has begun to change the cluster. It
// is empty where it may, else says why not.
func takeOver(m *v1alpha1.Member, uid string, all []v1alpha1.Member) string {
	for i := range all {
		other := &all[i]
		if other.UID == m.UID || other.Status.ClusterUID != uid {
			continue
		}
		switch {
		case other.DeletionTimestamp.IsZero():
			return fmt.Sprintf("the cluster behind this member is already the member %q: give this one another cluster or remove it", other.Name)
		case !mayInherit(m, other):
			return fmt.Sprintf("the cluster behind this member is leaving the network %q as the member %q: it joins this one when it has left", other.Spec.ApplicationNetwork, other.Name)
		case begun(other):
			return fmt.Sprintf("the cluster behind this member is leaving as the member %q: it joins again when it has left", other.Name)
		}
	}
	return ""
}

const (
	// droppedLook is how soon the istiods of a reader are asked again whether they have
	// let a member go that leaves, and droppedTimeout how long they are waited for. One
	// that does not answer so many times is not.
	droppedLook, droppedTimeout, droppedMute = time.Second, 30 * time.Second, 3
)

// dropPeerCredentials takes what other members of the network read this one with
// off them, and waits until their istiods have let it go. A reader that cannot be
// reached, or does not let go, is named and holds nothing up: its credential dies
// with the member's service account.
func (r *memberReconciler) dropPeerCredentials(ctx context.Context, m *v1alpha1.Member) (string, error) {
	var all v1alpha1.MemberList
	if err := r.List(ctx, &all, client.InNamespace(m.Namespace)); err != nil {
		return "", fmt.Errorf("list Members: %w", err)
	}
	var (
		mu      sync.Mutex
		taken   int
		trouble []string
		work    errgroup.Group
	)
	work.SetLimit(8)
	for i := range all.Items {
		other := &all.Items[i]
		if other.UID == m.UID || !mayInherit(other, m) || other.Status.ClusterUID == "" {
			continue
		}
		work.Go(func() error {
			done, why := r.dropPeerCredential(ctx, m, other)
			mu.Lock()
			defer mu.Unlock()
			if done {
				taken++
			}
			if why != "" {
				trouble = append(trouble, other.Name+": "+why)
			}
			return nil
		})
	}
	_ = work.Wait() // nothing is returned
	return peerNote(taken, trouble), ctx.Err()
}

// peerNote sums up what became of credentials; empty where there were none.
func peerNote(taken int, trouble []string) string {
	var parts []string
	if taken > 0 {
		parts = append(parts, fmt.Sprintf("removed from %d members", taken))
	}
	if len(trouble) > 0 {
		slices.Sort(trouble)
		shown := trouble[:min(3, len(trouble))]
		if more := len(trouble) - len(shown); more > 0 {
			shown = append(slices.Clone(shown), fmt.Sprintf("and %d more", more))
		}
		parts = append(parts, "may still be at "+strings.Join(shown, "; "))
	}
	return strings.Join(parts, ", ")
}

// dropPeerCredential deletes one Secret if it is ours, and waits until the istiods
// there have let the member go; why says what hindered it.
func (r *memberReconciler) dropPeerCredential(ctx context.Context, m, peer *v1alpha1.Member) (done bool, why string) {
	if waits, failure := r.suspended(ctx, peer); failure != nil || waits != "" {
		return false, "it is suspended"
	}
	c, done, why := r.deletePeerCredential(ctx, m, peer)
	if why != "" || !done && !reads(peer, m.Name) {
		return done, why
	}
	return done, waitDropped(ctx, c, m.Name)
}

// reads tells whether a member has, or had until now, a credential for another.
func reads(reader *v1alpha1.Member, name string) bool { return recordOf(reader, name) != nil }

// waitDropped waits until no istiod of a reader reads a member any more; else it says
// which does.
func waitDropped(ctx context.Context, c *connection, name string) string {
	ctx, cancel := context.WithTimeout(ctx, droppedTimeout)
	defer cancel()
	why := ""
	for mute := 0; ; {
		replicas, err := istiod.Clusters(ctx, c.member, c.mesh.SystemNamespace)
		now, answered := stillReads(replicas, err, name)
		if ctx.Err() == nil || why == "" {
			why = now
		}
		if !answered {
			mute++
		}
		if why == "" || mute == droppedMute {
			return why
		}
		select {
		case <-ctx.Done():
			return why
		case <-time.After(droppedLook):
		}
	}
}

// stillReads says which istiod reads a member, empty when none does; and whether all
// of them have answered.
func stillReads(replicas []istiod.Replica, err error, name string) (why string, answered bool) {
	if err != nil {
		return "what its istiod reads is not known: " + memberFailure(err).Reason, false
	}
	for _, replica := range replicas {
		switch {
		case replica.Err != nil:
			return replica.Pod + " does not say what it reads", false
		case slices.ContainsFunc(replica.Clusters, func(c istiod.Cluster) bool { return c.ID == name }):
			return replica.Pod + " has not let it go", true
		}
	}
	return "", true
}

// deletePeerCredential deletes one Secret if it is ours; why says what hindered it.
func (r *memberReconciler) deletePeerCredential(ctx context.Context, m, peer *v1alpha1.Member) (c *connection, done bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	c, err := r.peer(ctx, peer)
	if err != nil {
		return nil, false, err.Error()
	}
	secrets := c.member.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(c.mesh.SystemNamespace)
	found, err := secrets.Get(ctx, peering.SecretPrefix+m.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return c, false, ""
	case err != nil:
		return c, false, memberFailure(err).Reason
	case found.Labels[apply.LabelNetwork] != c.mesh.Network:
		return c, false, fmt.Sprintf("the Secret %s there is not isthmus's", found.Name)
	}
	err = secrets.Delete(ctx, found.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &found.UID}})
	if client.IgnoreNotFound(err) != nil {
		return c, false, memberFailure(err).Reason
	}
	return c, true, ""
}
