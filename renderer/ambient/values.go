package ambient

import (
	"github.com/isthmus-mesh/isthmus/catalog"
)

// mesh is what a network settles for all its members on one release. It is the
// key under which rendered charts are kept.
type mesh struct {
	release     string
	network     string
	namespace   string
	trustDomain string
}

// identity is what a member settles in the charts.
type identity struct {
	// cluster is the member's name: istiod's cluster id and ztunnel's.
	cluster string
	// network is the L3 network of the member's pods.
	network string
}

// istiodEnv returns istiod's feature flags. Each is set although some are
// defaults: a default that Istio changes must not change a mesh.
func istiodEnv(release catalog.Release) map[string]any {
	env := map[string]any{
		"PILOT_ENABLE_AMBIENT":         "true",
		"AMBIENT_ENABLE_MULTI_NETWORK": "true",
		// Without it istiod refuses a changed root, and setting it later restarts
		// every istiod just when the root is being replaced.
		"ISTIO_MULTIROOT_MESH": "true",
	}
	if release.AtLeast("1.28") {
		env["AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT"] = "true"
	}
	if release.AtLeast("1.29") {
		env["AMBIENT_ENABLE_BAGGAGE"] = "true"
		// Documented as on, but off in every release so far.
		env["AMBIENT_ENABLE_MULTI_NETWORK_INGRESS"] = "true"
	}
	return env
}

func baseValues(m mesh) map[string]any {
	return map[string]any{
		"profile": "ambient",
		"global":  map[string]any{"istioNamespace": m.namespace},
		"base":    map[string]any{"validationFailurePolicy": "Fail"},
	}
}

func istiodValues(release catalog.Release, m mesh, id identity) map[string]any {
	return map[string]any{
		"profile": "ambient",
		"global": map[string]any{
			"istioNamespace": m.namespace,
			"hub":            release.Hub,
			"tag":            release.Tag,
			"meshID":         m.network,
			"network":        id.network,
			"multiCluster":   map[string]any{"clusterName": id.cluster},
			// Gateways and waypoints take these from istiod's configuration.
			"waypoint": map[string]any{"nodeSelector": linuxOnly()},
		},
		"meshConfig":              map[string]any{"trustDomain": m.trustDomain},
		"env":                     istiodEnv(release),
		"base":                    map[string]any{"validationFailurePolicy": "Fail"},
		"nodeSelector":            linuxOnly(),
		"trustedZtunnelNamespace": m.namespace,
	}
}

func cniValues(release catalog.Release) map[string]any {
	return map[string]any{
		"profile":  "ambient",
		"global":   map[string]any{"hub": release.Hub, "tag": release.Tag},
		"affinity": realNodes(),
		// The annotation is for Kubernetes 1.29, which no release with this value
		// supports; newer API servers warn of it. The field says the same.
		"useAppArmorAnnotation": false,
	}
}

func ztunnelValues(release catalog.Release, m mesh, id identity) map[string]any {
	return map[string]any{
		"profile":        "ambient",
		"hub":            release.Hub,
		"tag":            release.Tag,
		"istioNamespace": m.namespace,
		"network":        id.network,
		"multiCluster":   map[string]any{"clusterName": id.cluster},
		"affinity":       realNodes(),
	}
}

func linuxOnly() map[string]any { return map[string]any{"kubernetes.io/os": "linux"} }

// realNodes keeps the node agents, which tolerate every taint, off the virtual
// nodes of AKS: those run no privileged pods, and a pod that never starts there
// holds up every rollout.
func realNodes() map[string]any {
	return map[string]any{"nodeAffinity": map[string]any{
		"requiredDuringSchedulingIgnoredDuringExecution": map[string]any{
			"nodeSelectorTerms": []any{map[string]any{
				"matchExpressions": []any{map[string]any{
					"key": "type", "operator": "NotIn", "values": []any{"virtual-kubelet"},
				}},
			}},
		},
	}}
}
