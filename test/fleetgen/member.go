package fleetgen

import "fmt"

func (g generator) member(i int, name string, n network) object {
	spec := object{
		"applicationNetwork": n.name,
		"cluster":            g.cluster(name),
		"location":           pick(g, "eastus", "westeurope", "on the ground"),
		"connectivity":       g.connectivity(i, name, n),
		"controlPlane":       object{"placement": "Member"},
		"suspend":            g.chance(5),
		"leave":              pick(g, "Remove", "Force", "Orphan"),
	}
	if g.chance(20) {
		spec["drift"] = g.drift()
	}
	if g.chance(10) {
		spec["trust"] = object{"replaceIssuedBefore": g.time()}
	}
	switch {
	case g.chance(30):
		spec["upgrade"] = object{"mode": "SelfManaged", "version": pick(g, n.releases...)}
	case g.chance(20):
		spec["upgrade"] = object{"mode": "FullyManaged", "channel": pick(g, "Stable", "Rapid")}
	}
	switch {
	case g.chance(30):
		spec["components"] = pick(g, g.settings...)
	case g.chance(3):
		spec["components"] = g.components() // nobody else's
	}
	if g.chance(10) {
		spec["patches"] = g.memberPatches(name)
	}
	if g.chance(20) {
		spec["maintenanceWindows"] = []any{object{
			"days": []string{pick(g, "Sat", "Sun")}, "start": pick(g, "02:00", "22:30"), "duration": pick(g, "4h", "90m"), "timezone": pick(g, "Europe/Berlin", "UTC"),
		}}
	}
	return spec
}

func (g generator) cluster(name string) object {
	cluster := object{"type": "Kubernetes", "kubeconfigRef": object{"name": "cluster-" + name, "key": pick(g, "value", "config")}}
	if g.chance(40) {
		cluster = object{"type": "AKS", "resourceID": "/subscriptions/0000/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/" + name}
		if g.chance(50) {
			cluster["azure"] = g.azure(name)
		}
	}
	if g.chance(50) {
		cluster["kubernetesVersion"], cluster["cni"] = pick(g, "1.33", "1.34.2"), pick(g, "AzureCNI", "Cilium", "Calico")
	}
	return cluster
}

func (g generator) azure(name string) object {
	azure := g.login(name, pick(g, "Public", "Government"))
	azure["endpoint"] = pick(g, "Public", "Private")
	return azure
}

// login is a login to Azure that needs a Secret only where it has to.
func (g generator) login(name, cloud string) object {
	login := object{
		"identity": pick(g, "WorkloadIdentity", "ManagedIdentity", "ServicePrincipal"), "clientID": g.uuid(), "tenantID": g.uuid(), "cloud": cloud,
	}
	if login["identity"] == "ManagedIdentity" {
		delete(login, "tenantID")
	}
	if login["identity"] == "ServicePrincipal" {
		login["secretRef"] = object{"name": "login-" + name}
	}
	return login
}

func (g generator) uuid() string {
	return pick(g, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
}

// drift is what becomes of others' changes.
func (g generator) drift() object {
	return object{"mode": pick(g, "Correct", "Report"), "ignore": []any{object{
		"group": pick(g, "apps", "autoscaling"), "kind": pick(g, "Deployment", "HorizontalPodAutoscaler"),
		"namespace": pick(g, "applink-system", "istio-system"), "name": pick(g, "istiod", "ztunnel"),
		"fields": []string{pick(g, "/spec/replicas", "/spec/minReplicas")},
	}}}
}

// connectivity leaves the L3 network out, gives the member one of its own, or one
// that it shares.
func (g generator) connectivity(i int, name string, n network) object {
	door := object{"visibility": pick(g, "Internal", "External")}
	if door["visibility"] == "Internal" && g.chance(50) {
		door["subnet"] = pick(g, "gateways", "ISTHMUS_SUBNET", "true", name)
	}
	if g.chance(30) {
		door["address"] = fmt.Sprintf("10.%d.%d.4", i/256, i%256)
		if door["visibility"] == "External" {
			door["address"] = fmt.Sprintf("2600::%x", i+1)
		}
	}
	out := object{"eastWestGateway": door, "podCIDRs": []string{fmt.Sprintf("fd00:%x::/32", i)}}
	switch {
	case g.chance(30):
		out["network"] = "net-" + name
	case g.chance(40):
		out["network"] = pick(g, n.flat...)
	}
	return out
}
