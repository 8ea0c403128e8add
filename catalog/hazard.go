package catalog

import "slices"

// Concern is the part of a fleet that a hazard needs to do harm; a fleet
// without that part need not be told.
type Concern string

// The concerns.
const (
	// ConcernPeers: members read each other's API servers, so their credentials
	// are rotated and their connections come and go.
	ConcernPeers Concern = "Peers"
	// ConcernGateway: traffic between networks.
	ConcernGateway Concern = "EastWestGateway"
	// ConcernWaypoint: waypoints, and those used from other networks.
	ConcernWaypoint Concern = "Waypoint"
	// ConcernTrustDomain: a trust domain other than cluster.local.
	ConcernTrustDomain Concern = "TrustDomain"
	// ConcernRotation: CA certificates are replaced.
	ConcernRotation Concern = "CertificateRotation"
	// ConcernRevocation: certificates are revoked before they expire.
	ConcernRevocation Concern = "Revocation"
	// ConcernUpgrade: what changes when a member moves to the release.
	ConcernUpgrade Concern = "Upgrade"
	// ConcernScale: large meshes.
	ConcernScale Concern = "Scale"
	// ConcernCilium: clusters with Cilium as people install it themselves.
	ConcernCilium Concern = "Cilium"
	// ConcernAzureCNICilium: clusters with Azure CNI powered by Cilium.
	ConcernAzureCNICilium Concern = "AzureCNICilium"
	// ConcernAzureCNI: clusters with Azure CNI.
	ConcernAzureCNI Concern = "AzureCNI"
)

// Span is the versions from From up to, but not including, Before. An empty end
// is open.
type Span struct {
	From   string `json:"from,omitempty"`
	Before string `json:"before,omitempty"`
}

// Hazard is a known fault or surprise of some releases.
type Hazard struct {
	// ID is stable and UpperCamelCase.
	ID string `json:"id"`
	// Summary says what happens.
	Summary string `json:"summary"`
	// Concern is the part of a fleet that it takes.
	Concern Concern `json:"concern"`
	// Affected are the versions that have it.
	Affected []Span `json:"affected"`
	// Fixed are the first versions without it, one per minor; empty when there
	// is nothing to fix or no fix yet.
	Fixed []string `json:"fixed,omitempty"`
	// Advice says what to do.
	Advice string `json:"advice"`
	// Issue is Istio's issue or pull request, "istio#61092"; may be empty.
	Issue string `json:"issue,omitempty"`
	// Handled means that isthmus renders or acts around it, so that nobody needs
	// to be warned.
	Handled bool `json:"handled,omitempty"`
}

// The hazards that the rotation of certificates acts on.
const (
	rootContainmentByBytes   = "RootContainmentByBytes"
	ztunnelKeepsOldRoot      = "ZtunnelKeepsOldRoot"
	leafOutlivesIntermediate = "LeafOutlivesIntermediate"
)

// RootsByText tells whether istiod takes a changed root bundle only if the text of
// one is a contiguous part of the other's.
func (r Release) RootsByText() bool { return r.has(rootContainmentByBytes) }

// RestartsForRoots tells whether node proxies have to be restarted when the roots
// change: their client of the CA keeps those it started with.
func (r Release) RestartsForRoots() bool { return r.has(ztunnelKeepsOldRoot) }

// LeavesOutliveIssuer tells whether istiod signs certificates of workloads that live
// longer than its own.
func (r Release) LeavesOutliveIssuer() bool { return r.has(leafOutlivesIntermediate) }

// ChecksRevocation tells whether node proxies read a list of what is revoked.
func (r Release) ChecksRevocation() bool { return r.AtLeast("1.29") }

// has tells whether the release has one of the hazards above.
func (r Release) has(id string) bool {
	return slices.ContainsFunc(hazards, func(h Hazard) bool { return h.ID == id && h.Matches(r.Version) })
}

// Matches tells whether the version is affected.
func (h Hazard) Matches(version string) bool {
	for _, span := range h.Affected {
		if span.contains(version) {
			return true
		}
	}
	return false
}

func (s Span) contains(version string) bool {
	return (s.From == "" || Compare(version, s.From) >= 0) &&
		(s.Before == "" || Compare(version, s.Before) < 0)
}

// adviceKubeconfig is what isthmus does about all that goes wrong with a replaced one.
const adviceKubeconfig = "keep kubeconfigs as they are and have tokens in files, or delete the Secret before another one comes"

// hazards is the table that validation, rendering and reconciling read. Sources
// are Istio's release notes and the issues named, checked against the code of
// the releases in question.
var hazards = []Hazard{
	{
		ID: "PeerRotationGap", Concern: ConcernPeers,
		Summary:  "replacing a peer's kubeconfig drops the old connection before the new one has synced",
		Affected: []Span{{Before: "1.30.0"}}, Fixed: []string{"1.30.0"},
		Advice: adviceKubeconfig, Handled: true,
	},
	{
		ID: "PeerRotationDeadlock", Concern: ConcernPeers, Issue: "istio#60612",
		Summary:  "replacing a peer's kubeconfig can deadlock and leave a stale registry",
		Affected: []Span{{From: "1.30.0", Before: "1.30.3"}}, Fixed: []string{"1.30.3"},
		Advice: adviceKubeconfig, Handled: true,
	},
	{
		ID: "PeerRotationLosesGateway", Concern: ConcernPeers, Issue: "istio#60920",
		Summary:  "replacing a peer's kubeconfig can lose the peer's network gateway and its endpoints",
		Affected: []Span{{From: "1.30.0", Before: "1.30.4"}}, Fixed: []string{"1.30.4", "1.31.0"},
		Advice: adviceKubeconfig, Handled: true,
	},
	{
		ID: "PeerRotationStaleAmbient", Concern: ConcernPeers, Issue: "istio#60033",
		Summary:  "after replacing a peer's kubeconfig the ambient index keeps objects of the old connection",
		Affected: []Span{{Before: "1.30.4"}}, Fixed: []string{"1.30.4", "1.31.0"},
		Advice: adviceKubeconfig, Handled: true,
	},
	{
		// By a test with the real istiods of both. A collection of the peer's gateways
		// that is built while the old connection goes is made of the old one's and then
		// kept for the new one (pilot/pkg/serviceregistry/ambient/networks.go,
		// pkg/kube/multicluster/collections.go).
		ID: "PeerRotationRace", Concern: ConcernPeers,
		Summary:  "replacing a peer's kubeconfig loses, every other time, the peer's network gateway and all that is behind it, until istiod restarts",
		Affected: []Span{{From: "1.30.4"}},
		Advice:   adviceKubeconfig, Handled: true,
	},
	{
		ID: "PeerInformerStuck", Concern: ConcernPeers, Issue: "istio#58047",
		Summary:  "a failed peer connection stays stuck until istiod restarts",
		Affected: []Span{{Before: "1.28.3"}}, Fixed: []string{"1.28.3", "1.29.0"},
		Advice: "move to 1.29 or newer",
	},
	{
		ID: "PeerLeak", Concern: ConcernPeers,
		Summary:  "removed and updated peers leak memory and goroutines in istiod",
		Affected: []Span{{Before: "1.30.4"}}, Fixed: []string{"1.30.4", "1.31.0"},
		Advice: "restart istiod now and then while members come and go",
	},
	{
		ID: "ReadyBeforePeers", Concern: ConcernPeers,
		Summary:  "istiod reports ready with local data only, before its peers have synced",
		Affected: []Span{{Before: "1.30.4"}}, Fixed: []string{"1.30.4", "1.31.0"},
		Advice: "do not read ready as converged",
	},
	{
		ID: "ReaderWithoutConfigMaps", Concern: ConcernPeers,
		Summary:  "a peer whose reader role lacks configmaps is given a wrong trust domain",
		Affected: []Span{{From: "1.29.0", Before: "1.29.2"}}, Fixed: []string{"1.29.2", "1.30.0"},
		Advice:  "deliver the reader role before istiod",
		Handled: true,
	},
	{
		ID: "RemoteCredentialsSwitch", Concern: ConcernPeers,
		Summary:  "istiod crashes as soon as it reads a peer while PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER is off",
		Affected: []Span{{From: "1.31.0"}},
		Advice:   "leave it on, and leave the account that peers read with the right to list secrets",
		Handled:  true,
	},
	{
		ID: "WaypointOnItsOwnNetwork", Concern: ConcernWaypoint,
		Summary:  "a waypoint sends requests to endpoints on its own network only",
		Affected: []Span{{Before: "1.28.0"}}, Fixed: []string{"1.28.0"},
		Advice: "move to 1.28 or newer where a service behind a waypoint is to be reached on other networks",
	},
	{
		ID: "WaypointBypassedByIngress", Concern: ConcernWaypoint, Issue: "istio#61092",
		Summary:  "ingress bypasses a waypoint on another network, and its policy is not enforced",
		Affected: []Span{{Before: "1.30.4"}}, Fixed: []string{"1.30.4", "1.31.0"},
		Advice: "security: do not rely on a remote waypoint's policy for ingress traffic",
	},
	{
		ID: "GatewayDenyAll", Concern: ConcernGateway, Issue: "istio#60806",
		Summary:  "an L7 AuthorizationPolicy makes the east-west gateway deny everything",
		Affected: []Span{{Before: "1.29.6"}, {From: "1.30.0", Before: "1.30.3"}}, Fixed: []string{"1.29.6", "1.30.3"},
		Advice: "attach L7 policies to waypoints only",
	},
	{
		ID: "CustomTrustDomain", Concern: ConcernTrustDomain, Issue: "istio#58427",
		Summary:  "a trust domain other than cluster.local breaks mTLS between networks",
		Affected: []Span{{Before: "1.28.1"}}, Fixed: []string{"1.28.1"},
		Advice: "use cluster.local on this release",
	},
	{
		ID: "IngressFlagDocumentedTrue", Concern: ConcernGateway,
		Summary:  "AMBIENT_ENABLE_MULTI_NETWORK_INGRESS is documented as on by default and is off",
		Affected: []Span{{From: "1.29.0"}},
		Advice:   "set it explicitly",
		Handled:  true,
	},
	{
		ID: rootContainmentByBytes, Concern: ConcernRotation,
		Summary:  "a changed root bundle is only taken if the old text is a contiguous part of the new",
		Affected: []Span{{From: "1.26.0", Before: "1.30.0"}}, Fixed: []string{"1.30.0"},
		Advice: "append or prepend roots, never reorder them",
	},
	{
		ID: ztunnelKeepsOldRoot, Concern: ConcernRotation,
		Summary:  "ztunnel's CA client keeps the root it started with",
		Affected: []Span{{Before: "1.28.6"}, {From: "1.29.0", Before: "1.29.2"}}, Fixed: []string{"1.28.6", "1.29.2", "1.30.0"},
		Advice: "restart ztunnel when the root changes",
	},
	{
		ID: leafOutlivesIntermediate, Concern: ConcernRotation,
		Summary:  "workload certificates may outlive the intermediate that signed them",
		Affected: []Span{{Before: "1.28.7"}, {From: "1.29.0", Before: "1.29.3"}}, Fixed: []string{"1.28.7", "1.29.3", "1.30.0"},
		Advice: "renew the intermediate at least one workload lifetime before it expires",
	},
	{
		ID: "RevocationOfClientsOnly", Concern: ConcernRevocation,
		Summary:  "node proxies refuse revoked clients in new connections only: not revoked servers, and not in connections that are open",
		Affected: []Span{{From: "1.29.0", Before: "1.31.0"}}, Fixed: []string{"1.31.0"},
		Advice: "move to 1.31 or newer, or restart ztunnel after a revocation to end open connections",
	},
	{
		ID: "RevocationNotInGateways", Concern: ConcernRevocation,
		Summary:  "waypoints and gateways do not read the list of what is revoked",
		Affected: []Span{{From: "1.29.0"}},
		Advice:   "for services behind a waypoint, refuse the member's identities by an AuthorizationPolicy until its certificates have expired",
	},
	{
		ID: "GatewayListeners", Concern: ConcernGateway,
		Summary:  "the east-west gateway takes no listeners other than HBONE",
		Affected: []Span{{Before: "1.30.0"}}, Fixed: []string{"1.30.0"},
		Advice:  "leave other listeners out",
		Handled: true,
	},
	{
		ID: "WebhookPolicyFlip", Concern: ConcernUpgrade,
		Summary:  "istiod changes the failure policy of its validation webhooks from Ignore to Fail",
		Affected: []Span{{From: "1.0.0"}},
		Advice:   "deliver them with Fail",
		Handled:  true,
	},
	{
		ID: "IptablesReconciled", Concern: ConcernUpgrade,
		Summary:  "the CNI agent rewrites the rules of running pods when it starts",
		Affected: []Span{{From: "1.29.0"}},
		Advice:   "expect it on the upgrade from an older release",
	},
	{
		ID: "ExcludedNamespacesLeave", Concern: ConcernUpgrade,
		Summary:  "the CNI agent takes pods of excluded namespaces out of the mesh",
		Affected: []Span{{From: "1.30.0"}},
		Advice:   "check excluded namespaces before the upgrade from an older release",
	},
	{
		ID: "ReconnectTooLarge", Concern: ConcernScale,
		Summary:  "ztunnel's reconnect request exceeds 4 MiB at about 40,000 workloads",
		Affected: []Span{{From: "1.30.4"}},
		Advice:   "raise ISTIO_GPRC_MAXRECVMSGSIZE on istiod by 1 MiB per 10,000 workloads",
	},
	{
		ID: "ServiceEntryPassthrough", Concern: ConcernUpgrade, Issue: "istio#57656",
		Summary:  "a ServiceEntry without resolution becomes a passthrough that an older ztunnel refuses",
		Affected: []Span{{From: "1.28.0"}},
		Advice:   "expect it while istiod is newer than ztunnel",
	},
	{
		ID: "WorkloadEntryCrash", Concern: ConcernGateway, Issue: "istio#59321",
		Summary:  "istiod crashes on a WorkloadEntry of another network while the multi-network flag is off",
		Affected: []Span{{From: "1.28.0", Before: "1.28.6"}, {From: "1.29.0", Before: "1.29.1"}}, Fixed: []string{"1.28.6", "1.29.1"},
		Advice:  "turn the flag on first",
		Handled: true,
	},
	{
		ID: "CiliumExclusive", Concern: ConcernCilium,
		Summary:  "Cilium removes other CNI plugins' configuration, and its BPF masquerade and default-deny policies catch the health probes of pods in the mesh",
		Affected: []Span{{From: "1.0.0"}},
		Advice:   "set cni.exclusive=false and no BPF masquerade with link-local addresses, and allow 169.254.7.127/32 by a CiliumClusterwideNetworkPolicy where the default is deny",
	},
	{
		ID: "AzureCiliumManaged", Concern: ConcernAzureCNICilium,
		Summary:  "AKS owns the configuration of Cilium, so cni.exclusive cannot be set, and a default-deny policy catches the health probes of pods in the mesh",
		Affected: []Span{{From: "1.0.0"}},
		Advice:   "try one node pool first: 10-azure-cilium.conflist and istio-cni must both stay in /etc/cni/net.d; allow 169.254.7.127/32 where the default is deny",
	},
	{
		ID: "AzureNetworkPolicyManager", Concern: ConcernAzureCNI, Issue: "istio#45760",
		Summary:  "Azure Network Policy Manager was reported not to see traffic that the mesh carries",
		Affected: []Span{{From: "1.0.0"}},
		Advice:   "use Calico or Cilium for network policies, or AuthorizationPolicies of the mesh",
	},
}
