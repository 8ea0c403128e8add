package ambient

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// moved are the kinds of istiod's objects that are where it runs. The others are
// what it reads and what leads to it, and stay in the member.
var moved = map[string]bool{
	"Deployment": true, "HorizontalPodAutoscaler": true, "PodDisruptionBudget": true, "ServiceAccount": true,
}

// The ports of istiod.
const (
	portDiscovery = int64(15012)
	portWebhooks  = int64(15017)
)

// hostedElsewhere tells whether the member's istiod runs in another member.
func hostedElsewhere(member *v1alpha1.Member) bool {
	return member.Spec.ControlPlane.Placement == v1alpha1.PlacementHosted
}

// hostedControlPlane returns what runs in a host in place of the member: the
// istiod that the member would run itself, in a namespace of its own. Its
// cluster is the member, by the kubeconfig in the Secret istio-kubeconfig.
func hostedControlPlane(r Request, mesh func(Request) ([]Draft, error)) ([]bundle.Object, error) {
	values := newValues(identityOf(r.Member))
	drafts, err := mesh(r.atHome())
	if err != nil {
		return nil, err
	}
	host := hosting{namespace: fleet.HostingNamespace(r.Network, r.Member.Name), system: r.Network.Spec.DataPlane.Namespace}
	var objects []bundle.Object
	for _, draft := range drafts {
		if draft.Stage != bundle.StageControlPlane || !moved[draft.Object.Object.GetKind()] {
			continue
		}
		own, err := values.Fill(draft)
		if err != nil {
			return nil, err
		}
		object := own.Object.Object.DeepCopy()
		if err := host.take(object); err != nil {
			return nil, err
		}
		made, err := bundle.NewObject(draft.Stage, object)
		if err != nil {
			return nil, err
		}
		objects = append(objects, made)
	}
	return objects, nil
}

// atHome is the request as if the member's istiod ran in the member.
func (r Request) atHome() Request {
	r.Member = r.Member.DeepCopy()
	r.Member.Spec.ControlPlane = v1alpha1.ControlPlane{Placement: v1alpha1.PlacementMember}
	return r
}

// hosting is where the istiod of another member runs.
type hosting struct{ namespace, system string }

// take makes an object of istiod one of the host. istiod takes its own namespace
// for the mesh's, which in the member has another name.
func (h hosting) take(object *unstructured.Unstructured) error {
	object.SetNamespace(h.namespace)
	if object.GetKind() != "Deployment" {
		return nil
	}
	pod, _, err := unstructured.NestedFieldNoCopy(object.Object, "spec", "template", "spec")
	spec, ok := pod.(map[string]any)
	if err != nil || !ok {
		return fmt.Errorf("Deployment %q has no pods", object.GetName())
	}
	containers, _ := spec["containers"].([]any)
	if len(containers) != 1 {
		return fmt.Errorf("Deployment %q has %d containers, not one", object.GetName(), len(containers))
	}
	container := containers[0].(map[string]any)
	args, _ := container["args"].([]any)
	container["args"] = append(args, "--namespace", h.system, "--cniNamespace", h.system)
	return h.require(spec)
}

// require makes istiod wait for its Secrets. Without a kubeconfig it would act on
// the host's own cluster, and without a CA it would make one up.
func (h hosting) require(pod map[string]any) error {
	needed := map[string]bool{"istio-kubeconfig": true, "cacerts": true}
	volumes, _ := pod["volumes"].([]any)
	for _, entry := range volumes {
		volume, _ := entry.(map[string]any)
		name, _ := volume["name"].(string)
		secret, isSecret := volume["secret"].(map[string]any)
		if isSecret && needed[name] {
			delete(secret, "optional")
			delete(needed, name)
		}
	}
	if len(needed) > 0 {
		return fmt.Errorf("istiod mounts no Secret for %v", needed)
	}
	return nil
}

// hostedObjects are the namespace of another member's istiod and its door.
func hostedObjects(network *v1alpha1.ApplicationNetwork, host, member *v1alpha1.Member) []part {
	namespace := fleet.HostingNamespace(network, member.Name)
	return []part{
		{bundle.ComponentNamespaces, bundle.StageFoundation, map[string]any{
			"apiVersion": "v1", "kind": "Namespace",
			"metadata": map[string]any{"name": namespace},
		}},
		{bundle.ComponentIstiod, bundle.StageControlPlane, hostedService(namespace, host, member)},
	}
}

// hostedService is istiod's door for the member, on a private address.
func hostedService(namespace string, host, member *v1alpha1.Member) map[string]any {
	at := member.Spec.ControlPlane.Address
	spec := map[string]any{
		"type":     "LoadBalancer",
		"selector": map[string]any{"app": "istiod", "istio": "pilot"},
		"ports": []any{
			port("tls-xds", portDiscovery, portDiscovery),
			port("https-webhook", portWebhooks, portWebhooks),
			// For a member that knows the address by name: its API server keeps the
			// port of its own Service.
			port("https", 443, portWebhooks),
		},
	}
	door := v1alpha1.EastWestGateway{Visibility: v1alpha1.VisibilityInternal}
	if address, err := netip.ParseAddr(at); err == nil {
		door.Address = address.String()
		if host.Spec.Cluster.Type != v1alpha1.ClusterAKS {
			spec["loadBalancerIP"] = door.Address
		}
	}
	annotations := loadBalancer(host.Spec.Cluster.Type, door)
	return map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{
			"name": "istiod", "namespace": namespace,
			"labels": map[string]any{"app": "istiod"}, "annotations": annotations,
		},
		"spec": spec,
	}
}

func port(name string, number, target int64) map[string]any {
	return map[string]any{"name": name, "port": number, "targetPort": target, "protocol": "TCP"}
}

// remoteControlPlane leads the member's own name for istiod to where it runs.
func remoteControlPlane(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) []part {
	namespace := network.Spec.DataPlane.Namespace
	spec := map[string]any{"ports": []any{
		port("tcp-istiod", portDiscovery, portDiscovery),
		port("tcp-webhook", 443, portWebhooks),
	}}
	service := map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": "istiod", "namespace": namespace, "labels": map[string]any{"app": "istiod"}},
		"spec":     spec,
	}
	parts := []part{{bundle.ComponentIstiod, bundle.StageControlPlane, service}}
	address, err := netip.ParseAddr(member.Spec.ControlPlane.Address)
	if err != nil {
		spec["type"], spec["externalName"] = "ExternalName", member.Spec.ControlPlane.Address
		return parts
	}
	family := "IPv4"
	if address.Is6() {
		family = "IPv6"
		spec["ipFamilies"], spec["ipFamilyPolicy"] = []any{family}, "SingleStack"
	}
	return append(parts, part{bundle.ComponentIstiod, bundle.StageControlPlane, map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": map[string]any{
			"name": "istiod-hosted", "namespace": namespace,
			"labels": map[string]any{
				"kubernetes.io/service-name":             "istiod",
				"endpointslice.kubernetes.io/managed-by": "isthmus",
			},
		},
		"addressType": family,
		"endpoints":   []any{map[string]any{"addresses": []any{address.String()}}},
		"ports": []any{
			map[string]any{"name": "tcp-istiod", "port": portDiscovery, "protocol": "TCP"},
			map[string]any{"name": "tcp-webhook", "port": portWebhooks, "protocol": "TCP"},
		},
	}})
}
