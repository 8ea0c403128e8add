package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Member is one cluster that has joined an ApplicationNetwork. Its name is the
// cluster's name in the mesh: unique in the fleet and never reused for another
// cluster while the first is a member.
//
// +kubebuilder:object:root=true
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{1,22}[a-z0-9])$')",message="metadata.name must be 3 to 24 lower-case letters, digits and dashes"
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=isthmus
// +kubebuilder:selectablefield:JSONPath=`.status.clusterUID`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.spec.applicationNetwork`
// +kubebuilder:printcolumn:name="Release",type=string,JSONPath=`.status.release`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Member struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MemberSpec   `json:"spec"`
	Status MemberStatus `json:"status,omitempty"`
}

// MemberList is a list of Members.
//
// +kubebuilder:object:root=true
type MemberList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Member `json:"items"`
}

// MemberSpec is one cluster's place in its network.
type MemberSpec struct {
	// ApplicationNetwork is the name of the network that the cluster joins.
	// +kubebuilder:validation:MinLength=1
	ApplicationNetwork string `json:"applicationNetwork"`

	// Cluster says how to reach the cluster's API server.
	Cluster Cluster `json:"cluster"`

	// Location is the region of the cluster, for people.
	Location string `json:"location,omitempty"`

	// Connectivity is how other members reach this one's workloads.
	Connectivity Connectivity `json:"connectivity,omitempty"`

	// ControlPlane says where the member's istiod runs.
	ControlPlane ControlPlane `json:"controlPlane,omitempty"`

	// Upgrade says which release the member runs. Default: the network's.
	Upgrade *Upgrade `json:"upgrade,omitempty"`

	// GatewayAPI says who owns the CRDs of the Gateway API on this member, field
	// by field in place of the network's.
	GatewayAPI *GatewayAPI `json:"gatewayAPI,omitempty"`

	// MaintenanceWindows in which the member may change. Without any: always.
	MaintenanceWindows []MaintenanceWindow `json:"maintenanceWindows,omitempty"`

	// Trust says what becomes of the member's CA before its time.
	Trust *MemberTrust `json:"trust,omitempty"`

	// Suspend stops every change on the member, drift correction included.
	Suspend bool `json:"suspend,omitempty"`

	// Drift says what becomes of changes that others make on this member: its mode
	// in place of the network's, its fields beside them.
	Drift *Drift `json:"drift,omitempty"`

	// Leave says what becomes of the cluster when the member's file goes. It has to
	// be in a commit before that. Default: Remove.
	Leave LeaveMode `json:"leave,omitempty"`

	// Components are settings of the mesh's own workloads on this member, field
	// by field in place of the network's.
	Components *Components `json:"components,omitempty"`

	// Patches are Kustomize patches over the member's rendered objects, after
	// those of the network. Each must match.
	Patches []Patch `json:"patches,omitempty"`
}

// LeaveMode says what becomes of a cluster that leaves.
// +kubebuilder:validation:Enum=Remove;Force;Orphan
type LeaveMode string

// The leave modes.
const (
	// LeaveRemove takes everything of isthmus off the cluster, and waits while
	// workloads are still enrolled in the mesh.
	LeaveRemove LeaveMode = "Remove"
	// LeaveForce does so even while workloads are enrolled.
	LeaveForce LeaveMode = "Force"
	// LeaveOrphan leaves the cluster as it is: the mesh there goes on by itself
	// until its certificates expire.
	LeaveOrphan LeaveMode = "Orphan"
)

// ClusterType is a kind of cluster.
// +kubebuilder:validation:Enum=AKS;Kubernetes;Hub
type ClusterType string

// The kinds of cluster.
const (
	// ClusterAKS is reached by its Azure resource id and an Entra token.
	ClusterAKS ClusterType = "AKS"
	// ClusterKubernetes is reached by a kubeconfig in a Secret of the hub.
	ClusterKubernetes ClusterType = "Kubernetes"
	// ClusterHub is the cluster in which the reconciler itself runs.
	ClusterHub ClusterType = "Hub"
)

// Cluster says how to reach a cluster's API server.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'AKS') == has(self.resourceID)",message="resourceID is set with type AKS, and only then"
// +kubebuilder:validation:XValidation:rule="(self.type == 'Kubernetes') == has(self.kubeconfigRef)",message="kubeconfigRef is set with type Kubernetes, and only then"
// +kubebuilder:validation:XValidation:rule="self.type == 'AKS' || !has(self.azure)",message="azure is set with type AKS only"
type Cluster struct {
	// Type is the kind of cluster.
	Type ClusterType `json:"type"`

	// ResourceID is the cluster's Azure resource id; only with type AKS.
	ResourceID string `json:"resourceID,omitempty"`

	// KubeconfigRef names a Secret beside the Member on the hub; only with type
	// Kubernetes.
	KubeconfigRef *SecretKeyReference `json:"kubeconfigRef,omitempty"`

	// Azure says how to log in to Azure and which of the cluster's addresses to
	// take; only with type AKS.
	Azure *Azure `json:"azure,omitempty"`

	// PeerEndpoint is the address of the cluster's API server for other members'
	// istiods. Default: the one that the reconciler takes.
	PeerEndpoint *PeerEndpoint `json:"peerEndpoint,omitempty"`

	// KubernetesVersion that the cluster runs, a minor or a full version. It is
	// for checks before the cluster is seen, and for channels: what the
	// reconciler sees goes before it. Default: not known.
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+(\.[0-9]+)?$`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// CNI is the network plugin of the cluster, for checks. Default: not known.
	CNI NetworkPlugin `json:"cni,omitempty"`
}

// AzureIdentity is a way to log in to Azure.
// +kubebuilder:validation:Enum=WorkloadIdentity;ManagedIdentity;ServicePrincipal
type AzureIdentity string

// The ways to log in to Azure.
const (
	// AzureWorkloadIdentity exchanges the token of the reconciler's ServiceAccount.
	AzureWorkloadIdentity AzureIdentity = "WorkloadIdentity"
	// AzureManagedIdentity is an identity of the node or of Azure Arc.
	AzureManagedIdentity AzureIdentity = "ManagedIdentity"
	// AzureServicePrincipal is an application with a secret or certificate.
	AzureServicePrincipal AzureIdentity = "ServicePrincipal"
)

// AzureCloud is one of Azure's clouds.
// +kubebuilder:validation:Enum=Public;Government;China
type AzureCloud string

// Azure's clouds.
const (
	AzurePublic     AzureCloud = "Public"
	AzureGovernment AzureCloud = "Government"
	AzureChina      AzureCloud = "China"
)

// AzureEndpoint is one of the addresses of an AKS cluster's API server.
// +kubebuilder:validation:Enum=Public;Private
type AzureEndpoint string

// The addresses of an AKS cluster's API server.
const (
	// EndpointPublic is its FQDN.
	EndpointPublic AzureEndpoint = "Public"
	// EndpointPrivate is its private FQDN.
	EndpointPrivate AzureEndpoint = "Private"
)

// AzureLogin says how the reconciler logs in to Azure.
//
// +kubebuilder:validation:XValidation:rule="(has(self.identity) && self.identity == 'ServicePrincipal') == has(self.secretRef)",message="secretRef is set with identity ServicePrincipal, and only then"
// +kubebuilder:validation:XValidation:rule="!has(self.identity) || self.identity != 'ServicePrincipal' || (has(self.clientID) && has(self.tenantID))",message="identity ServicePrincipal needs clientID and tenantID"
type AzureLogin struct {
	// Identity is the way to log in. Default: WorkloadIdentity.
	Identity AzureIdentity `json:"identity,omitempty"`

	// ClientID of the identity, a UUID. Default: that of the reconciler's pod.
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	ClientID string `json:"clientID,omitempty"`

	// TenantID of the identity, a UUID. Default: that of the reconciler's pod.
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	TenantID string `json:"tenantID,omitempty"`

	// SecretRef names a Secret beside the Fleet on the hub with the key
	// clientSecret, or clientCertificate with the certificate and its key as PEM;
	// only with identity ServicePrincipal.
	SecretRef *LocalObjectReference `json:"secretRef,omitempty"`

	// Cloud to log in to. Default: Public for a cluster, for a vault the one that its
	// address is in.
	Cloud AzureCloud `json:"cloud,omitempty"`
}

// Azure says how to reach an AKS cluster.
type Azure struct {
	AzureLogin `json:",inline"`

	// Endpoint is the address to take. Default: Private where the cluster has a
	// private one only, else Public.
	Endpoint AzureEndpoint `json:"endpoint,omitempty"`
}

// NetworkPlugin is what gives pods their network.
// +kubebuilder:validation:Enum=AzureCNI;AzureCNICilium;Cilium;Calico;Kubenet;Other
type NetworkPlugin string

// The network plugins that checks know.
const (
	// PluginAzureCNI is Azure CNI, in its node-subnet, pod-subnet or overlay mode.
	PluginAzureCNI NetworkPlugin = "AzureCNI"
	// PluginAzureCNICilium is Azure CNI powered by Cilium, which AKS configures.
	PluginAzureCNICilium NetworkPlugin = "AzureCNICilium"
	// PluginCilium is Cilium as people install it themselves.
	PluginCilium NetworkPlugin = "Cilium"
	// PluginCalico is Calico.
	PluginCalico NetworkPlugin = "Calico"
	// PluginKubenet is kubenet.
	PluginKubenet NetworkPlugin = "Kubenet"
	// PluginOther is any other that chains.
	PluginOther NetworkPlugin = "Other"
)

// SecretKeyReference names one key of a Secret in the same namespace.
type SecretKeyReference struct {
	// Name of the Secret.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`

	// Key in the Secret. Default: "value", else "value.yaml", as Flux has it.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// Connectivity is how other members reach this one's workloads.
type Connectivity struct {
	// Network is the name of the L3 network that the member's pods are in:
	// members that name the same one reach each other's pods directly, all others
	// go through east-west gateways. Default: the member's name.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Network string `json:"network,omitempty"`

	// PodCIDRs are the ranges of the member's pods, for checks: on one L3 network
	// they must not overlap. Default: not known.
	// +kubebuilder:validation:MaxItems=16
	PodCIDRs []CIDR `json:"podCIDRs,omitempty"`

	// EastWestGateway is the member's door for traffic from other networks. There
	// is none where all of several members are on one network.
	EastWestGateway EastWestGateway `json:"eastWestGateway,omitempty"`
}

// CIDR is a range of IP addresses, such as "10.244.0.0/16".
// +kubebuilder:validation:MaxLength=43
type CIDR string

// Visibility says from where a gateway's address can be reached.
// +kubebuilder:validation:Enum=Internal;External
type Visibility string

// The visibilities.
const (
	// VisibilityInternal is an address inside the private network.
	VisibilityInternal Visibility = "Internal"
	// VisibilityExternal is a public address.
	VisibilityExternal Visibility = "External"
)

// EastWestGateway is the member's door for traffic from other networks.
type EastWestGateway struct {
	// Visibility says from where the gateway's address can be reached.
	// +kubebuilder:default=Internal
	Visibility Visibility `json:"visibility,omitempty"`

	// Address is the gateway's IP address, one that its load balancer may take.
	// Default: the load balancer chooses.
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address,omitempty"`

	// Subnet is the name of the subnet in Azure that the address is in; only with
	// visibility Internal. Default: the one of the cluster's nodes.
	// +kubebuilder:validation:MaxLength=80
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[_a-zA-Z0-9])?$`
	Subnet string `json:"subnet,omitempty"`
}

// Placement says where an istiod runs.
// +kubebuilder:validation:Enum=Member;Hosted
type Placement string

// The placements.
const (
	// PlacementMember runs istiod in the member itself.
	PlacementMember Placement = "Member"
	// PlacementHosted runs the member's istiod in another member.
	PlacementHosted Placement = "Hosted"
)

// ControlPlane says where the member's istiod runs.
//
// +kubebuilder:validation:XValidation:rule="(has(self.placement) && self.placement == 'Hosted') == has(self.host)",message="host is set with placement Hosted, and only then"
type ControlPlane struct {
	// Placement says where the member's istiod runs.
	// +kubebuilder:default=Member
	Placement Placement `json:"placement,omitempty"`

	// Host is the member that runs it; only with placement Hosted.
	Host string `json:"host,omitempty"`

	// Address at which the member reaches its istiod: the IP address or DNS name
	// of the load balancer in the host; only with placement Hosted.
	// +kubebuilder:validation:MaxLength=253
	Address string `json:"address,omitempty"`
}

// Weekday is a day of the week.
// +kubebuilder:validation:Enum=Mon;Tue;Wed;Thu;Fri;Sat;Sun
type Weekday string

// MaintenanceWindow is a weekly span of time.
type MaintenanceWindow struct {
	// Days on which the window opens.
	// +kubebuilder:validation:MinItems=1
	Days []Weekday `json:"days"`

	// Start is the time of day at which it opens, "15:04".
	// +kubebuilder:validation:Pattern=`^([01][0-9]|2[0-3]):[0-5][0-9]$`
	Start string `json:"start"`

	// Duration for which it stays open, up to 168h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Duration metav1.Duration `json:"duration"`

	// Timezone of Start, an IANA name. Default UTC.
	Timezone string `json:"timezone,omitempty"`
}

// MemberStatus is what the hub observes of the member.
type MemberStatus struct {
	// ObservedGeneration of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready; TrustReady; PeersReady; Reconciling and Stalled only while true.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastHandledReconcileAt is the last handled value of the annotation
	// reconcile.fluxcd.io/requestedAt.
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`

	// AppliedRevision is the commit whose bundle was last applied whole, in
	// Flux's form "main@sha1:…".
	AppliedRevision string `json:"appliedRevision,omitempty"`

	// AttemptedRevision is the commit whose bundle was last tried.
	AttemptedRevision string `json:"attemptedRevision,omitempty"`

	// Digest of the bundle last applied whole.
	Digest string `json:"digest,omitempty"`

	// Release that the bundle last applied whole carries.
	Release string `json:"release,omitempty"`

	// KubernetesVersion that the member's API server said last.
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// Objects in the member's inventory.
	Objects int32 `json:"objects,omitempty"`

	// Nodes that ztunnel and the CNI agent were scheduled on when that was last looked at,
	// which each delivery and each full compare does.
	Nodes int32 `json:"nodes,omitempty"`

	// ClusterUID is the UID of the cluster's kube-system namespace, by which one
	// cluster is known under any name.
	ClusterUID string `json:"clusterUID,omitempty"`

	// Drift sums up what others changed.
	Drift *DriftStatus `json:"drift,omitempty"`

	// Leave are the steps of a member that leaves, in order; empty for one that
	// stays.
	// +listType=map
	// +listMapKey=name
	Leave []LeaveStep `json:"leave,omitempty"`

	// Trust says which CA the member has.
	Trust *MemberTrustStatus `json:"trust,omitempty"`

	// Discovery says whom the member discovers, and what others discover of it.
	Discovery *DiscoveryStatus `json:"discovery,omitempty"`

	// Certificates that the member was given, by tier.
	// +listType=map
	// +listMapKey=tier
	Certificates []CertificateStatus `json:"certificates,omitempty"`
}

// DriftStatus sums up the drift of one member.
type DriftStatus struct {
	// Corrected counts the objects put back since the member joined.
	Corrected int64 `json:"corrected,omitempty"`

	// LastCorrected is when an object was last put back.
	LastCorrected *metav1.Time `json:"lastCorrected,omitempty"`

	// LastObject that was put back, as Kind/namespace/name.
	LastObject string `json:"lastObject,omitempty"`

	// Reported are objects that differ and are left so, at most twenty.
	Reported []DriftedObject `json:"reported,omitempty"`

	// Contested are objects that another writer keeps changing, at most twenty:
	// they are put back ever more rarely.
	Contested []DriftedObject `json:"contested,omitempty"`
}

// DriftedObject is one object that is not as it was applied.
type DriftedObject struct {
	// Object, as Kind/namespace/name.
	Object string `json:"object"`

	// By is the field manager that wrote last beside us.
	By string `json:"by,omitempty"`
}

// LeaveState says how far a step is.
// +kubebuilder:validation:Enum=Pending;Running;Blocked;Done;Skipped
type LeaveState string

// The states of a step.
const (
	LeavePending LeaveState = "Pending"
	LeaveRunning LeaveState = "Running"
	LeaveBlocked LeaveState = "Blocked"
	LeaveDone    LeaveState = "Done"
	LeaveSkipped LeaveState = "Skipped"
)

// LeaveStep is one step of a member's way out.
type LeaveStep struct {
	// Name of the step.
	Name string `json:"name"`

	// State of the step.
	State LeaveState `json:"state"`

	// Message says what a step waits for or why it is blocked.
	Message string `json:"message,omitempty"`
}

// CertificateStatus tells which CA certificate a member has; never the key.
type CertificateStatus struct {
	// Tier is Root or Intermediate.
	// +kubebuilder:validation:Enum=Root;Intermediate
	Tier string `json:"tier"`

	// Serial number, hexadecimal.
	Serial string `json:"serial"`

	// NotAfter is when the certificate expires.
	NotAfter metav1.Time `json:"notAfter"`

	// RenewalTime is when the certificate is due for replacement, at the latest.
	RenewalTime *metav1.Time `json:"renewalTime,omitempty"`
}

// GetConditions returns the status conditions.
func (m *Member) GetConditions() []metav1.Condition { return m.Status.Conditions }

// SetConditions replaces the status conditions.
func (m *Member) SetConditions(c []metav1.Condition) { m.Status.Conditions = c }
