package conformity

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// A dimension is one thing in which fleets differ. Every combination of one
// choice of each dimension is a fleet, on every release.
type dimension struct {
	name    string
	choices []choice
}

// A choice is what it adds to the specs of a network, of both its members, or of
// one of them, as YAML. Mappings are merged, all else is replaced, and later
// dimensions win.
type choice struct {
	name                    string
	network, both, one, two string
	// since is the first release that can do it; empty for all.
	since string
}

const networkName, one, two = "conformity", "one", "two"

// base is what every fleet says.
var base = choice{
	network: `{upgrade: {mode: SelfManaged}}`,
	both:    `{applicationNetwork: ` + networkName + `, connectivity: {network: here}}`,
}

// dimensions is the one place to widen the matrix.
var dimensions = []dimension{
	{"visibility", []choice{
		{name: "internal", both: `{connectivity: {eastWestGateway: {visibility: Internal}}}`},
		{name: "external", both: `{connectivity: {eastWestGateway: {visibility: External}}}`},
	}},
	{"mtls", []choice{
		{name: "permissive", network: `{dataPlane: {mtls: Permissive}}`},
		{name: "strict", network: `{dataPlane: {mtls: Strict}}`},
	}},
	{"cluster", []choice{
		{
			name: "kubernetes",
			both: `{cluster: {type: Kubernetes}}`,
			one:  `{cluster: {kubeconfigRef: {name: one}}}`,
			two:  `{cluster: {kubeconfigRef: {name: two}}}`,
		},
		{
			name: "aks",
			both: `{cluster: {type: AKS}}`,
			one:  `{cluster: {resourceID: ` + managedCluster + `/one}}`,
			two:  `{cluster: {resourceID: ` + managedCluster + `/two}}`,
		},
	}},
	{"waypoints", []choice{
		{name: "none", network: `{namespaces: [{name: shop, ambient: true}, {name: tools}]}`},
		{name: "local", network: `{namespaces: [{name: shop, ambient: true, waypoint: {name: waypoint}}, {name: tools}]}`},
		{name: "global", network: `{namespaces: [{name: shop, ambient: true, waypoint: {name: door, global: true}}, {name: tools, waypoint: {global: true}}]}`},
	}},
	{"topology", []choice{
		{name: "flat"},
		{name: "networks", two: `{connectivity: {network: there}}`},
		{
			name: "addresses", // and networks of names that are not DNS labels
			one:  `{connectivity: {network: "10.0_A", eastWestGateway: {address: 8.8.4.4}}}`,
			two:  `{connectivity: {network: "10.0_B", eastWestGateway: {address: "2606:4700::1111"}}}`,
		},
	}},
	{"placement", []choice{
		{name: "member"},
		{name: "hosted", two: `{controlPlane: {placement: Hosted, host: one, address: 10.9.8.7}}`},
		{name: "hosted-by-name", two: `{controlPlane: {placement: Hosted, host: one, address: istiod.example.com}}`},
	}},
	{"settings", []choice{
		{name: "defaults"},
		{name: "components", network: settings, one: settingsOfOne},
		{name: "patches", network: patches, two: patchesOfTwo},
		{name: "revocation", network: `{trust: {revocation: CRL}}`, since: "1.29"},
		{name: "exports", network: exports},
	}},
}

const managedCluster = `/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/mesh/providers/Microsoft.ContainerService/managedClusters`

const settings = `
trust: {domain: mesh.example.com, workload: {validity: 1h}}
dataPlane: {namespace: mesh-system}
components:
  istiod:
    resources: {requests: {cpu: "0.5", memory: 1Gi}, limits: {cpu: "2", memory: 2Gi}}
    replicas: {min: 2, max: 7}
    logLevel: debug
  ztunnel:
    resources: {requests: {cpu: 200m, memory: 256Mi}, limits: {memory: 1G}}
    logLevel: warn
    drain: 5m
  cni:
    resources: {requests: {cpu: 10m}, limits: {cpu: 100m, memory: 128Mi}}
    logLevel: error
  nodes: {selector: {pool: mesh, "example.com/zone": "1"}, excludeVirtual: true}
  images: {registry: "registry.example.com:5000/mirror/istio", pullSecrets: [one, two.more]}
  eastWestGateway: {resources: {limits: {memory: 512Mi}}, replicas: {min: 2, max: 9}}
  waypoints: {replicas: {min: 2}}
telemetry:
  collector: {service: otel.observability.svc.cluster.local}
  accessLogs: {requests: Errors, to: Collector}
  tracing: {sampling: "0.5%"}
`

const exports = `
discovery:
  exports:
  - {namespace: shop}
  - {namespace: tools, selector: {matchLabels: {export: "true"}, matchExpressions: [{key: tier, operator: NotIn, values: ["1"]}, {key: app, operator: Exists}]}}
`

const settingsOfOne = `
components:
  istiod: {replicas: {min: 3, max: 3}}
  nodes: {excludeVirtual: false}
`

const patches = `
patches:
- target: {kind: Deployment, name: istiod}
  patch: |
    - op: add
      path: /spec/template/spec/priorityClassName
      value: system-cluster-critical
- patch: |
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: ztunnel, namespace: applink-system}
    spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: RUST_BACKTRACE, value: "1"}]}]}}}
`

const patchesOfTwo = `
patches:
- target: {kind: Namespace, name: applink-system}
  patch: |
    apiVersion: v1
    kind: Namespace
    metadata: {name: applink-system, annotations: {example.com/team: network}}
`

// A combination is one choice of each dimension.
type combination struct {
	name    string
	choices []choice
}

// combinations returns those that a release can do.
func combinations(release catalog.Release) []combination {
	all := []combination{{choices: []choice{base}}}
	for _, d := range dimensions {
		var wider []combination
		for _, c := range all {
			for _, next := range d.choices {
				if next.since == "" || release.AtLeast(next.since) {
					wider = append(wider, combination{
						name:    strings.TrimPrefix(c.name+"/"+next.name, "/"),
						choices: append(c.choices[:len(c.choices):len(c.choices)], next),
					})
				}
			}
		}
		all = wider
	}
	return all
}

// enough returns the combinations without settings, and of those with settings
// so many that every two choices meet: settings cost most to render, and touch
// other objects than the other dimensions.
func enough(all []combination) []combination {
	var out, rest []combination
	for _, c := range all {
		if strings.HasSuffix(c.name, "/defaults") {
			out = append(out, c)
		} else {
			rest = append(rest, c)
		}
	}
	return append(out, pairs(rest)...)
}

// pairs returns some of the combinations, in which every two choices of two
// dimensions meet that meet in any.
func pairs(all []combination) []combination {
	missing := map[[2]string]bool{}
	for _, c := range all {
		for _, pair := range c.pairs() {
			missing[pair] = true
		}
	}
	var out []combination
	for len(missing) > 0 {
		var best combination
		most := 0
		for _, c := range all {
			count := 0
			for _, pair := range c.pairs() {
				if missing[pair] {
					count++
				}
			}
			if count > most {
				best, most = c, count
			}
		}
		for _, pair := range best.pairs() {
			delete(missing, pair)
		}
		out = append(out, best)
	}
	return out
}

func (c combination) pairs() [][2]string {
	var out [][2]string
	names := strings.Split(c.name, "/")
	for i, name := range names {
		for j, other := range names[:i] {
			out = append(out, [2]string{dimensions[i].name + ": " + name, dimensions[j].name + ": " + other})
		}
	}
	return out
}

// render returns the bundles of a combination's members.
func (c combination) render(t *testing.T, release string) []bundle.Bundle {
	t.Helper()
	f, problems := fleet.Load(c.files(t, release))
	if len(problems.Errors()) > 0 {
		t.Fatalf("load %s: %v", c.name, problems.Errors())
	}
	result, err := shared.Render(f, plan.Observed{})
	if err != nil {
		t.Fatalf("render %s: %v", c.name, err)
	}
	if len(result.Problems.Errors()) > 0 {
		t.Fatalf("render %s: %v", c.name, result.Problems.Errors())
	}
	return result.Bundles
}

func (c combination) files(t *testing.T, release string) fstest.MapFS {
	t.Helper()
	network, first, second := map[string]any{}, map[string]any{}, map[string]any{}
	for _, choice := range append(c.choices, choice{network: `{upgrade: {version: "` + release + `"}}`}) {
		merge(t, network, choice.network)
		merge(t, first, choice.both, choice.one)
		merge(t, second, choice.both, choice.two)
	}
	return fstest.MapFS{
		"network.yaml": file(t, v1alpha1.ApplicationNetworkKind, networkName, network),
		"one.yaml":     file(t, v1alpha1.MemberKind, one, first),
		"two.yaml":     file(t, v1alpha1.MemberKind, two, second),
	}
}

func file(t *testing.T, kind, name string, spec map[string]any) *fstest.MapFile {
	t.Helper()
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": kind,
		"metadata": map[string]any{"name": name}, "spec": spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &fstest.MapFile{Data: data}
}

// merge adds YAML texts to a mapping.
func merge(t *testing.T, into map[string]any, texts ...string) {
	t.Helper()
	for _, text := range texts {
		var fields map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &fields); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		mergeMaps(into, fields)
	}
}

func mergeMaps(into, fields map[string]any) {
	for key, value := range fields {
		inner, isMap := value.(map[string]any)
		if outer, alsoMap := into[key].(map[string]any); isMap && alsoMap {
			mergeMaps(outer, inner)
			continue
		}
		if isMap {
			value = map[string]any{}
			mergeMaps(value.(map[string]any), inner)
		}
		into[key] = value
	}
}

// TestChoices keeps the table honest: a choice that never changes what is
// rendered is not checked.
func TestChoices(t *testing.T) {
	release := releases[0]
	rendered := map[string]map[string]bool{} // of "dimension: choice", by digests
	for _, c := range combinations(release) {
		var digests []string
		for _, b := range c.render(t, release.Version) {
			digests = append(digests, b.Digest)
		}
		for i, name := range strings.Split(c.name, "/") {
			key := dimensions[i].name + ": " + name
			if rendered[key] == nil {
				rendered[key] = map[string]bool{}
			}
			rendered[key][strings.Join(digests, " ")] = true
		}
	}
	for _, d := range dimensions {
		for i, a := range d.choices {
			for _, b := range d.choices[:i] {
				if maps.Equal(rendered[d.name+": "+a.name], rendered[d.name+": "+b.name]) {
					t.Errorf("%s: %s and %s render the same", d.name, a.name, b.name)
				}
			}
		}
	}
}
