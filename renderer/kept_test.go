package renderer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
	"github.com/isthmus-mesh/isthmus/test/fleetgen"
)

func renderFiles(t testing.TB, r *Renderer, files fstest.MapFS) *Result {
	t.Helper()
	f, problems := fleet.Load(files)
	if len(problems.Errors()) > 0 {
		t.Fatalf("load: %v", problems.Errors())
	}
	result, err := r.Render(f, plan.Observed{})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// edited returns the files with text added to the end of one.
func edited(files fstest.MapFS, name, text string) fstest.MapFS {
	files = maps.Clone(files)
	files[name] = &fstest.MapFile{Data: slices.Concat(files[name].Data, []byte(text))}
	return files
}

// prodFiles are a network with a patch that is for one member, and its members.
func prodFiles(members int) fstest.MapFS {
	const header = "apiVersion: isthmus.dev/v1alpha1\nkind: "
	files := fstest.MapFS{"network.yaml": {Data: []byte(header + `ApplicationNetwork
metadata: {name: prod}
spec:
  patches:
  - {target: {kind: Gateway, labelSelector: topology.istio.io/network=one-3}, patch: '{metadata: {annotations: {a: b}}}'}
`)}}
	for i := range members {
		name := fmt.Sprintf("one-%d", i)
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "%sMember\nmetadata: {name: %s}\nspec:\n  applicationNetwork: prod\n  cluster: {type: Kubernetes, kubeconfigRef: {name: %s}}\n", header, name, name)}
	}
	return files
}

// An edit must cost what depends on it, and no more.
func TestAnEditRendersWhatDependsOnIt(t *testing.T) {
	r := New(catalog.Builtin())
	files := prodFiles(6)
	before := renderFiles(t, r, files)
	for _, tt := range []struct {
		reason string
		files  fstest.MapFS
		made   int64
	}{
		{"nothing changed", files, 0},
		{"a comment", edited(files, "one-2.yaml", "# a comment\n"), 0},
		{"one member", edited(files, "one-2.yaml", "  components: {cni: {logLevel: debug}}\n"), 1},
		{"it is taken back", files, 1},
		{"the network", edited(files, "network.yaml", "  dataPlane: {mtls: Strict}\n"), 6},
		{"it is taken back", files, 6},
		{"a member joins", prodFiles(7), 1},
	} {
		made := r.made.Load()
		renderFiles(t, r, tt.files)
		if got := r.made.Load() - made; got != tt.made {
			t.Errorf("%s: %d members rendered, want %d", tt.reason, got, tt.made)
		}
	}
	after := renderFiles(t, r, edited(prodFiles(7), "one-2.yaml", "  components: {cni: {logLevel: debug}}\n"))
	for i, b := range before.Bundles {
		if b.Member != "one-2" {
			continue
		}
		for j, object := range b.Objects {
			component := bundle.Component(object.Object.GetLabels()[bundle.ComponentLabel])
			if component == bundle.ComponentCRDs && object.Object != after.Bundles[i].Objects[j].Object {
				t.Errorf("%s was made again", object.Object.GetName())
			}
		}
	}
}

// A fleet that does not render must not cost the next one what was kept.
func TestAFleetThatDoesNotRenderKeepsTheLast(t *testing.T) {
	r := New(catalog.Builtin())
	files := prodFiles(5)
	renderFiles(t, r, files)
	for i := range 3 {
		broken := edited(files, "one-1.yaml", fmt.Sprintf("  components: {images: {registry: r%d.example.com}}\n  patches: [{target: {kind: Nothing}, patch: '{}'}]\n", i))
		if result := renderFiles(t, r, broken); len(result.Bundles) > 0 {
			t.Fatal("a patch that matches nothing renders")
		}
	}
	made := r.made.Load()
	if result := renderFiles(t, r, files); len(result.Bundles) != 5 {
		t.Errorf("problems: %v", result.Problems)
	}
	if got := r.made.Load() - made; got != 0 {
		t.Errorf("%d members rendered again", got)
	}
	if len(r.kept) != 5 {
		t.Errorf("%d members kept", len(r.kept))
	}
	renderFiles(t, r, prodFiles(4))
	if len(r.kept) != 4 {
		t.Errorf("%d members kept when one has left", len(r.kept))
	}
}

// Whatever was rendered before, and whatever changed since, a fleet renders to
// what it renders to from nothing.
func TestRenderingAgainEqualsRenderingFromNothing(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := New(catalog.Builtin())
	files := fleetgen.Files(fleetgen.Options{Seed: seed, Networks: 2, Members: 30})
	for step := range 4 {
		other := fleetgen.Files(fleetgen.Options{Seed: seed + 1 + uint64(step), Networks: 2, Members: 30})
		for _, name := range slices.Sorted(maps.Keys(files)) {
			// Networks rarely: a change of one is a change of all its members.
			if kind := name[:3]; kind == "mem" && random.IntN(3) == 0 || kind == "net" && random.IntN(4) == 0 {
				files[name] = other[name]
			}
		}
		got, want := renderFiles(t, r, files), renderFiles(t, New(catalog.Builtin()), files)
		if diff := cmp.Diff(want.Problems.Errors(), got.Problems.Errors()); diff != "" {
			t.Errorf("step %d: problems (-from nothing +again):\n%s", step, diff)
		}
		if len(want.Bundles) != 30 || len(got.Bundles) != 30 {
			t.Fatalf("step %d: %d and %d bundles: %v", step, len(want.Bundles), len(got.Bundles), want.Problems.Errors())
		}
		for i := range want.Bundles {
			if want.Bundles[i].Digest != got.Bundles[i].Digest {
				t.Errorf("step %d: member %s is another one", step, want.Bundles[i].Member)
			}
		}
	}
}

// What a fleet has in its files is all that a bundle may depend on, or a bundle is
// kept that should not be: each field shows in the inputs.
func TestEveryFieldIsAnInput(t *testing.T) {
	files := fleetgen.Files(fleetgen.Options{Seed: 1, Networks: 1, Members: 2})
	f, _ := fleet.Load(files)
	decision := plan.Make(f, catalog.Builtin(), plan.Observed{}).Decisions[0]
	inputs := func(d plan.Decision) [32]byte {
		networks, err := encodeNetworks([]plan.Decision{d})
		if err != nil {
			t.Fatal(err)
		}
		sum, err := inputsOf(request(d), networks[d.Network], nil)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	before := inputs(decision)
	for reason, change := range map[string]func(d *plan.Decision){
		"gateway": func(d *plan.Decision) { d.Gateway = !d.Gateway },
		"release": func(d *plan.Decision) { d.Release.Version = "1.99.0" },
		"name of the network": func(d *plan.Decision) {
			d.Network = d.Network.DeepCopy()
			d.Network.Name = "other"
		},
		"labels of the member": func(d *plan.Decision) {
			d.Member = d.Member.DeepCopy()
			d.Member.Labels = map[string]string{"a": "b"}
		},
		"namespaces": func(d *plan.Decision) {
			d.Network = d.Network.DeepCopy()
			d.Network.Spec.Namespaces = nil
		},
	} {
		changed := decision
		change(&changed)
		if inputs(changed) == before {
			t.Errorf("%s: the inputs are the same", reason)
		}
	}
	if inputs(decision) != before {
		t.Error("the same inputs have two digests")
	}
}
