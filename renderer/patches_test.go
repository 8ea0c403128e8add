package renderer_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/kustomize"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

const (
	networkPatches = `  patches:
  - patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: istiod, namespace: applink-system}
      spec: {template: {spec: {containers: [{name: discovery, env: [{name: EXTRA, value: "1"}]}]}}}
  - target: {kind: DaemonSet|Deployment, labelSelector: isthmus.dev/component!=cni}
    patch: |
      metadata: {annotations: {example.com/team: mesh}}
`
	memberPatches = `  patches:
  - target: {kind: HorizontalPodAutoscaler, name: istiod}
    patch: |
      - {op: replace, path: /spec/maxReplicas, value: 9}
`
)

// patchedFiles are two members on every release; the first of each two has
// patches of its own.
func patchedFiles() fstest.MapFS {
	files := fstest.MapFS{"network.yaml": {Data: []byte(networkFile + networkPatches)}}
	for _, release := range catalog.Builtin().Releases() {
		name := "m" + strings.ReplaceAll(release.Version, ".", "-")
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(memberFile(name, release.Version) + memberPatches)}
		files[name+"-b.yaml"] = &fstest.MapFile{Data: []byte(memberFile(name+"-b", release.Version))}
	}
	return files
}

func TestPatches(t *testing.T) {
	for _, b := range render(t, load(t, patchedFiles())) {
		istiod := find(b, "Deployment", "istiod")
		variables := env(t, istiod)
		if variables["EXTRA"] != "1" || variables["CLUSTER_ID"] != b.Member {
			t.Errorf("%s: merged into %v", b.Member, variables)
		}
		for _, tt := range []struct{ kind, name, want string }{
			{"Deployment", "istiod", "mesh"}, {"DaemonSet", "ztunnel", "mesh"}, {"DaemonSet", "istio-cni-node", ""},
		} {
			if got := find(b, tt.kind, tt.name).GetAnnotations()["example.com/team"]; got != tt.want {
				t.Errorf("%s: %s has the annotation %q, want %q", b.Member, tt.name, got, tt.want)
			}
		}
		want := int64(9)
		if strings.HasSuffix(b.Member, "-b") {
			want = 5 // the chart's
		}
		got, _, _ := unstructured.NestedInt64(find(b, "HorizontalPodAutoscaler", "istiod").Object, "spec", "maxReplicas")
		if got != want {
			t.Errorf("%s: %d replicas at most, want %d", b.Member, got, want)
		}
	}
}

// A patch touches what it is for and nothing else, not even how it is written.
func TestPatchesLeaveTheRest(t *testing.T) {
	plain := map[string]string{}
	for _, b := range render(t, load(t, everyRelease())) {
		for _, object := range b.Objects {
			plain[b.Member+id(object.Object)] = object.Digest
		}
	}
	touched := map[string]bool{"Deployment": true, "DaemonSet": true, "HorizontalPodAutoscaler": true}
	for _, b := range render(t, load(t, patchedFiles())) {
		if strings.HasSuffix(b.Member, "-b") {
			continue
		}
		for _, object := range b.Objects {
			same := plain[b.Member+id(object.Object)] == object.Digest
			if want := !touched[object.Object.GetKind()] || object.Object.GetName() == "istio-cni-node"; same != want {
				t.Errorf("%s: %s is unchanged: %t", b.Member, id(object.Object), same)
			}
		}
	}
}

func TestKustomizeBuildGivesThePatchedBundle(t *testing.T) {
	bundles := render(t, load(t, patchedFiles()))
	files, err := bundle.Files(bundles)
	if err != nil {
		t.Fatal(err)
	}
	b := bundles[0]
	built, err := kustomize.Build(files, bundle.MemberDir(b.Member))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range built {
		if object.GetKind() == "CustomResourceDefinition" {
			continue
		}
		if diff := cmp.Diff(find(b, object.GetKind(), object.GetName()), object); diff != "" {
			t.Errorf("%s (-bundle +built):\n%s", id(object), diff)
		}
	}
	// A build changes Kustomize's schemas; patches after it see the built-in ones.
	again := render(t, load(t, patchedFiles()))
	if again[0].Digest != b.Digest {
		t.Error("a patch gives something else after a build")
	}
}

func TestPatchesThatAreRefused(t *testing.T) {
	const deployment = "apiVersion: apps/v1\n      kind: Deployment\n      metadata: {name: istiod, namespace: applink-system"
	tests := []struct{ patch, want, reason string }{
		{"{target: {kind: Deployment, name: istio}, patch: '{}'}",
			"PatchMatchesNothing matches no object of any member", "names are whole: istiod is another"},
		{"{target: {kind: Deployment, version: v1beta1}, patch: '{}'}",
			"PatchMatchesNothing matches no object of any member", "a version that is not rendered"},
		{"patch: |\n      apiVersion: apps/v1\n      kind: Deployment\n      metadata: {name: istiod}\n",
			"PatchMatchesNothing matches no object of any member", "the namespace is part of the name"},
		{"{target: {kind: Namespace, name: shop}, patch: '[{op: remove, path: /metadata/annotations}]'}",
			"PatchNotAllowed Namespace shop: the patch changes its annotations of isthmus.dev/", "the namespace would be deleted with the mesh"},
		{"{target: {kind: Namespace, name: shop}, patch: '{metadata: {labels: {isthmus.dev/network: other}}}'}",
			"PatchNotAllowed Namespace shop: the patch changes its labels of isthmus.dev/", "the object would be lost"},
		{"{target: {kind: Namespace, name: shop}, patch: '{metadata: {labels: {isthmus.dev/component: null}}}'}",
			"PatchNotAllowed Namespace shop: the patch changes its labels of isthmus.dev/", "a null removes one"},
		{"{target: {kind: Deployment}, patch: '[{op: replace, path: /metadata/name, value: other}]'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its name", "a renamed object is a new one"},
		{"{target: {kind: Deployment}, patch: '[{op: replace, path: /metadata/namespace, value: kube-system}]'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its namespace", "nothing leaves its namespace"},
		{"{target: {kind: Deployment}, patch: '[{op: replace, path: /kind, value: Secret}]'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its kind", "a bundle has no secrets"},
		{"{target: {name: telemetries.telemetry.istio.io}, patch: '{metadata: {annotations: {a: b}}}'}",
			"PatchNotAllowed CustomResourceDefinition telemetries.telemetry.istio.io: CRDs are the same for all members of a release", "CRDs are on disk once"},
		{"{target: {kind: Deployment}, patch: '{metadata: {resourceVersion: \"1\"}}'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its metadata.resourceVersion", "every apply would conflict"},
		{"{target: {kind: Deployment}, patch: '{metadata: {managedFields: [{manager: me}]}}'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its metadata.managedFields", "no apply has them"},
		{"{target: {kind: Deployment}, patch: '{metadata: {ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: b}]}}'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its metadata.ownerReferences", "without that owner it is collected"},
		{"{target: {kind: Deployment}, patch: '{status: {replicas: 1}}'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its status", "it is not the fleet's to say"},
		{"{target: {kind: Deployment}, patch: '{metadata: {annotations: {config.kubernetes.io/local-config: \"true\"}}}'}",
			"PatchNotAllowed Deployment applink-system/istiod: the patch changes its annotations of config.kubernetes.io/", "kustomize build would leave it out"},
		{"{target: {kind: Deployment}, patch: '[{op: replace, path: /spec/template/spec/containers/7, value: {}}]'}",
			"PatchFails Deployment applink-system/istiod: ", "a list of one has no eighth item"},
		{"{target: {kind: Deployment}, patch: '[{op: add, path: /spec/template/spec/containers/2000000000, value: {}}]'}",
			"PatchFails Deployment applink-system/istiod: ", "a list is not made longer to reach an index"},
		{"{target: {kind: Deployment}, patch: '[{op: move, from: /spec, path: /spec/template}]'}",
			"PatchFails Deployment applink-system/istiod: ", "nothing moves into itself"},
		{"patch: |\n      apiVersion: kustomize.config.k8s.io/v1beta1\n      kind: Kustomization\n      metadata: {name: a}\n      resources: [https://example.com/base]\n",
			"PatchMatchesNothing matches no object of any member", "a kustomization is not run, and no base is fetched"},
		{"patch: |\n      " + deployment + "}\n      spec: {template: {spec: {containers: [{name: discovery, $patch: nonsense}]}}}\n",
			"PatchFails Deployment applink-system/istiod: ", "a directive that there is not"},
		{"{target: {kind: Deployment}, patch: '[{op: remove, path: /spec/nothing}]'}",
			"PatchFails Deployment applink-system/istiod: ", "what is not there cannot be removed"},
		{"{target: {kind: Deployment}, patch: '[{op: test, path: /spec/strategy, value: 1}]'}",
			"PatchFails Deployment applink-system/istiod: ", "a test that does not hold"},
	}
	for _, tt := range tests {
		f := load(t, fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile + "  patches:\n  - " + tt.patch + "\n")},
			"member.yaml":  {Data: []byte(memberFile("one", "1.30.4"))},
		})
		result, err := shared.Render(f, plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		if len(result.Bundles) > 0 {
			t.Errorf("%s: rendered all the same", tt.reason)
		}
		errs := result.Problems.Errors()
		if len(errs) != 1 || !strings.HasPrefix(errs[0].Reason+" "+errs[0].Message, tt.want) ||
			errs[0].File != "network.yaml" || errs[0].Line != 9 || errs[0].Path != "spec.patches[0]" {
			t.Errorf("%s: problems %+v, want %q at network.yaml:9", tt.reason, errs, tt.want)
		}
	}
}

// What Istio needs to be the same on every member is not one member's to change.
func TestPatchesOfOneMemberKeepTheMeshWhole(t *testing.T) {
	const waypoint = "{target: {kind: Gateway, name: waypoint}, patch: "
	const mesh = `{target: {kind: ConfigMap, name: istio}, patch: '[{op: replace, path: /data/mesh, value: "trustDomain: other"}]'}`
	for _, tt := range []struct{ patch, want, reason string }{
		{waypoint + `'[{op: replace, path: /spec/gatewayClassName, value: mine}]'}`, "MembersDiffer Gateway shop/waypoint: the patch changes its waypoint on this member alone", "peers take it to be a waypoint"},
		{waypoint + `'{metadata: {labels: {istio.io/waypoint-for: all}}}'}`, "MembersDiffer Gateway shop/waypoint: the patch changes its waypoint on this member alone", "peers send it what it was for"},
		{waypoint + `'{metadata: {annotations: {example.com/team: mesh}}}'}`, "", "an annotation is the member's own"},
		{mesh, "MembersDiffer ConfigMap applink-system/istio: the patch changes its trustDomain on this member alone", "peers refuse the other domain"},
	} {
		for holder, files := range map[string]fstest.MapFS{
			"member":  {"network.yaml": {Data: []byte(networkFile)}, "member.yaml": {Data: []byte(memberFile("one", "1.30.4") + "  patches: [" + tt.patch + "]\n")}},
			"network": {"network.yaml": {Data: []byte(networkFile + "  patches: [" + tt.patch + "]\n")}, "member.yaml": {Data: []byte(memberFile("one", "1.30.4"))}},
		} {
			result, err := shared.Render(load(t, files), plan.Observed{})
			if err != nil {
				t.Fatal(err)
			}
			var got string
			for _, p := range result.Problems.Errors() {
				got += p.Reason + " " + p.Message
			}
			if want := tt.want; holder == "member" && got != want || holder == "network" && got != "" {
				t.Errorf("%s, in a %s: problems %q, want %q", tt.reason, holder, got, want)
			}
		}
	}
}

// A network's patch may be for some members only; a member's is for itself.
func TestPatchesMatchByMember(t *testing.T) {
	gateway := "  patches: [{target: {kind: Gateway, name: istio-eastwestgateway, labelSelector: topology.istio.io/network=net-alpha}, patch: '{metadata: {annotations: {a: b}}}'}]\n"
	for _, tt := range []struct{ network, member, want, reason string }{
		{gateway, "", "", "it matches on one member of two"},
		{"", gateway, "beta.yaml:9: spec.patches[0]: matches no object of any member", "it is not for another member's objects"},
	} {
		f := load(t, fstest.MapFS{
			"network.yaml": {Data: []byte(networkFile + tt.network)},
			"alpha.yaml":   {Data: []byte(memberFile("alpha", "1.30.4"))},
			"beta.yaml":    {Data: []byte(memberFile("beta", "1.30.4") + tt.member)},
		})
		result, err := shared.Render(f, plan.Observed{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, problem := range result.Problems.Errors() {
			got = append(got, problem.String())
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s: problems %q, want %q", tt.reason, got, tt.want)
		}
	}
}
