package bundle

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Stage is a step of delivery: a stage is applied when the one before it is
// healthy, and removed in reverse order.
type Stage string

// The stages, in the order of delivery.
const (
	// StageFoundation: namespaces and CRDs.
	StageFoundation Stage = "foundation"
	// StageControlPlane: istiod with its RBAC, webhooks and configuration. The
	// CA secret is delivered just before it and is not part of a bundle.
	StageControlPlane Stage = "control-plane"
	// StageCNI: the Istio CNI node agent.
	StageCNI Stage = "cni"
	// StageZtunnel: the node proxy.
	StageZtunnel Stage = "ztunnel"
	// StageGateways: the east-west gateway, waypoints, mesh-wide policy.
	StageGateways Stage = "gateways"
)

// Stages in the order of delivery.
var Stages = []Stage{StageFoundation, StageControlPlane, StageCNI, StageZtunnel, StageGateways}

// Object is one object of a bundle and the stage in which it is delivered.
type Object struct {
	Stage  Stage
	Object *unstructured.Unstructured
}

// Bundle is what one member should run. It is immutable, is the same bytes for
// the same input, and never contains key material.
type Bundle struct {
	// Member and Network that the bundle is for.
	Member, Network string
	// SystemNamespace is where the mesh's own objects live.
	SystemNamespace string
	// Release of Istio, such as "1.30.4".
	Release string
	// Objects sorted by stage, then kind, namespace and name.
	Objects []Object
	// Digest over the objects, "sha256:…"; equal digests mean equal bundles.
	Digest string
}
