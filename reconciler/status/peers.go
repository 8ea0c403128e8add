package status

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PeersReady is the condition that says whether a member discovers the peers that it
// is to discover; it is there for a member that has any.
const PeersReady = "PeersReady"

// Peers is what is known of a member's peers.
type Peers struct {
	// Wanted and Synced are how many it is to discover, and how many of them all of
	// its istiods have read.
	Wanted, Synced int
	// Failed is the first by name for which a person or a peer has to do something,
	// Waiting the first that is still to come, and Noted the first that is discovered
	// and of which there is something to say; nil for none.
	Failed, Waiting, Noted *Peer
	// Elsewhere says that the network has members of other hubs.
	Elsewhere bool
}

// Peer is one of them.
type Peer struct {
	Name, Reason, Message string
}

// conditions returns PeersReady, or nothing for a member that has no peers.
func (p Peers) conditions() []metav1.Condition {
	read := fmt.Sprintf("%d of %d peers are discovered", p.Synced, p.Wanted)
	switch {
	case p.Failed != nil:
		return []metav1.Condition{condition(PeersReady, metav1.ConditionFalse, p.Failed.Reason, fmt.Sprintf("%s; %s: %s", read, p.Failed.Name, p.Failed.Message))}
	case p.Waiting != nil:
		return []metav1.Condition{condition(PeersReady, metav1.ConditionUnknown, p.Waiting.Reason, fmt.Sprintf("%s; waiting for %s: %s", read, p.Waiting.Name, p.Waiting.Message))}
	case p.Noted != nil:
		return []metav1.Condition{condition(PeersReady, metav1.ConditionTrue, ReasonPeersSynced, fmt.Sprintf("%s; %s: %s", read, p.Noted.Name, p.Noted.Message))}
	case p.Wanted > 0:
		return []metav1.Condition{condition(PeersReady, metav1.ConditionTrue, ReasonPeersSynced, read)}
	case p.Elsewhere:
		return []metav1.Condition{condition(PeersReady, metav1.ConditionUnknown, ReasonPeersElsewhere,
			"the other members of its network are on other hubs: credentials for them are not made here")}
	}
	return nil
}
