// Package edits has a fleet and thirty changes that people make to such fleets, for
// tests of what a review says of them and of what then happens.
//
// Every edit is of one purpose, as a pull request should be. All of them begin
// from the same fleet, [Base]: three members in two rings and on three pod networks,
// two namespaces, a waypoint, a policy.
package edits

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
)

//go:embed base
var base embed.FS

// Where things are in the fleet.
const (
	network = "networks/prod/network.yaml"
	policy  = "networks/prod/policies/cart.yaml"
	members = "networks/prod/members/"
)

// Edit is a change of the fleet.
type Edit struct {
	// Name is a file name, and what the edit is for.
	Name string
	// Replace is text of a file and what comes in its place, which is there once.
	Replace []Replacement
	// Add and Remove are whole files.
	Add    map[string]string
	Remove []string
}

// Replacement of a text in a file.
type Replacement struct{ File, Old, New string }

// Base is the fleet before any edit.
func Base() fs.FS {
	sub, err := fs.Sub(base, "base")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Apply returns the fleet after the edit.
func (e Edit) Apply() (fs.FS, error) {
	out := fstest.MapFS{}
	from := Base()
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		out[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, r := range e.Replace {
		file := out[r.File]
		if file == nil || strings.Count(string(file.Data), r.Old) != 1 {
			return nil, fmt.Errorf("edit %q: %q is not once in %s", e.Name, r.Old, r.File)
		}
		file.Data = []byte(strings.Replace(string(file.Data), r.Old, r.New, 1))
	}
	for name, text := range e.Add {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, name := range e.Remove {
		if out[name] == nil {
			return nil, fmt.Errorf("edit %q: there is no %s", e.Name, name)
		}
		delete(out, name)
	}
	return out, nil
}

// member is the file of one more member.
func member(name, ring, podNetwork string) string {
	return fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata:
  name: %s
  labels: {ring: %s, region: us}
spec:
  applicationNetwork: prod
  cluster:
    type: Kubernetes
    kubeconfigRef: {name: %[1]s}
  connectivity:
    network: %s
`, name, ring, podNetwork)
}

func in(file, old, replacement string) []Replacement { return []Replacement{{file, old, replacement}} }

// ofMember adds a line at the place of a member's location.
func ofMember(name, location, line string) []Replacement {
	return in(members+name+".yaml", "  location: "+location, "  location: "+location+"\n  "+line)
}

// ofNetwork adds lines to the network's spec.
func ofNetwork(lines string) []Replacement {
	return in(network, "spec:\n  trust:", "spec:\n  "+lines+"\n  trust:")
}

// All edits, sorted by name.
var All = []Edit{
	{Name: "cni-resources", Replace: ofNetwork("components: {cni: {resources: {requests: {cpu: 150m, memory: 128Mi}}}}")},
	{Name: "comment-only", Replace: in(network, "    mtls: Permissive", "    # Strict once the probes are in the mesh.\n    mtls: Permissive")},
	{Name: "credentials-replaced", Replace: in(network, "  discovery:\n", "  discovery:\n    credentials: {replaceIssuedBefore: 2026-06-01T00:00:00Z}\n")},
	{Name: "drift-report", Replace: ofNetwork("drift: {mode: Report}")},
	{Name: "emergency-root", Replace: in(network, "    domain: cluster.local", "    domain: cluster.local\n    root: {replaceIssuedBefore: 2026-06-01T00:00:00Z, emergency: true}")},
	{Name: "export-removed", Replace: in(network, "    exports:\n    - namespace: shop", "    exports: []")},
	{Name: "gateway-external", Replace: in(members+"eastus-1.yaml", "visibility: Internal", "visibility: External")},
	{Name: "istiod-replicas", Replace: ofNetwork("components: {istiod: {replicas: {min: 2, max: 4}}}")},
	{Name: "label-moves-ring", Replace: in(members+"westus-1.yaml", "ring: rest", "ring: canary")},
	{Name: "member-force-leave", Replace: ofMember("europe-1", "westeurope", "leave: Force")},
	{Name: "member-joins", Add: map[string]string{members + "eastus-2.yaml": member("eastus-2", "rest", "eastus")}},
	{Name: "member-leaves", Remove: []string{members + "europe-1.yaml"}},
	{Name: "member-renamed", Replace: []Replacement{{members + "europe-1.yaml", "  name: europe-1\n", "  name: europe-2\n"}}},
	{Name: "member-suspended", Replace: ofMember("westus-1", "westus", "suspend: true")},
	{Name: "mesh-config", Replace: ofNetwork("meshConfig: {accessLogFile: /dev/stdout, defaultConfig: {holdApplicationUntilProxyStarts: true}}")},
	{Name: "mtls-strict", Replace: in(network, "mtls: Permissive", "mtls: Strict")},
	{Name: "namespace-added", Replace: in(network, "  - name: pay\n", "  - name: stock\n    ambient: true\n  - name: pay\n")},
	{Name: "namespace-removed", Replace: in(network, "  - name: pay\n    ambient: true\n", "")},
	{Name: "patch-ztunnel-toleration", Replace: ofNetwork(`patches:
  - target: {kind: DaemonSet, name: ztunnel}
    patch: |
      - op: add
        path: /spec/template/spec/tolerations/-
        value: {key: gpu, operator: Exists, effect: NoSchedule}`)},
	{Name: "peers-by-region", Replace: in(network, "    exports:\n", "    peers:\n    - selector: {matchLabels: {region: us}}\n    exports:\n")},
	{Name: "pod-network-shared", Replace: in(members+"westus-1.yaml", "    network: westus", "    network: eastus")},
	{Name: "policy-changes", Replace: in(policy, "methods: [GET]", "methods: [GET, POST]")},
	{Name: "policy-removed", Replace: []Replacement{{network, "  resources:\n  - path: policies\n", ""}}, Remove: []string{policy}},
	{Name: "ring-soak", Replace: in(network, "soak: 1h", "soak: 24h")},
	{Name: "root-replaced", Replace: in(network, "    domain: cluster.local", "    domain: cluster.local\n    root: {replaceIssuedBefore: 2026-06-01T00:00:00Z}")},
	{Name: "telemetry-access-logs", Replace: ofNetwork("telemetry: {accessLogs: {}}")},
	{Name: "trust-domain", Replace: []Replacement{
		{network, "    domain: cluster.local", "    domain: prod.example.com"},
		{policy, "cluster.local/ns/shop/sa/web", "prod.example.com/ns/shop/sa/web"},
	}},
	{Name: "upgrade-canary", Replace: ofMember("eastus-1", "eastus", `upgrade: {mode: SelfManaged, version: "1.31.0"}`)},
	{Name: "upgrade-network", Replace: in(network, `version: "1.30.4"`, `version: "1.31.0"`)},
	{Name: "waypoint-added", Replace: in(network, "  - name: pay\n    ambient: true\n", "  - name: pay\n    ambient: true\n    waypoint: {name: waypoint}\n")},
	{Name: "waypoint-removed", Replace: in(network, "    ambient: true\n    waypoint:\n      name: waypoint\n      global: true\n", "    ambient: true\n")},
	{Name: "window-added", Replace: ofMember("europe-1", "westeurope", `maintenanceWindows: [{days: [Tue], start: "03:00", duration: 2h, timezone: Europe/Berlin}]`)},
	{Name: "ztunnel-drain", Replace: ofNetwork("components: {ztunnel: {drain: 60s}}")},
}
