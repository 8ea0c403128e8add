package ambient

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// mesh is what a network settles for all its members on one release, and its
// members for themselves in ways that several of them have in common. It is the
// key under which rendered charts are kept.
type mesh struct {
	release     string
	network     string
	namespace   string
	trustDomain string
	// workload is the validity of workload certificates.
	workload time.Duration
	// remote says that istiod runs elsewhere.
	remote bool
	// revocation is set where the node proxies read a list of what is revoked.
	revocation bool
	// delivery is how istiod's CA gets into the member.
	delivery v1alpha1.DeliveryMode
	// collector takes what the mesh tells of the traffic; empty without one.
	collector v1alpha1.Collector
	// meshConfig is what the fleet adds to Istio's, as JSON; empty without any.
	meshConfig string
	// exports of the network, as JSON; empty without any.
	exports string
	// components are the settings in effect, as JSON; empty without any.
	components string
	// alone is the only member of the mesh; zero when there may be others.
	alone identity
}

// mentions reports whether text that a fleet may choose has s in it.
func (m mesh) mentions(s string) bool { return strings.Contains(fmt.Sprint(m), s) }

// standIn is what the mesh's charts are run with: something that the mesh does not
// mention.
func (m mesh) standIn() identity {
	if m.alone == (identity{}) {
		return standIn
	}
	for n := 0; ; n++ {
		prefix := fmt.Sprintf("ISTHMUS%d_", n)
		if !m.mentions(prefix) {
			return identity{cluster: prefix + "CLUSTER", network: prefix + "NETWORK"}
		}
	}
}

// identity is what a member settles alone.
type identity struct {
	// cluster is the member's name: istiod's cluster id and ztunnel's.
	cluster string
	// network is the L3 network of the member's pods.
	network string
	// address and subnet of the east-west gateway; no chart has them.
	address, subnet string
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

func baseValues(m mesh, s settings) map[string]any {
	return map[string]any{
		"profile": "ambient",
		"global":  withPullSecrets(map[string]any{"istioNamespace": m.namespace}, s),
		"base":    map[string]any{"validationFailurePolicy": "Fail"},
	}
}

// istiodValues are all but those of the mesh config.
func istiodValues(release catalog.Release, m mesh, s settings, id identity) map[string]any {
	env := istiodEnv(release)
	env["DEFAULT_WORKLOAD_CERT_TTL"] = seconds(m.workload)
	env["MAX_WORKLOAD_CERT_TTL"] = seconds(max(m.workload, longestWorkload))
	if m.revocation {
		env["PILOT_ENABLE_CA_CRL"] = "true"
	}
	values := map[string]any{
		"profile": "ambient",
		"global": withPullSecrets(map[string]any{
			"istioNamespace": m.namespace,
			"hub":            s.hub(release),
			"tag":            release.Tag,
			"meshID":         m.network,
			"network":        id.network,
			"multiCluster":   map[string]any{"clusterName": id.cluster},
			// Gateways and waypoints take these from istiod's configuration.
			"waypoint": map[string]any{"nodeSelector": s.nodeSelector()},
		}, s),
		"env":                     env,
		"base":                    map[string]any{"validationFailurePolicy": "Fail"},
		"nodeSelector":            s.nodeSelector(),
		"trustedZtunnelNamespace": m.namespace,
	}
	if m.remote {
		values["istiodRemote"] = map[string]any{"enabled": true}
		values["global"].(map[string]any)["configCluster"] = true
	}
	mountCA(values, m.delivery)
	mountPeerTokens(values)
	s.istiod(release, values)
	return values
}

// longestWorkload is Istio's own bound. It stays when certificates are to live
// shorter: a gateway from before that change asks for as long as it used to, and
// istiod would refuse it.
const longestWorkload = 90 * 24 * time.Hour

func cniValues(release catalog.Release, s settings) map[string]any {
	values := map[string]any{
		"profile": "ambient",
		"global": withPullSecrets(map[string]any{
			"hub": s.hub(release), "tag": release.Tag,
		}, s),
		// The annotation is for Kubernetes 1.29, which no release with this value
		// supports; newer API servers warn of it. The field says the same.
		"useAppArmorAnnotation": false,
	}
	s.cni(release, values)
	return values
}

func ztunnelValues(release catalog.Release, m mesh, s settings, id identity) map[string]any {
	values := map[string]any{
		"profile":        "ambient",
		"hub":            s.hub(release),
		"tag":            release.Tag,
		"istioNamespace": m.namespace,
		"network":        id.network,
		"multiCluster":   map[string]any{"clusterName": id.cluster},
		"env":            map[string]any{"SECRET_TTL": seconds(m.workload)},
	}
	if m.revocation {
		values["peerCaCrl"] = map[string]any{"enabled": true}
	}
	s.ztunnel(release, values)
	return values
}
