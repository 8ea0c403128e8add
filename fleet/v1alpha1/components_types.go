package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Components are settings of the mesh's own workloads. What is left out stays
// as Istio's charts of the release have it.
type Components struct {
	// Istiod is the control plane.
	Istiod *Istiod `json:"istiod,omitempty"`

	// Ztunnel is the node proxy.
	Ztunnel *Ztunnel `json:"ztunnel,omitempty"`

	// CNI is the node agent that redirects pods' traffic to the node proxy.
	CNI *CNI `json:"cni,omitempty"`

	// EastWestGateway is the proxy behind the member's east-west gateway.
	EastWestGateway *Proxy `json:"eastWestGateway,omitempty"`

	// Waypoints are the proxies behind every waypoint.
	Waypoints *Proxy `json:"waypoints,omitempty"`

	// Nodes are where the mesh's own workloads may run.
	Nodes *Nodes `json:"nodes,omitempty"`

	// Images are where the mesh's own images come from.
	Images *Images `json:"images,omitempty"`
}

// LogLevel is how much a component logs.
// +kubebuilder:validation:Enum=error;warn;info;debug
type LogLevel string

// Istiod is the control plane.
type Istiod struct {
	// Resources of one replica. Default: the release's.
	Resources *Resources `json:"resources,omitempty"`

	// Replicas are the bounds of the autoscaler. Default: the release's, 1 to 5.
	Replicas *Replicas `json:"replicas,omitempty"`

	// LogLevel of every scope. Gateways' agents log at it, too. Default: info.
	LogLevel LogLevel `json:"logLevel,omitempty"`
}

// Ztunnel is the node proxy.
type Ztunnel struct {
	// Resources of the proxy of one node. Default: the release's.
	Resources *Resources `json:"resources,omitempty"`

	// LogLevel of the proxy. Default: info.
	LogLevel LogLevel `json:"logLevel,omitempty"`

	// Drain is how long connections may live on when the proxy of a node is
	// replaced, before they are cut. Whole seconds, from 1s to 24h. Default: 25s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Drain *metav1.Duration `json:"drain,omitempty"`
}

// CNI is the node agent.
type CNI struct {
	// Resources of the agent of one node. Default: the release's.
	Resources *Resources `json:"resources,omitempty"`

	// LogLevel of the agent. Default: info.
	LogLevel LogLevel `json:"logLevel,omitempty"`
}

// Proxy is the workload behind gateways of one kind, which istiod makes.
type Proxy struct {
	// Resources of one replica. Default: the release's.
	Resources *Resources `json:"resources,omitempty"`

	// Replicas are the bounds of the autoscaler, 1 to 5 where one is left out.
	// Default: no autoscaler, and one replica.
	Replicas *Replicas `json:"replicas,omitempty"`
}

// Resources are what a container asks for and is held to.
type Resources struct {
	// Requests are what is set aside for the container. Without one, a limit is
	// also the request, as in Kubernetes.
	Requests *Quantities `json:"requests,omitempty"`

	// Limits are what the container is held to. Default: none.
	Limits *Quantities `json:"limits,omitempty"`
}

// Quantities are amounts of CPU and memory.
type Quantities struct {
	// CPU in cores, such as "500m" or "2".
	// +kubebuilder:validation:Pattern=`^([1-9][0-9]{0,5}m|[1-9][0-9]{0,3}|[0-9]{1,4}\.[0-9]{1,3})$`
	CPU string `json:"cpu,omitempty"`

	// Memory in bytes, such as "512Mi" or "2Gi".
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]{0,11}(Ki|Mi|Gi|k|M|G)?$`
	Memory string `json:"memory,omitempty"`
}

// Replicas are the bounds of an autoscaler.
type Replicas struct {
	// Min is the least number of replicas. Default: 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Min *int32 `json:"min,omitempty"`

	// Max is the greatest number of replicas. Default: 5, or min if that is more.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Max *int32 `json:"max,omitempty"`
}

// Nodes are where the mesh's own workloads may run.
type Nodes struct {
	// Selector is labels that a node must have to run any of the mesh's own
	// workloads. Pods on other nodes cannot be in the mesh: their node has no
	// proxy. Default: every Linux node.
	Selector map[string]string `json:"selector,omitempty"`

	// ExcludeVirtual keeps the node agents off the virtual nodes of AKS, where
	// they cannot start. Default: true.
	ExcludeVirtual *bool `json:"excludeVirtual,omitempty"`
}

// Images are where the mesh's own images come from.
type Images struct {
	// Registry, with a path if there is one, that has the images pilot, proxyv2,
	// install-cni and ztunnel under Istio's tags. Default: the release's.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)*$`
	Registry string `json:"registry,omitempty"`

	// PullSecrets are names of Secrets to pull the images with, in the system
	// namespace and in that of every waypoint. They are not delivered.
	PullSecrets []SecretName `json:"pullSecrets,omitempty"`

	// Digests pin the images, release by release. With any, a member that runs a
	// release without them is an error.
	// +listType=map
	// +listMapKey=release
	Digests []ImageDigests `json:"digests,omitempty"`
}

// ImageDigests are the digests of one release's images.
type ImageDigests struct {
	// Release that the images are of, a full version such as "1.30.4".
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+\.[0-9]+$`
	Release string `json:"release"`

	// Pilot is the image of istiod.
	Pilot Digest `json:"pilot"`

	// Proxy is the image of gateways and waypoints, proxyv2.
	Proxy Digest `json:"proxy"`

	// CNI is the image of the node agent, install-cni.
	CNI Digest `json:"cni"`

	// Ztunnel is the image of the node proxy.
	Ztunnel Digest `json:"ztunnel"`
}

// Digest is the SHA-256 digest of what a registry holds.
// +kubebuilder:validation:Pattern=`^sha256:[0-9a-f]{64}$`
type Digest string

// SecretName is the name of a Secret.
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type SecretName string
