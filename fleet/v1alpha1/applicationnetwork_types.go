package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ApplicationNetwork is one trust boundary: one root CA, one trust domain, one
// mesh. It is the parent of members, as appLinks is of appLinkMembers in Azure
// Kubernetes Application Network.
//
// +kubebuilder:object:root=true
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{1,22}[a-z0-9])$')",message="metadata.name must be 3 to 24 lower-case letters, digits and dashes"
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=appnet,categories=isthmus
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.members`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ApplicationNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ApplicationNetworkSpec   `json:"spec"`
	Status ApplicationNetworkStatus `json:"status,omitempty"`
}

// ApplicationNetworkList is a list of ApplicationNetworks.
//
// +kubebuilder:object:root=true
type ApplicationNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ApplicationNetwork `json:"items"`
}

// ApplicationNetworkSpec is what every member of the network shares.
type ApplicationNetworkSpec struct {
	// Trust is the certificate hierarchy: root, intermediates, workloads.
	Trust Trust `json:"trust,omitempty"`

	// DataPlane is how the mesh runs on every member.
	DataPlane DataPlane `json:"dataPlane,omitempty"`

	// Discovery is how members find each other's services.
	Discovery Discovery `json:"discovery,omitempty"`

	// Namespaces are enrolled in the mesh, the same on every member.
	// +listType=map
	// +listMapKey=name
	Namespaces []MeshNamespace `json:"namespaces,omitempty"`

	// Upgrade is the default for members that do not set their own.
	Upgrade *Upgrade `json:"upgrade,omitempty"`

	// Rollout says in which order members receive a change. Without rings all
	// members receive it at once.
	Rollout Rollout `json:"rollout,omitempty"`

	// DeletionGuard stops a commit that would delete more than this.
	DeletionGuard DeletionGuard `json:"deletionGuard,omitempty"`

	// Review says what a change of the fleet has to keep to, as isthmus diff and
	// isthmus review check it.
	Review *Review `json:"review,omitempty"`

	// Drift says what becomes of changes that others make on members.
	Drift *Drift `json:"drift,omitempty"`

	// Components are settings of the mesh's own workloads on every member.
	Components *Components `json:"components,omitempty"`

	// Telemetry is what the mesh tells of the traffic.
	Telemetry *Telemetry `json:"telemetry,omitempty"`

	// MeshConfig is more of Istio's MeshConfig, for what no field here says. What
	// isthmus sets itself is refused.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	MeshConfig *runtime.RawExtension `json:"meshConfig,omitempty"`

	// AcceptedHazards are ids of known faults, as `isthmus catalog list` names
	// them, that are taken into account: nothing warns of them.
	AcceptedHazards []string `json:"acceptedHazards,omitempty"`

	// GatewayAPI says who owns the CRDs of the Gateway API on the members, for
	// members that do not say it themselves.
	GatewayAPI *GatewayAPI `json:"gatewayAPI,omitempty"`

	// Releases of Istio that isthmus itself does not know, newer ones above all.
	// +listType=map
	// +listMapKey=version
	Releases []Release `json:"releases,omitempty"`

	// Resources are people's own manifests that members receive, such as an
	// AuthorizationPolicy or an HTTPRoute.
	Resources []Manifests `json:"resources,omitempty"`

	// Patches are Kustomize patches over the rendered objects of every member,
	// the one escape hatch. Each must match on at least one member.
	Patches []Patch `json:"patches,omitempty"`
}

// MTLSMode is how workloads treat plain text.
// +kubebuilder:validation:Enum=Permissive;Strict
type MTLSMode string

// The mTLS modes.
const (
	// MTLSPermissive accepts plain text beside mTLS.
	MTLSPermissive MTLSMode = "Permissive"
	// MTLSStrict refuses plain text.
	MTLSStrict MTLSMode = "Strict"
)

// DataPlane is how the mesh runs on every member.
type DataPlane struct {
	// Namespace is the system namespace; Istio needs the same name on every
	// member.
	// +kubebuilder:default="applink-system"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// MTLS is the mode for enrolled workloads.
	// +kubebuilder:default=Permissive
	MTLS MTLSMode `json:"mtls,omitempty"`
}

// MeshNamespace is a namespace enrolled in the mesh on every member.
type MeshNamespace struct {
	// Name of the namespace.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// Ambient enrols the namespace's pods in the mesh, by Istio's label.
	Ambient bool `json:"ambient,omitempty"`

	// Waypoint is the namespace's L7 proxy, the same on every member.
	Waypoint *Waypoint `json:"waypoint,omitempty"`
}

// Waypoint is the L7 proxy of a namespace.
type Waypoint struct {
	// Name of the Gateway object and of its Service.
	// +kubebuilder:default="waypoint"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// Global lets clients on other members use the waypoint.
	Global bool `json:"global,omitempty"`
}

// UpgradeMode says who chooses the version.
// +kubebuilder:validation:Enum=FullyManaged;SelfManaged
type UpgradeMode string

// The upgrade modes.
const (
	// UpgradeFullyManaged follows a release channel.
	UpgradeFullyManaged UpgradeMode = "FullyManaged"
	// UpgradeSelfManaged stays on a version until Git names another.
	UpgradeSelfManaged UpgradeMode = "SelfManaged"
)

// Channel names one release per Kubernetes version.
// +kubebuilder:validation:Enum=Rapid;Stable
type Channel string

// The channels.
const (
	// ChannelRapid is the newest release.
	ChannelRapid Channel = "Rapid"
	// ChannelStable is the release before it.
	ChannelStable Channel = "Stable"
)

// Upgrade says which release a member runs.
//
// +kubebuilder:validation:XValidation:rule="!has(self.version) || self.mode == 'SelfManaged'",message="version is only for mode SelfManaged"
// +kubebuilder:validation:XValidation:rule="!has(self.channel) || self.mode == 'FullyManaged'",message="channel is only for mode FullyManaged"
type Upgrade struct {
	// Mode says who chooses the version.
	// +kubebuilder:default=SelfManaged
	Mode UpgradeMode `json:"mode,omitempty"`

	// Channel to follow; only with mode FullyManaged. Default Stable.
	Channel Channel `json:"channel,omitempty"`

	// Version to run; only with mode SelfManaged. A minor ("1.30": its newest
	// patch that the catalog knows) or a full version ("1.30.4"). Without it a
	// running member keeps what it runs and a new one gets the Stable release.
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+(\.[0-9]+)?$`
	Version string `json:"version,omitempty"`
}

// Rollout says in which order members receive a change.
type Rollout struct {
	// Rings receive a change one after another, in this order.
	// +listType=map
	// +listMapKey=name
	Rings []Ring `json:"rings,omitempty"`
}

// Ring is a group of members that receive a change together.
type Ring struct {
	// Name of the ring.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// Selector of members by label. Without it, in the last ring only: the
	// members of no earlier ring.
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// Soak is how long the ring must stay healthy before the next one starts.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Soak *metav1.Duration `json:"soak,omitempty"`

	// MaxConcurrent is how many members change at once: a count or a share.
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]*|[1-9][0-9]?%|100%)$`
	MaxConcurrent string `json:"maxConcurrent,omitempty"`

	// MaxFailures is how many members may fail before the rollout halts.
	// +kubebuilder:validation:Minimum=0
	MaxFailures *int32 `json:"maxFailures,omitempty"`
}

// DeletionGuard stops a commit that would delete more than this.
type DeletionGuard struct {
	// Members that one commit may remove; the last one of a network has to be named
	// in allow. Default 1.
	// +kubebuilder:validation:Minimum=0
	Members *int32 `json:"members,omitempty"`

	// ObjectsPercent of the objects of a member, and of all members together, that
	// one commit may delete, beside those of members that leave. Up to five may go
	// whatever their share, unless this is 0. Namespaces and CRDs always stop.
	// Default: 20.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	ObjectsPercent *int32 `json:"objectsPercent,omitempty"`

	// Allow names members whose removal is meant, and larger deletions that are
	// meant as the guard's message names them: "objects-" and a digest of them.
	Allow []string `json:"allow,omitempty"`
}

// Patch is one Kustomize patch: a strategic merge patch or a JSON 6902 patch.
type Patch struct {
	// Target selects the objects; a strategic merge patch may name its object
	// itself instead.
	Target *PatchTarget `json:"target,omitempty"`

	// Patch is the patch as YAML text.
	// +kubebuilder:validation:MinLength=1
	Patch string `json:"patch"`
}

// PatchTarget selects objects; all set fields must match.
type PatchTarget struct {
	// Group of the objects' kind, a regular expression.
	Group string `json:"group,omitempty"`
	// Version of the objects' kind, a regular expression.
	Version string `json:"version,omitempty"`
	// Kind of the objects, a regular expression.
	Kind string `json:"kind,omitempty"`
	// Name of the objects, a regular expression.
	Name string `json:"name,omitempty"`
	// Namespace of the objects, a regular expression.
	Namespace string `json:"namespace,omitempty"`
	// LabelSelector of the objects.
	LabelSelector string `json:"labelSelector,omitempty"`
	// AnnotationSelector of the objects.
	AnnotationSelector string `json:"annotationSelector,omitempty"`
}

// ApplicationNetworkStatus is what the hub observes of the network.
type ApplicationNetworkStatus struct {
	// ObservedGeneration of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready; Reconciling and Stalled only while true.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Members of the network in Git.
	Members int32 `json:"members,omitempty"`

	// Trust says where the network's CAs are.
	Trust *NetworkTrustStatus `json:"trust,omitempty"`
}

// GetConditions returns the status conditions.
func (n *ApplicationNetwork) GetConditions() []metav1.Condition { return n.Status.Conditions }

// SetConditions replaces the status conditions.
func (n *ApplicationNetwork) SetConditions(c []metav1.Condition) { n.Status.Conditions = c }
