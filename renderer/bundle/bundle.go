package bundle

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Stage is a step of delivery: a stage is applied when the one before it is
// healthy, and removed in reverse order.
type Stage string

// The stages, in the order of delivery.
const (
	// StageFoundation: namespaces, CRDs, and what peers may read. The reader
	// role comes this early because a peer's istiod of a newer release reads
	// more than the role of an older one allows.
	StageFoundation Stage = "foundation"
	// StageControlPlane: istiod with its RBAC, webhooks and configuration. The
	// CA secret is delivered just before it and is not part of a bundle.
	StageControlPlane Stage = "control-plane"
	// StageCNI: the Istio CNI node agent.
	StageCNI Stage = "cni"
	// StageZtunnel: the node proxy.
	StageZtunnel Stage = "ztunnel"
	// StageGateways: the east-west gateway, waypoints, mesh-wide policy, and
	// people's own manifests.
	StageGateways Stage = "gateways"
)

// Stages in the order of delivery.
var Stages = []Stage{StageFoundation, StageControlPlane, StageCNI, StageZtunnel, StageGateways}

// Labels and annotations that isthmus puts on what it delivers.
const (
	// ComponentLabel is on every object and names its [Component].
	ComponentLabel = "isthmus.dev/component"
	// NetworkLabel is on every object and names the network.
	NetworkLabel = "isthmus.dev/network"
	// PruneAnnotation says what becomes of an object that is no longer desired.
	PruneAnnotation = "isthmus.dev/prune"
	// PruneRelease: our fields are given up and the object stays.
	PruneRelease = "Release"
)

// Component is the part of the mesh that an object belongs to, the value of
// [ComponentLabel].
type Component string

// The components.
const (
	ComponentNamespaces Component = "namespaces"
	ComponentCRDs       Component = "crds"
	ComponentGatewayAPI Component = "gateway-api"
	ComponentTrust      Component = "trust"
	ComponentIstiod     Component = "istiod"
	ComponentCNI        Component = "cni"
	ComponentZtunnel    Component = "ztunnel"
	ComponentGateway    Component = "gateway"
	ComponentPolicy     Component = "policy"
	ComponentPeers      Component = "peers"
	ComponentTelemetry  Component = "telemetry"
	// ComponentResources are people's own manifests.
	ComponentResources Component = "resources"
)

// Object is one object of a bundle and the stage in which it is delivered.
type Object struct {
	Stage  Stage
	Object *unstructured.Unstructured
	// Digest of the object's canonical JSON, "sha256:…".
	Digest string
}

// NewObject returns the object with its digest. The object must not change
// afterwards.
func NewObject(stage Stage, object *unstructured.Unstructured) (Object, error) {
	// Encoding a map sorts its keys: equal objects have equal bytes.
	canonical, err := json.Marshal(object.Object)
	if err != nil {
		return Object{}, fmt.Errorf("encode %s: %w", IdentityOf(object), err)
	}
	sum := sha256.Sum256(canonical)
	return Object{Stage: stage, Object: object, Digest: formatDigest(sum[:])}, nil
}

// Target says for whom a bundle is. GatewayAPI names the CRDs of the Gateway API
// that are in it, "v1.5.1-standard"; empty for none.
type Target struct {
	Member, Network, SystemNamespace, Release, GatewayAPI string
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
	// GatewayAPI names the CRDs of the Gateway API among the objects, such as
	// "v1.5.1-standard"; empty where the member has its own.
	GatewayAPI string
	// Objects sorted by stage, then kind, namespace, name and group.
	Objects []Object
	// Digest over the objects, "sha256:…"; equal digests mean equal bundles.
	Digest string
}

// New returns the bundle of the objects, sorted, with its digest. It is an error
// if two objects have one identity, if one is a Secret, or if one lacks its
// component label: a reconciler would not find that one again.
func New(target Target, objects []Object) (Bundle, error) {
	sorted := slices.Clone(objects)
	if err := complete(sorted); err != nil {
		return Bundle{}, fmt.Errorf("bundle of member %q: %w", target.Member, err)
	}
	slices.SortFunc(sorted, compare)
	for i := 1; i < len(sorted); i++ {
		if IdentityOf(sorted[i-1].Object) == IdentityOf(sorted[i].Object) {
			return Bundle{}, fmt.Errorf("bundle of member %q: %s is in it twice", target.Member, IdentityOf(sorted[i].Object))
		}
	}
	return Bundle{
		Member: target.Member, Network: target.Network,
		SystemNamespace: target.SystemNamespace, Release: target.Release, GatewayAPI: target.GatewayAPI,
		Objects: sorted,
		Digest:  digest(target, sorted),
	}, nil
}

// complete checks each object and fills in the digests that are missing.
func complete(objects []Object) error {
	for i, object := range objects {
		gvk := object.Object.GroupVersionKind()
		if gvk.Group == "" && gvk.Kind == "Secret" {
			return fmt.Errorf("%s: a bundle contains no secrets", IdentityOf(object.Object))
		}
		if component(object) == "" {
			return fmt.Errorf("%s: no label %q", IdentityOf(object.Object), ComponentLabel)
		}
		if !slices.Contains(Stages, object.Stage) {
			return fmt.Errorf("%s: unknown stage %q", IdentityOf(object.Object), object.Stage)
		}
		if object.Digest != "" {
			continue
		}
		withDigest, err := NewObject(object.Stage, object.Object)
		if err != nil {
			return err
		}
		objects[i] = withDigest
	}
	return nil
}

func compare(a, b Object) int {
	return cmp.Or(
		cmp.Compare(slices.Index(Stages, a.Stage), slices.Index(Stages, b.Stage)),
		cmp.Compare(a.Object.GetKind(), b.Object.GetKind()),
		cmp.Compare(a.Object.GetNamespace(), b.Object.GetNamespace()),
		cmp.Compare(a.Object.GetName(), b.Object.GetName()),
		cmp.Compare(a.Object.GetAPIVersion(), b.Object.GetAPIVersion()),
	)
}

// digest covers for whom the bundle is, too: two members never share one, and a
// new release with equal objects is still a change to tell.
func digest(target Target, objects []Object) string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %q %q\n", target.Member, target.Network, target.SystemNamespace, target.Release)
	for _, object := range objects {
		_, _ = io.WriteString(hash, string(object.Stage)+" "+object.Digest+"\n")
	}
	return formatDigest(hash.Sum(nil))
}

func formatDigest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// Identity is what makes an object that object on a cluster: its version is not part of
// it.
type Identity struct {
	schema.GroupKind
	Namespace, Name string
}

// IdentityOf an object.
func IdentityOf(object *unstructured.Unstructured) Identity {
	return Identity{object.GroupVersionKind().GroupKind(), object.GetNamespace(), object.GetName()}
}

// String is "Kind.group namespace/name".
func (i Identity) String() string {
	name := i.Name
	if i.Namespace != "" {
		name = i.Namespace + "/" + name
	}
	return i.GroupKind.String() + " " + name
}

func component(object Object) Component {
	return Component(object.Object.GetLabels()[ComponentLabel])
}
