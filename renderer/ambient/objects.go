package ambient

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Labels of Istio that are ours to set.
const (
	labelNetwork       = "topology.istio.io/network"
	labelDataPlaneMode = "istio.io/dataplane-mode"
	labelUseWaypoint   = "istio.io/use-waypoint"
	labelWaypointFor   = "istio.io/waypoint-for"
	labelGlobal        = "istio.io/global"
)

// gatewayName is the east-west gateway's, the same on every member. It is also
// the service account that peers' ztunnels expect behind it.
const gatewayName = "istio-eastwestgateway"

// The classes of gateways; istiod makes the GatewayClass objects.
const (
	classEastWest = "istio-east-west"
	// ClassWaypoint is the class of waypoints.
	ClassWaypoint = "istio-waypoint"
)

// hbonePort is where mesh traffic between networks arrives; peers assume it.
const hbonePort = int64(15008)

// memberObjects returns the objects that come from no chart.
func memberObjects(r Request) ([]bundle.Object, error) {
	network := r.Network
	objects := []part{
		{bundle.ComponentNamespaces, bundle.StageFoundation, systemNamespace(network, r.Member)},
		{bundle.ComponentPolicy, bundle.StageGateways, meshPolicy(network)},
	}
	if reference := reference(network, r.Member); reference != nil {
		objects = append(objects, part{bundle.ComponentTrust, bundle.StageFoundation, reference})
	}
	if r.Gateway {
		objects = append(objects, part{bundle.ComponentGateway, bundle.StageGateways, eastWestGateway(network, r.Member)})
	}
	for _, namespace := range network.Spec.Namespaces {
		objects = append(objects, part{bundle.ComponentNamespaces, bundle.StageFoundation, meshNamespace(namespace)})
		if namespace.Waypoint != nil {
			objects = append(objects, part{bundle.ComponentGateway, bundle.StageGateways, waypoint(namespace)})
		}
	}
	objects = append(objects, telemetryObjects(network)...)
	if hostedElsewhere(r.Member) {
		objects = append(objects, remoteControlPlane(network, r.Member)...)
	}
	for _, hosted := range r.Hosted {
		objects = append(objects, hostedObjects(network, r.Member, hosted.Member)...)
	}
	out := make([]bundle.Object, 0, len(objects))
	for _, p := range objects {
		object := &unstructured.Unstructured{Object: p.object}
		label(object, network.Name, p.component)
		made, err := bundle.NewObject(p.stage, object)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

// part is one object of our own making.
type part struct {
	component bundle.Component
	stage     bundle.Stage
	object    map[string]any
}

// systemNamespace carries the member's network: istiod reads it here, and a peer
// reads it in turn. Without it a peer routes as if both were on one network. The
// node agents need more rights than the restricted pod security levels allow.
func systemNamespace(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) map[string]any {
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "Namespace",
		"metadata": map[string]any{
			"name": network.Spec.DataPlane.Namespace,
			"labels": map[string]any{
				labelNetwork:                         member.Spec.Connectivity.Network,
				"pod-security.kubernetes.io/enforce": "privileged",
			},
		},
	}
}

// meshNamespace is a namespace of people's workloads: we own its labels, and it
// stays when we go.
func meshNamespace(namespace v1alpha1.MeshNamespace) map[string]any {
	labels := map[string]any{}
	if namespace.Ambient {
		labels[labelDataPlaneMode] = "ambient"
	}
	if namespace.Waypoint != nil {
		labels[labelUseWaypoint] = namespace.Waypoint.Name
	}
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "Namespace",
		"metadata": map[string]any{
			"name":        namespace.Name,
			"labels":      labels,
			"annotations": map[string]any{bundle.PruneAnnotation: bundle.PruneRelease},
		},
	}
}

// eastWestGateway is the member's door for traffic from other networks. istiod
// makes its Deployment and Service.
//
// While a load balancer is pending, istiod would publish the Service's cluster
// IP and peers would take it; with the address type Hostname it publishes
// nothing until there is an address that works.
//
// infrastructure.labels replaces the labels that istiod would copy from here: it
// keeps our ownership labels off objects that are istiod's, and has to repeat
// the network, which istiod then does not add by itself.
func eastWestGateway(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) map[string]any {
	pods := member.Spec.Connectivity.Network
	gateway := map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1",
		"kind":       "Gateway",
		"metadata": map[string]any{
			"name":        gatewayName,
			"namespace":   network.Spec.DataPlane.Namespace,
			"labels":      map[string]any{labelNetwork: pods},
			"annotations": map[string]any{"networking.istio.io/address-type": "Hostname"},
		},
		"spec": map[string]any{
			"gatewayClassName": classEastWest,
			"infrastructure": map[string]any{
				"labels":      map[string]any{labelNetwork: pods},
				"annotations": eastWestAnnotations(member),
			},
			"listeners": []any{map[string]any{
				"name": "mesh", "port": hbonePort, "protocol": "HBONE",
				"tls": map[string]any{
					"mode":    "Terminate",
					"options": map[string]any{"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL"},
				},
			}},
		},
	}
	// istiod makes it the Service's loadBalancerIP, which AKS has deprecated in
	// favour of an annotation.
	if address := member.Spec.Connectivity.EastWestGateway.Address; address != "" && member.Spec.Cluster.Type != v1alpha1.ClusterAKS {
		gateway["spec"].(map[string]any)["addresses"] = []any{map[string]any{"type": "IPAddress", "value": address}}
	}
	return gateway
}

// probeOfGateway is how Azure probes the gateway: by TCP, because it does not know
// the port's protocol.
const probeOfGateway = "service.beta.kubernetes.io/port_15008_health-probe_protocol"

func eastWestAnnotations(member *v1alpha1.Member) map[string]any {
	annotations := loadBalancer(member.Spec.Cluster.Type, member.Spec.Connectivity.EastWestGateway)
	annotations[probeOfGateway] = "tcp"
	return annotations
}

// loadBalancer returns the annotations that give a Service an address of the
// visibility asked for. A cluster of no particular cloud gets those of each: one
// that ignores them would make an internal door public.
func loadBalancer(cluster v1alpha1.ClusterType, door v1alpha1.EastWestGateway) map[string]any {
	internal := door.Visibility != v1alpha1.VisibilityExternal
	annotations := map[string]any{
		"service.beta.kubernetes.io/azure-load-balancer-internal": boolean(internal),
	}
	if door.Subnet != "" {
		annotations["service.beta.kubernetes.io/azure-load-balancer-internal-subnet"] = door.Subnet
	}
	if address, err := netip.ParseAddr(door.Address); err == nil {
		family := "ipv4"
		if address.Is6() {
			family = "ipv6"
		}
		annotations["service.beta.kubernetes.io/azure-load-balancer-"+family] = door.Address
	}
	if cluster == v1alpha1.ClusterAKS {
		return annotations
	}
	if internal {
		annotations["networking.gke.io/load-balancer-type"] = "Internal"
		annotations["service.beta.kubernetes.io/aws-load-balancer-scheme"] = "internal"
	} else {
		annotations["service.beta.kubernetes.io/aws-load-balancer-scheme"] = "internet-facing"
	}
	return annotations
}

func boolean(value bool) string {
	if value {
		return "true"
	}
	return "false"
}

// waypoint is a namespace's L7 proxy. What makes it global is a label on its
// Service, which istiod takes from infrastructure.labels; the Gateway has it for
// people to see. The network label is istiod's to add.
func waypoint(namespace v1alpha1.MeshNamespace) map[string]any {
	labels := map[string]any{labelWaypointFor: "service"}
	service := map[string]any{labelWaypointFor: "service"}
	if namespace.Waypoint.Global {
		labels[labelGlobal], service[labelGlobal] = "true", "true"
	}
	return map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1",
		"kind":       "Gateway",
		"metadata": map[string]any{
			"name":      namespace.Waypoint.Name,
			"namespace": namespace.Name,
			"labels":    labels,
		},
		"spec": map[string]any{
			"gatewayClassName": ClassWaypoint,
			"infrastructure":   map[string]any{"labels": service},
			"listeners": []any{map[string]any{
				"name": "mesh", "port": hbonePort, "protocol": "HBONE",
			}},
		},
	}
}

// meshPolicy is the mTLS mode of the whole mesh: a policy in the system
// namespace, which is the mesh's root namespace.
func meshPolicy(network *v1alpha1.ApplicationNetwork) map[string]any {
	mode := "PERMISSIVE"
	if network.Spec.DataPlane.MTLS == v1alpha1.MTLSStrict {
		mode = "STRICT"
	}
	return map[string]any{
		"apiVersion": "security.istio.io/v1",
		"kind":       "PeerAuthentication",
		"metadata": map[string]any{
			"name":      "default",
			"namespace": network.Spec.DataPlane.Namespace,
		},
		"spec": map[string]any{"mtls": map[string]any{"mode": mode}},
	}
}
