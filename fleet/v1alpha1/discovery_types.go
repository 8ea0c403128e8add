package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// DiscoveryMode is a way for members to find each other's services.
// +kubebuilder:validation:Enum=RemoteCredentials;Messaging
type DiscoveryMode string

// The discovery modes.
const (
	// DiscoveryRemoteCredentials: each istiod reads its peers' API servers.
	DiscoveryRemoteCredentials DiscoveryMode = "RemoteCredentials"
	// DiscoveryMessaging: members exchange service summaries over a broker.
	DiscoveryMessaging DiscoveryMode = "Messaging"
)

// The tokens that a member's istiod reads its peers with.
const (
	// PeerTokens is the name of the Secret that holds them, each by its peer's name.
	PeerTokens = "isthmus-peers"
	// PeerTokensPath is where istiod finds them as files.
	PeerTokensPath = "/var/run/secrets/isthmus/peers"
)

// Discovery is how members find each other's services.
type Discovery struct {
	// Mode is the way members find each other's services.
	// +kubebuilder:default=RemoteCredentials
	Mode DiscoveryMode `json:"mode,omitempty"`

	// Peers say who discovers whom. A member discovers another one if any of them
	// says so. Without any: all members discover each other.
	// +kubebuilder:validation:MaxItems=64
	Peers []Peering `json:"peers,omitempty"`

	// Exports are the Services that other members discover, beside those with the
	// label istio.io/global=true. They are the same on every member.
	// +kubebuilder:validation:MaxItems=256
	Exports []Export `json:"exports,omitempty"`

	// Credentials are what istiods read their peers' API servers with; only with
	// mode RemoteCredentials.
	Credentials PeerCredentials `json:"credentials,omitempty"`
}

// Peering says that some members discover the services of some members.
type Peering struct {
	// Selector of the members that discover. Default: all of the network.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// Discovers selects the members whose services they discover. Default: those of
	// selector, so that these discover each other.
	Discovers *metav1.LabelSelector `json:"discovers,omitempty"`
}

// Export says which Services of a namespace other members discover.
type Export struct {
	// Namespace of the Services, by that name on every member.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace"`

	// Selector of the Services by label. Default: all of the namespace.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// PeerCredentials are tokens of each member's reader account.
type PeerCredentials struct {
	// Lifetime of a token, from 10m to 8760h; an API server may give less.
	// Default: 168h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Lifetime *metav1.Duration `json:"lifetime,omitempty"`

	// RotateAt is the share of its lifetime after which a token is replaced, in per
	// cent, from 10% to 80%. Default: 40%.
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]?%$`
	RotateAt string `json:"rotateAt,omitempty"`

	// ReplaceIssuedBefore has tokens replaced that were issued before this time, and
	// revoked once no istiod uses them.
	ReplaceIssuedBefore *metav1.Time `json:"replaceIssuedBefore,omitempty"`
}

// PeerEndpoint is the address of a member's API server for other members' istiods,
// where it is not the one that the reconciler takes.
type PeerEndpoint struct {
	// Server is the https URL.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://`
	Server string `json:"server"`

	// TLSServerName that its certificate has. Default: the host of the URL.
	// +kubebuilder:validation:MaxLength=253
	TLSServerName string `json:"tlsServerName,omitempty"`

	// CertificateAuthority is the PEM text of the certificates that it is verified by.
	// Default: those that the reconciler takes.
	// +kubebuilder:validation:MaxLength=65536
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
}

// DiscoveryStatus is what a member discovers and what others discover of it.
type DiscoveryStatus struct {
	// Announced is since when peers may discover the member: its istiod served and its
	// gateway, where it has one, had an address. What fails later does not take it back.
	Announced *metav1.Time `json:"announced,omitempty"`

	// Peers that the member is to discover, sorted by name.
	// +listType=map
	// +listMapKey=name
	Peers []PeerStatus `json:"peers,omitempty"`

	// Account is the uid of the account that peers read the member as. Tokens of one
	// that was deleted are void.
	Account string `json:"account,omitempty"`

	// Anchors are the Secrets in the member that its peers' tokens are bound to: without
	// its anchor a token is void.
	// +listType=map
	// +listMapKey=name
	Anchors []PeerAnchor `json:"anchors,omitempty"`

	// Services that peers can discover, as the member's istiod sees them.
	Services int32 `json:"services,omitempty"`

	// Problems of services, the first twenty by name.
	// +kubebuilder:validation:MaxItems=20
	Problems []ServiceProblem `json:"problems,omitempty"`

	// ProblemCount is how many there are.
	ProblemCount int32 `json:"problemCount,omitempty"`
}

// GetPeers returns the pairs of a member; none of one that nothing is known of.
func (d *DiscoveryStatus) GetPeers() []PeerStatus {
	if d == nil {
		return nil
	}
	return d.Peers
}

// IsAnnounced tells whether peers may discover the member.
func (d *DiscoveryStatus) IsAnnounced() bool { return d != nil && d.Announced != nil }

// PeerState says how far the discovery of one peer is.
// +kubebuilder:validation:Enum=Waiting;Failed;Syncing;Synced
type PeerState string

// The states of a peer.
const (
	// PeerWaiting: the peer is not announced yet.
	PeerWaiting PeerState = "Waiting"
	// PeerFailed: there is no credential that works.
	PeerFailed PeerState = "Failed"
	// PeerSyncing: istiod has the credential and has not read the peer yet, or was not
	// asked yet.
	PeerSyncing PeerState = "Syncing"
	// PeerSynced: every replica of istiod has read the peer.
	PeerSynced PeerState = "Synced"
)

// PeerStatus is one ordered pair of members: how the one discovers the other.
type PeerStatus struct {
	// Name of the member that is discovered.
	Name string `json:"name"`

	// State of the pair.
	State PeerState `json:"state"`

	// Reason for the state, one word.
	Reason string `json:"reason,omitempty"`

	// Message says what is wrong and what to do.
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`

	// Credential that istiod has; empty without one.
	Credential *PeerCredentialStatus `json:"credential,omitempty"`

	// RestartedAt is when istiod was last restarted because it did not take up the
	// credential.
	RestartedAt *metav1.Time `json:"restartedAt,omitempty"`
}

// PeerAnchor is a Secret that tokens of one peer are bound to.
type PeerAnchor struct {
	// Name of the Secret, which begins with isthmus-peer- and the peer's name.
	Name string `json:"name"`

	// UID of the Secret: another one of its name does not bring tokens back.
	UID string `json:"uid"`
}

// PeerCredentialStatus tells of a credential, never what it is.
type PeerCredentialStatus struct {
	// IssuedAt is when the token was issued.
	IssuedAt metav1.Time `json:"issuedAt"`

	// ExpiresAt is when it expires.
	ExpiresAt metav1.Time `json:"expiresAt"`

	// Digest of the Secret's data (SHA-256, hexadecimal), by which it is known again.
	Digest string `json:"digest"`

	// Anchor is the name of the Secret in the peer that the token is bound to.
	Anchor string `json:"anchor,omitempty"`

	// AnchorInUseSince is when istiod was first seen to read the peer after a token that
	// is bound to the anchor was delivered. Tokens that are replaced keep it.
	AnchorInUseSince *metav1.Time `json:"anchorInUseSince,omitempty"`
}

// ServiceProblem is something that keeps a service from being discovered as meant.
type ServiceProblem struct {
	// Service as namespace/name.
	Service string `json:"service"`

	// Reason is one word.
	Reason string `json:"reason"`

	// Message says what is wrong and what to do.
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}
