package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Owner says who installs and upgrades something.
// +kubebuilder:validation:Enum=Member;isthmus
type Owner string

// The owners.
const (
	// OwnerMember is whoever runs the cluster: isthmus checks and writes nothing.
	OwnerMember Owner = "Member"
	// OwnerIsthmus is isthmus.
	OwnerIsthmus Owner = "isthmus"
)

// GatewayAPIChannel is a set of the Gateway API's CRDs.
// +kubebuilder:validation:Enum=Standard;Experimental
type GatewayAPIChannel string

// The channels of the Gateway API.
const (
	// GatewayAPIStandard is all that the mesh needs.
	GatewayAPIStandard GatewayAPIChannel = "Standard"
	// GatewayAPIExperimental has fields and kinds that may still change.
	GatewayAPIExperimental GatewayAPIChannel = "Experimental"
)

// GatewayAPI says who owns the CRDs of the Gateway API.
type GatewayAPI struct {
	// Owner of the CRDs. Default: Member.
	Owner Owner `json:"owner,omitempty"`

	// Version of the CRDs, such as "v1.5.1": with owner isthmus the one to
	// deliver, by default the one that the release is built with; with owner
	// Member the one that is there, for checks, by default not known.
	// +kubebuilder:validation:Pattern=`^v[0-9]+\.[0-9]+\.[0-9]+$`
	Version string `json:"version,omitempty"`

	// Channel of the CRDs. Default: Standard.
	Channel GatewayAPIChannel `json:"channel,omitempty"`
}

// Release is a release of Istio that isthmus itself does not know. What Istio
// says of it, such as the range of Kubernetes versions, is taken from the newest
// release that isthmus knows of the same minor, else of any.
type Release struct {
	// Version of the release, such as "1.31.2".
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+\.[0-9]+$`
	Version string `json:"version"`

	// Charts of the release.
	Charts Charts `json:"charts"`
}

// Charts are Helm charts in an OCI registry, pinned by digest.
type Charts struct {
	// Repository below which the charts base, istiod, cni and ztunnel are, without
	// a scheme, such as "registry.example.com/istio/charts".
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([-._a-z0-9]*[a-z0-9])?)*$`
	Repository string `json:"repository"`

	// Digests of the charts' manifests in the registry.
	Digests ChartDigests `json:"digests"`
}

// ChartDigests are the digests of a release's charts.
type ChartDigests struct {
	// Base is the chart of the CRDs.
	Base Digest `json:"base"`

	// Istiod is the chart of the control plane.
	Istiod Digest `json:"istiod"`

	// CNI is the chart of the node agent.
	CNI Digest `json:"cni"`

	// Ztunnel is the chart of the node proxy.
	Ztunnel Digest `json:"ztunnel"`
}

// Manifests are people's own manifests in the fleet's repository.
type Manifests struct {
	// Path of a YAML file, or of a folder of which every YAML file is read, from
	// the folder of the file that names it. It stays inside the fleet.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path"`

	// Members that receive them, by label. Default: every member.
	Members *metav1.LabelSelector `json:"members,omitempty"`
}
