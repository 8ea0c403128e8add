package reconciler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// maxPeerWords of the message of one pair.
const maxPeerWords = 512

// Reasons of pairs that have a credential, or get one. Frozen once released.
const (
	// reasonMinting: the first credential is being made or delivered.
	reasonMinting = "CredentialComing"
	// reasonSyncing: istiod has the credential and has not read the peer yet.
	reasonSyncing = "Syncing"
	// reasonSynced: all istiods read the peer.
	reasonSynced = "Synced"
)

// discovered puts into a member's status how it discovers its peers, and what it
// keeps for its readers. Delivered says that the set with the pairs' credentials is
// on the member.
func (r *report) discovered(c *connection, p *pairs, delivered, waiting bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.member
	next := &v1alpha1.DiscoveryStatus{}
	if m.Status.Discovery != nil {
		next = m.Status.Discovery.DeepCopy()
	}
	next.Peers = nil
	for _, one := range p.all {
		is := one.status(delivered, c.peers.sight.peers[one.want.Name])
		is.Credential = withAnchorInUse(is, one.known, now)
		next.Peers = append(next.Peers, is)
	}
	if delivered {
		next.Account, next.Anchors = keptFor(c.target.Delivered(), c.mesh)
	}
	if delivered && !waiting && next.Announced == nil {
		next.Announced = stamp(now)
	}
	m.Status.Discovery = next
	r.elsewhere = p.elsewhere
}

// keptFor is what a member has for its readers, by what was delivered last.
func keptFor(inventory apply.Inventory, mesh apply.Mesh) (account string, anchors []v1alpha1.PeerAnchor) {
	for _, e := range inventory.Entries {
		switch {
		case e.Namespace != mesh.SystemNamespace || e.UID == "":
		case e.Kind == "ServiceAccount" && e.Name == peering.Account:
			account = string(e.UID)
		case e.Kind == "Secret" && strings.HasPrefix(e.Name, peering.AnchorPrefix):
			anchors = append(anchors, v1alpha1.PeerAnchor{Name: e.Name, UID: string(e.UID)})
		}
	}
	slices.SortFunc(anchors, func(a, b v1alpha1.PeerAnchor) int { return strings.Compare(a.Name, b.Name) })
	return account, anchors
}

// status of a pair, from what is known of it and of its istiods.
func (one *pair) status(delivered bool, seen seenPeer) v1alpha1.PeerStatus {
	out := v1alpha1.PeerStatus{Name: one.want.Name, RestartedAt: one.known.RestartedAt}
	say := func(state v1alpha1.PeerState, reason, message string) v1alpha1.PeerStatus {
		out.State, out.Reason, out.Message = state, reason, shortenedTo(message, maxPeerWords)
		return out
	}
	if one.live == nil {
		switch {
		case one.trouble != nil && one.trouble.waits:
			return say(v1alpha1.PeerWaiting, one.trouble.reason, one.trouble.message)
		case one.trouble != nil:
			return say(v1alpha1.PeerFailed, one.trouble.reason, one.trouble.message)
		}
		return say(v1alpha1.PeerWaiting, reasonMinting, "its credential is being made")
	}
	if !delivered {
		if one.known.Name != "" {
			return one.known
		}
		return say(v1alpha1.PeerWaiting, reasonMinting, "its credential is being delivered")
	}
	out.Credential = one.live.Status()
	switch {
	case one.trouble != nil && one.void():
		return say(v1alpha1.PeerFailed, one.trouble.reason, fmt.Sprintf("its token does not work any more (%s), and there is no other: %s", one.verdict.Reason, one.trouble.message))
	case one.restarted != nil:
		out.RestartedAt = one.restarted
		return say(v1alpha1.PeerSyncing, reasonSyncing, "istiod is being restarted")
	case one.away != "":
		// istiod says for ever that it has read a peer, once it has.
		return say(v1alpha1.PeerFailed, reasonPeerUnreachable, one.away)
	case seen.state != "":
		say(seen.state, seen.reason, seen.message)
	case one.wasSynced():
		say(v1alpha1.PeerSynced, reasonSynced, "") // until istiod is asked again
	default:
		say(v1alpha1.PeerSyncing, reasonSyncing, "istiod was not asked yet")
	}
	if one.trouble != nil && out.State == v1alpha1.PeerSynced {
		return say(v1alpha1.PeerSynced, one.trouble.reason, fmt.Sprintf("its credential is to be replaced (%s) and works still: %s", one.verdict.Reason, one.trouble.message))
	}
	return out
}

// withAnchorInUse is the credential of a pair with the time since which its anchor is in
// use: what it was, or now where istiod reads the peer.
func withAnchorInUse(is, was v1alpha1.PeerStatus, now time.Time) *v1alpha1.PeerCredentialStatus {
	out := is.Credential.DeepCopy()
	switch {
	case out == nil || out.Anchor == "":
	case anchorIn(was) == out.Anchor && was.Credential.AnchorInUseSince != nil:
		out.AnchorInUseSince = was.Credential.AnchorInUseSince
	case is.State == v1alpha1.PeerSynced:
		out.AnchorInUseSince = stamp(now)
	}
	return out
}

// void tells whether the peer does not take the token that there is.
func (one *pair) void() bool {
	switch one.verdict.Reason {
	case peering.Expired, peering.AccountChanged, peering.AnchorChanged, tokenRejected:
		return true
	}
	return false
}

// peersOutcome sums up a member's pairs.
func peersOutcome(m *v1alpha1.Member, elsewhere bool) status.Peers {
	out := status.Peers{Elsewhere: elsewhere}
	for _, one := range m.Status.Discovery.GetPeers() {
		out.Wanted++
		told := &status.Peer{Name: one.Name, Reason: one.Reason, Message: one.Message}
		switch {
		case one.State == v1alpha1.PeerSynced:
			out.Synced++
			if one.Message != "" && out.Noted == nil {
				out.Noted = told
			}
		case one.State == v1alpha1.PeerFailed && out.Failed == nil:
			out.Failed = told
		case one.State != v1alpha1.PeerFailed && out.Waiting == nil:
			out.Waiting = told
		}
	}
	return out
}

// announcePeers emits an event when a member comes to discover all of its peers, or
// another reason hinders it.
func announcePeers(events record.EventRecorder, before, after *v1alpha1.Member) {
	was, is := apimeta.FindStatusCondition(before.Status.Conditions, status.PeersReady), apimeta.FindStatusCondition(after.Status.Conditions, status.PeersReady)
	switch {
	case is == nil || is.Status == metav1.ConditionUnknown || was != nil && was.Reason == is.Reason && was.Status == is.Status:
	case is.Status == metav1.ConditionTrue:
		events.Event(after, corev1.EventTypeNormal, is.Reason, is.Message)
	default:
		events.Event(after, corev1.EventTypeWarning, is.Reason, is.Message)
	}
}

// firstOf names the first few of many.
func firstOf(names []string) string {
	const most = 10
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// earliestExpiry of a member's credentials for its peers; zero for none.
func earliestExpiry(m *v1alpha1.Member) time.Time {
	var first metav1.Time
	for _, one := range m.Status.Discovery.GetPeers() {
		if one.Credential != nil && (first.IsZero() || one.Credential.ExpiresAt.Before(&first)) {
			first = one.Credential.ExpiresAt
		}
	}
	return first.Time
}
