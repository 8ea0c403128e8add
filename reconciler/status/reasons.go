package status

// Reasons of conditions. Renaming or reusing one breaks those who alert on it.
// Reasons of package source and of a member's API are used as they are.
const (
	// ReasonApplied: everything of the accepted commit is applied and healthy.
	ReasonApplied = "Applied"
	// ReasonApplying: a commit is being applied.
	ReasonApplying = "Applying"
	// ReasonSuspended: spec.suspend is set; nothing is changed.
	ReasonSuspended = "Suspended"
	// ReasonInvalidFleet: the commit does not load, validate or render.
	ReasonInvalidFleet = "InvalidFleet"
	// ReasonNonFastForward: the branch's head does not descend from the accepted
	// commit.
	ReasonNonFastForward = "NonFastForward"
	// ReasonVerified: the commit, the tag or both are signed as spec.verify wants.
	ReasonVerified = "Verified"
	// ReasonNotVerifiedYet: no commit was looked at since the start.
	ReasonNotVerifiedYet = "NotVerifiedYet"
	// ReasonDeletionGuard: the commit removes more than the guard allows.
	ReasonDeletionGuard = "DeletionGuard"
	// ReasonHubFailed: the hub's own API did not take a change.
	ReasonHubFailed = "HubFailed"
	// ReasonSecretNotFound: a Secret that a spec names is not on the hub.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonMembersNotReady: the commit is accepted, some member is not there yet.
	ReasonMembersNotReady = "MembersNotReady"
	// ReasonNoMembers: the commit is accepted and has no member.
	ReasonNoMembers = "NoMembers"
	// ReasonTrustFailed: the member's CA could not be made or read.
	ReasonTrustFailed = "TrustFailed"
	// ReasonCAUnavailable: the vault could not be used; what the member has stays.
	ReasonCAUnavailable = "CAUnavailable"
	// ReasonTrustProven: istiod signs with the CA that the member was given.
	ReasonTrustProven = "TrustProven"
	// ReasonTrustUnproven: it does not, or that is not known.
	ReasonTrustUnproven = "TrustUnproven"
	// ReasonPeersSynced: istiod reads all peers that it is to discover. Reasons of
	// single pairs are used as they are.
	ReasonPeersSynced = "PeersSynced"
	// ReasonPeersElsewhere: all other members of the network are on other hubs.
	ReasonPeersElsewhere = "PeersElsewhere"
	// ReasonClusterClaimed: another Member has the same cluster.
	ReasonClusterClaimed = "ClusterClaimed"
	// ReasonClusterChanged: the credentials lead to another cluster than before.
	ReasonClusterChanged = "ClusterChanged"
	// ReasonNotSupported: the member asks for what this version cannot do yet.
	ReasonNotSupported = "NotSupported"
	// ReasonLeaving: the member is being removed from its cluster.
	ReasonLeaving = "Leaving"
	// ReasonWaitingForFleet: the fleet's commit has not been rendered yet.
	ReasonWaitingForFleet = "WaitingForFleet"
)
