package fleetgen

import (
	"fmt"
	"slices"
	"strings"
)

// network is what members need to know of theirs.
type network struct {
	name string
	// releases that its members may run.
	releases []string
	// flat are L3 networks that several of its members are on.
	flat []string
	spec object
}

func (g generator) network(i int) network {
	n := network{name: fmt.Sprintf("network-%03d", i)}
	if i == 0 {
		n.name = "prod"
	}
	for range 2 {
		n.releases = append(n.releases, pick(g, g.releases...))
	}
	for j, form := range []string{"flat-%d-%d", "ISTHMUS_NETWORK.%d.%d", "%d.%d", "Terminate_%d_%d"} {
		n.flat = append(n.flat, fmt.Sprintf(form, i, j))
	}
	namespace := pick(g, "applink-system", "istio-system", "mesh")
	n.spec = object{
		"trust":         g.trust(i, n.releases),
		"dataPlane":     object{"namespace": namespace, "mtls": pick(g, "Permissive", "Strict")},
		"discovery":     object{"mode": "RemoteCredentials"},
		"namespaces":    g.namespaces(),
		"upgrade":       object{"mode": "SelfManaged", "version": n.releases[0]},
		"rollout":       g.rollout(),
		"deletionGuard": object{"members": g.IntN(5), "objectsPercent": g.IntN(100), "allow": []string{memberName(g.IntN(50))}},
		"patches":       g.networkPatches(namespace),
	}
	if g.chance(50) {
		n.spec["drift"] = g.drift()
	}
	if g.chance(60) {
		n.spec["components"] = g.components()
	}
	if g.chance(70) {
		n.spec["telemetry"] = g.telemetry()
	}
	if g.chance(50) {
		n.spec["meshConfig"] = object{
			"connectTimeout": pick(g, "5s", "10s"), "outboundTrafficPolicy": object{"mode": pick(g, "REGISTRY_ONLY", "ALLOW_ANY")},
			"defaultConfig": object{"drainDuration": "45s", "proxyMetadata": object{"EXAMPLE": pick(g, "yes", "ISTHMUS_CLUSTER")}},
		}
	}
	if g.chance(50) {
		n.spec["acceptedHazards"] = []string{pick(g, "GatewayDenyAll", "CustomTrustDomain")}
	}
	if exports := g.exports(); len(exports) > 0 {
		n.spec["discovery"].(object)["exports"] = exports
	}
	return n
}

func (g generator) trust(i int, releases []string) object {
	root := object{
		"validity": pick(g, "8760h", "17520h"), "rotateAt": pick(g, "50%", "60%"),
		"key":    object{"algorithm": pick(g, "ECDSA-P256", "ECDSA-P384", "RSA-3072", "RSA-4096")},
		"issuer": pick(g, "SelfSigned", "External"), "rotation": pick(g, "Proceed", "Hold", "Back"),
	}
	if g.chance(50) {
		root["replaceIssuedBefore"], root["emergency"] = g.time(), g.chance(50)
	}
	intermediate := object{"validity": pick(g, "2160h", "1440h"), "rotateAt": pick(g, "50%", "40%")}
	if g.chance(50) {
		intermediate["replaceIssuedBefore"] = g.time()
	}
	trust := object{
		"domain": pick(g, "cluster.local", "mesh.example.com", fmt.Sprintf("network-%d.example.com", i)),
		"vault":  object{"type": "Directory"},
		"root":   root, "intermediate": intermediate,
		"workload": object{"validity": pick(g, "24h", "12h", "90m"), "rotateAt": "50%"},
	}
	if i%2 == 1 {
		root["key"].(object)["name"], root["key"].(object)["hardware"] = fmt.Sprintf("root-%d", i), g.chance(50)
		trust["vault"] = object{"type": "KeyVault", "url": fmt.Sprintf("https://network-%d.vault.azure.net", i), "azure": g.login(fmt.Sprint(i), "Public")}
		trust["delivery"] = g.delivery(i)
	}
	if slices.Min(releases) >= "1.29" { // older node proxies read no list
		trust["revocation"] = pick(g, "Disabled", "CRL")
	}
	return trust
}

func (g generator) time() string {
	return fmt.Sprintf("2026-0%d-01T12:00:00Z", 1+g.IntN(9))
}

func (g generator) delivery(i int) object {
	switch g.IntN(3) {
	case 0:
		return object{"mode": "ExternalSecret", "store": object{
			"kind": pick(g, "SecretStore", "ClusterSecretStore"), "name": fmt.Sprintf("vault-%d", i),
		}}
	case 1:
		return object{"mode": "SecretProviderClass", "azure": object{
			"identity": pick(g, "WorkloadIdentity", "ManagedIdentity"), "clientID": g.uuid(), "tenantID": g.uuid(),
		}}
	}
	return object{"mode": "Direct"}
}

func (g generator) namespaces() []any {
	var out []any
	for i, name := range []string{"shop", "pay", "quiet", "east"} {
		namespace := object{"name": name, "ambient": g.chance(70)}
		if g.chance(50) {
			namespace["waypoint"] = object{"name": pick(g, "waypoint", "mesh", "door"), "global": g.chance(50)}
		}
		if i == 0 || g.chance(60) {
			out = append(out, namespace)
		}
	}
	return out
}

// exports are of some of the namespaces, all of their Services or those that labels
// select, which are also chosen to look like something else.
func (g generator) exports() []any {
	var out []any
	for _, name := range []string{"shop", "pay", "404", "elsewhere"} {
		export := object{"namespace": name}
		switch g.IntN(3) {
		case 0:
			export["selector"] = object{"matchLabels": object{"export": pick(g, "true", "1e3", "ISTHMUS_CLUSTER")}}
		case 1:
			export["selector"] = object{"matchExpressions": []any{object{
				"key": "tier", "operator": pick(g, "In", "NotIn"), "values": []string{pick(g, "no", "0x10"), "front"},
			}}}
		}
		if g.chance(40) {
			out = append(out, export)
		}
	}
	return out
}

func (g generator) rollout() object {
	return object{"rings": []any{
		object{
			"name": "canary", "soak": pick(g, "1h", "30m"), "maxConcurrent": pick(g, "1", "25%"), "maxFailures": g.IntN(3),
			"selector": pick(g, object{"matchLabels": object{"ring": "canary"}},
				object{"matchExpressions": []any{object{"key": "ring", "operator": "In", "values": []string{"canary"}}}}),
		},
		object{"name": "rest"},
	}}
}

func (g generator) telemetry() object {
	return object{
		"collector":  object{"service": pick(g, "otel.observability.svc.cluster.local", "collector.example.com"), "port": 4317 + g.IntN(2)},
		"accessLogs": object{"requests": pick(g, "All", "Errors"), "to": pick(g, "Stdout", "Collector")},
		"tracing":    object{"sampling": pick(g, "1%", "0.1%", "100%")},
		"metrics":    object{"podMonitors": pick(g, "Prometheus", "AzureMonitor"), "interval": pick(g, "15s", "1m")},
	}
}

// components returns settings; any two of them differ in most fields.
func (g generator) components() object {
	least := 1 + g.IntN(3)
	return object{
		"istiod":          object{"resources": g.resources(), "replicas": object{"min": least, "max": least + g.IntN(4)}, "logLevel": g.logLevel()},
		"ztunnel":         object{"resources": g.resources(), "logLevel": g.logLevel(), "drain": fmt.Sprintf("%ds", 1+g.IntN(600))},
		"cni":             object{"resources": g.resources(), "logLevel": g.logLevel()},
		"eastWestGateway": object{"resources": g.resources(), "replicas": object{"min": least, "max": least + g.IntN(4)}},
		"waypoints":       object{"resources": g.resources(), "replicas": object{"min": least, "max": least + g.IntN(4)}},
		"nodes":           object{"selector": object{"pool": pick(g, "mesh", "ISTHMUS_CLUSTER", "1e3")}, "excludeVirtual": g.chance(50)},
		"images":          g.images(),
	}
}

func (g generator) logLevel() string { return pick(g, "error", "warn", "info", "debug") }

func (g generator) resources() object {
	return object{
		"requests": object{"cpu": fmt.Sprintf("%dm", 1+g.IntN(500)), "memory": fmt.Sprintf("%dMi", 1+g.IntN(500))},
		"limits":   object{"cpu": fmt.Sprint(1 + g.IntN(4)), "memory": fmt.Sprintf("%dGi", 1+g.IntN(4))},
	}
}

func (g generator) images() object {
	images := object{
		"registry":    pick(g, "docker.io/istio", "registry.example.com:5000/mesh"),
		"pullSecrets": []string{fmt.Sprintf("pull-%d", g.IntN(3))},
	}
	var digests []any
	for _, release := range g.releases {
		digests = append(digests, object{
			"release": release, "pilot": g.digest(), "proxy": g.digest(), "cni": g.digest(), "ztunnel": g.digest(),
		})
	}
	if g.chance(50) {
		images["digests"] = digests
	}
	return images
}

func (g generator) digest() string {
	var text strings.Builder
	for range 64 {
		text.WriteByte("0123456789abcdef"[g.IntN(16)])
	}
	return "sha256:" + text.String()
}
