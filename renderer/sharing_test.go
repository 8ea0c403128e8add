package renderer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/ambient"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// patchLists are patches that look at what is a member's own in every way there
// is, and in ways in which they seem to.
func patchLists() map[string][]v1alpha1.Patch {
	istiod, ztunnel := &v1alpha1.PatchTarget{Kind: "Deployment", Name: "istiod"}, &v1alpha1.PatchTarget{Kind: "DaemonSet", Name: "ztunnel"}
	gateway := &v1alpha1.PatchTarget{Kind: "Gateway", Name: "istio-eastwestgateway"}
	injector := &v1alpha1.PatchTarget{Kind: "ConfigMap", Name: "istio-sidecar-injector"}
	system := &v1alpha1.PatchTarget{Kind: "Namespace", Name: "applink-system"}
	everything := &v1alpha1.PatchTarget{LabelSelector: "isthmus.dev/component!=crds"}
	one := func(target *v1alpha1.PatchTarget, text string) []v1alpha1.Patch {
		return []v1alpha1.Patch{{Target: target, Patch: text}}
	}
	// ztunnel's environment begins with ….
	const env = "/spec/template/spec/containers/0/env/"
	return map[string][]v1alpha1.Patch{
		"merge, named by itself":      one(nil, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: istiod, namespace: applink-system}, spec: {template: {spec: {containers: [{name: discovery, env: [{name: EXTRA, value: '1'}]}]}}}}"),
		"merge, everything":           one(everything, "{metadata: {annotations: {team: mesh}}}"),
		"merge over the cluster name": one(istiod, "{spec: {template: {spec: {containers: [{name: discovery, env: [{name: CLUSTER_ID, value: other}]}]}}}}"),
		"merge over it with a name":   one(ztunnel, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: ISTIO_META_CLUSTER_ID, value: east}]}]}}}}"),
		"merge a stand-in":            one(istiod, "{metadata: {annotations: {a: ISTHMUS_CLUSTER, b: xISTHMUS_NETWORKx}}}"),
		"merge away the environment":  one(ztunnel, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: null}]}}}}"),
		"merge away one variable":     one(ztunnel, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: NETWORK, $patch: delete}]}]}}}}"),
		"merge, replace a list":       one(ztunnel, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: [{$patch: replace}, {name: A, value: east}]}]}}}}"),
		"merge a container":           one(istiod, "{spec: {template: {spec: {containers: [{name: east, image: x}], tolerations: [{key: east}]}}}}"),
		"merge data":                  one(injector, "{data: {more: east, values: null}}"),
		"merge infrastructure":        one(gateway, "{spec: {infrastructure: {annotations: {a: b}, labels: {topology.istio.io/network: null}}}}"),
		"merge a label":               one(system, "{metadata: {labels: {topology.istio.io/network: west, extra: east}}}"),
		"add":                         one(istiod, "[{op: add, path: /spec/template/spec/containers/0/env/-, value: {name: A, value: east}}]"),
		"add at the front":            one(ztunnel, "[{op: add, path: "+env+"0, value: {name: A, value: east}}]"),
		"replace":                     one(ztunnel, "[{op: replace, path: "+env+"5/value, value: east}]"),
		"remove":                      one(ztunnel, "[{op: remove, path: "+env+"2}]"),
		"move it to a label":          one(ztunnel, "[{op: move, from: "+env+"5/value, path: /metadata/labels/cluster}]"),
		"move it to a list":           one(ztunnel, "[{op: move, from: "+env+"5/value, path: /metadata/finalizers}, {op: move, from: /metadata/finalizers, path: /spec/template/spec/containers/0/args/0}]"),
		"move it to a name":           one(ztunnel, "[{op: move, from: "+env+"5/value, path: /metadata/name}]"),
		"move it to our label":        one(ztunnel, "[{op: move, from: "+env+"5/value, path: /metadata/labels/isthmus.dev~1component}]"),
		"move it to a variable":       one(ztunnel, "[{op: move, from: "+env+"5/value, path: "+env+"2/name}]"),
		"test the name of a member":   one(ztunnel, "[{op: test, path: "+env+"5/value, value: east}, {op: add, path: /metadata/labels/a, value: b}]"),
		"test a whole variable":       one(ztunnel, "[{op: test, path: "+env+"5, value: {name: ISTIO_META_CLUSTER_ID, value: '123'}}, {op: add, path: /metadata/labels/a, value: b}]"),
		"test a number":               one(ztunnel, "[{op: test, path: "+env+"5/value, value: 123}]"),
		"test a network":              one(gateway, "[{op: test, path: /metadata/labels/topology.istio.io~1network, value: flat}]"),
		"test an address":             one(gateway, "[{op: test, path: /spec/addresses/0/value, value: 10.0.0.4}]"),
		"test what is the same":       one(gateway, "[{op: test, path: /spec/gatewayClassName, value: istio-east-west}, {op: replace, path: /spec/listeners/0/name, value: door}]"),
		"test a stand-in":             one(ztunnel, "[{op: test, path: "+env+"5/value, value: ISTHMUS_CLUSTER}]"),
		"remove what is not there":    one(gateway, "[{op: remove, path: /spec/addresses}]"),
		"select a network":            one(&v1alpha1.PatchTarget{LabelSelector: "topology.istio.io/network in (flat,west)"}, "{metadata: {annotations: {a: b}}}"),
		"select not a network":        one(&v1alpha1.PatchTarget{Kind: "Gateway", LabelSelector: "topology.istio.io/network!=east"}, "{metadata: {annotations: {a: b}}}"),
		"select by expressions":       one(&v1alpha1.PatchTarget{Kind: "D.*", Name: "istio.*|z.*", Namespace: "applink-.*"}, "{metadata: {annotations: {a: b}}}"),
		"select an annotation":        one(&v1alpha1.PatchTarget{AnnotationSelector: "networking.istio.io/address-type=Hostname"}, "[{op: add, path: /spec/infrastructure/labels/a, value: b}]"),
		"several": {
			{Target: ztunnel, Patch: "[{op: move, from: " + env + "5/value, path: /metadata/labels/cluster}]"},
			{Target: &v1alpha1.PatchTarget{LabelSelector: "cluster=east"}, Patch: "{metadata: {annotations: {a: east}}}"},
			{Target: &v1alpha1.PatchTarget{LabelSelector: "cluster!=east"}, Patch: "{metadata: {annotations: {a: ISTHMUS_CLUSTER}}}"},
			{Target: everything, Patch: "{metadata: {annotations: {b: c}}}"},
		},
		"several on the same": {
			{Target: istiod, Patch: "{spec: {template: {spec: {containers: [{name: discovery, env: [{name: A, value: '1'}]}]}}}}"},
			{Target: istiod, Patch: "[{op: test, path: /spec/template/spec/containers/0/env/0/value, value: '1'}, {op: remove, path: /spec/template/spec/containers/0/env/0}]"},
			{Target: everything, Patch: "[{op: add, path: /metadata/labels/east, value: west}]"},
		},
		"variables named by the member": {
			{Target: ztunnel, Patch: "[{op: move, from: " + env + "5/value, path: " + env + "0/name}, {op: move, from: " + env + "2/value, path: " + env + "1/name}]"},
			{Target: ztunnel, Patch: "{spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: A, value: b}]}]}}}}"},
		},
		"merge a mapping into a list": one(ztunnel, "{spec: {template: {spec: {containers: [{name: istio-proxy, env: {a: b}}]}}}}"),
		"one fails, one does not": {
			{Target: ztunnel, Patch: "[{op: remove, path: /spec/nothing}]"},
			{Target: ztunnel, Patch: "{metadata: {annotations: {a: b}}}"},
		},
	}
}

// patchFleet has members whose names, networks and addresses patches above
// mention, and names that YAML could take for something else.
func patchFleet(t *testing.T, patches []v1alpha1.Patch) *fleet.Fleet {
	t.Helper()
	written, err := yaml.Marshal(map[string]any{"patches": patches})
	if err != nil {
		t.Fatal(err)
	}
	indented := "  " + strings.ReplaceAll(strings.TrimSpace(string(written)), "\n", "\n  ")
	const header = "apiVersion: isthmus.dev/v1alpha1\nkind: "
	files := fstest.MapFS{"network.yaml": {Data: []byte(header + "ApplicationNetwork\nmetadata: {name: prod}\nspec:\n  namespaces: [{name: shop, ambient: true, waypoint: {name: east, global: true}}]\n" + indented + "\n")}}
	for name, rest := range map[string]string{
		"east": "", "west": "connectivity: {network: west}", "middle": "connectivity: {network: east}",
		"flat-1": "connectivity: {network: flat}", "flat-2": "connectivity: {network: flat}",
		"123": "", "true": "", "1e3": "connectivity: {network: '1.5'}", "null": "",
		"mesh": "connectivity: {network: ISTHMUS_CLUSTER, eastWestGateway: {subnet: ISTHMUS_NETWORK}}", "value": "connectivity: {network: Terminate}",
		"discovery": "connectivity: {eastWestGateway: {address: 10.0.0.4, subnet: east}}", "name": "connectivity: {eastWestGateway: {address: 10.0.0.5}}",
		"shop": "patches: [{target: {kind: Gateway}, patch: '{metadata: {annotations: {mine: shop}}}'}]",
		"blue": "components: {images: {registry: registry.example.com/istio}, nodes: {selector: {pool: ISTHMUS_NETWORK}}}",
	} {
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "%sMember\nmetadata: {name: %q}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: %q}}\n  upgrade: {mode: SelfManaged, version: 1.31.0}\n  %s\n", header, name, name, rest)}
	}
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	return f
}

// alone applies patches to whole objects of a member.
type alone struct {
	engine *ambient.Engine
	// known are outcomes by patch and digest: equal objects of members need not be
	// patched again.
	known map[string]outcome
}

type outcome struct {
	object bundle.Object
	err    error
}

// objects returns the member's objects and what was wrong, with each patch applied
// to each of them by itself.
func (a alone) objects(t *testing.T, d plan.Decision) (objects []bundle.Object, wrong []string) {
	t.Helper()
	drafts, values, err := a.engine.Drafts(ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway})
	if err != nil {
		t.Fatal(err)
	}
	for _, draft := range drafts {
		filled, err := values.Fill(draft)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, filled.Object)
	}
	for _, written := range slices.Concat(d.Network.Spec.Patches, d.Member.Spec.Patches) {
		patch, err := kustomize.NewPatch(written)
		if err != nil {
			t.Fatal(err)
		}
		for i, object := range objects {
			if !patch.Matches(object.Object) {
				continue
			}
			key := written.Patch + object.Digest
			known, ok := a.known[key]
			if !ok {
				known.object, known.err = patched(patch, object)
				a.known[key] = known
			}
			if known.err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: %v", describe(object.Object), known.err))
				continue
			}
			objects[i] = known.object
		}
	}
	return objects, wrong
}

// A patch on what members share must come to what it comes to on each member's
// own objects, whatever it looks at.
func TestPatchingOnceEqualsPatchingEach(t *testing.T) {
	engine := ambient.New()
	each := alone{engine: engine, known: map[string]outcome{}}
	for name, patches := range patchLists() {
		t.Run(name, func(t *testing.T) {
			f := patchFleet(t, patches)
			decisions := plan.Make(f, catalog.Builtin(), plan.Observed{}).Decisions
			patcher := newPatcher(f, decisions)
			var wrong []string
			for _, d := range decisions {
				drafts, values, err := engine.Drafts(ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway})
				if err != nil {
					t.Fatal(err)
				}
				got, _, err := patcher.apply(d, drafts, values)
				if err != nil {
					t.Fatal(err)
				}
				want, reasons := each.objects(t, d)
				wrong = append(wrong, reasons...)
				for i := range want {
					if want[i].Digest != got[i].Digest || want[i].Stage != got[i].Stage {
						t.Errorf("member %s (-each +once):\n%s", d.Member.Name, cmp.Diff(want[i].Object, got[i].Object))
					}
				}
			}
			slices.Sort(wrong)
			var told []string
			for _, problem := range patcher.found() {
				if problem.Reason != ReasonPatchMatchesNothing {
					told = append(told, problem.Message)
				}
			}
			slices.Sort(told)
			if diff := cmp.Diff(slices.Compact(wrong), told); diff != "" {
				t.Errorf("problems (-each +once):\n%s", diff)
			}
		})
	}
}

// Kustomize takes milliseconds for a patch on an object: it must not run for
// each member.
func TestPatchesRunOnceForAllMembers(t *testing.T) {
	f := patchFleet(t, []v1alpha1.Patch{
		{Target: &v1alpha1.PatchTarget{Kind: "Deployment|DaemonSet|Gateway", Name: "istiod|ztunnel|istio-eastwestgateway"}, Patch: "{metadata: {annotations: {a: b}}}"},
	})
	decisions := plan.Make(f, catalog.Builtin(), plan.Observed{}).Decisions
	patcher, engine := newPatcher(f, decisions), ambient.New()
	runs := map[string]int{}
	for _, d := range decisions {
		// Others have settings, addresses or subnets that are no other member's.
		if !slices.Contains([]string{"east", "west", "middle", "flat-1", "flat-2", "123"}, d.Member.Name) {
			continue
		}
		drafts, values, err := engine.Drafts(ambient.Request{Network: d.Network, Member: d.Member, Release: d.Release, Gateway: d.Gateway})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := patcher.apply(d, drafts, values); err != nil {
			t.Fatal(err)
		}
	}
	for _, made := range patcher.results {
		if made.err != nil {
			t.Error(errors.Unwrap(made.err))
		}
		runs[made.draft.Object.Object.GetKind()]++
	}
	if diff := cmp.Diff(map[string]int{"Deployment": 1, "DaemonSet": 1, "Gateway": 1}, runs); diff != "" {
		t.Errorf("patched objects (-want +got):\n%s", diff)
	}
}
