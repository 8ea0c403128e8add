package ambient

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

var testMesh = mesh{network: "prod", namespace: "applink-system", trustDomain: "cluster.local", workload: 24 * time.Hour}

// variedMeshes have settings that reach every chart.
func variedMeshes() []mesh {
	var out []mesh
	for _, components := range []string{
		"",
		`{"istiod":{"resources":{"limits":{"cpu":"0.5","memory":"1Gi"}},"replicas":{"min":2,"max":3},"logLevel":"debug"}}`,
		`{"ztunnel":{"resources":{"requests":{"cpu":"2"}},"logLevel":"warn","drain":"10m"},"nodes":{"excludeVirtual":false}}`,
		`{"cni":{"logLevel":"error"},"nodes":{"selector":{"pool":"mesh"}},"images":{"registry":"registry.example.com/istio","pullSecrets":["pull"]}}`,
	} {
		m := testMesh
		m.components = components
		out = append(out, m)
	}
	return out
}

// fill returns the objects of a member.
func fill(t *testing.T, drafts []Draft, id identity) []bundle.Object {
	t.Helper()
	var out []bundle.Object
	for _, draft := range drafts {
		filled, err := newValues(id).Fill(draft)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, filled.Object)
	}
	return out
}

// Filling in a member must give what running the charts for it would have given,
// whatever the settings, and although charts are run once for equal values.
func TestFillEqualsRunningTheCharts(t *testing.T) {
	id := identity{cluster: "eastus-1", network: "eastus"}
	for _, release := range catalog.Builtin().Releases() {
		engine := New()
		for _, m := range variedMeshes() {
			m.release = release.Version
			shared, err := engine.renderMesh(release, m)
			if err != nil {
				t.Fatal(err)
			}
			filled := fill(t, shared.drafts, id)
			all, err := jobs(release, m, id)
			if err != nil {
				t.Fatal(err)
			}
			var direct []bundle.Object
			for _, j := range all {
				objects, err := render(release, m, j)
				if err != nil {
					t.Fatal(err)
				}
				direct = append(direct, objects...)
			}
			if diff := cmp.Diff(direct, filled); diff != "" {
				t.Errorf("release %s, components %s (-charts +filled):\n%s", release.Version, m.components, diff)
			}
		}
	}
}

// A setting of one component must not cost a run of the others' charts.
func TestSettingsRunOnlyTheirChart(t *testing.T) {
	engine := New()
	release, _ := catalog.Builtin().Release("1.31.0")
	for _, m := range []mesh{testMesh, variedMeshes()[1]} {
		if _, err := engine.renderMesh(release, m); err != nil {
			t.Fatal(err)
		}
	}
	runs := map[string]int{}
	for key := range engine.runs.entries {
		runs[key.chart]++
	}
	want := map[string]int{chartBase: 1, chartIstiod: 2, chartCNI: 1, chartZtunnel: 1}
	if diff := cmp.Diff(want, runs); diff != "" {
		t.Errorf("runs by chart (-want +got):\n%s", diff)
	}
}

// The stand-ins must reach both istiod and ztunnel, or every member is the same.
func TestFillSharesWhatIsTheSame(t *testing.T) {
	release, _ := catalog.Builtin().Release("1.31.0")
	mesh, err := New().renderMesh(release, testMesh)
	if err != nil {
		t.Fatal(err)
	}
	shared := mesh.drafts
	filled := fill(t, shared, identity{cluster: "a", network: "b"})
	var own []string
	for i := range shared {
		if shared[i].Object.Object != filled[i].Object {
			own = append(own, filled[i].Object.GetKind()+" "+filled[i].Object.GetName())
		}
	}
	want := []string{"Deployment istiod", "ConfigMap istio-sidecar-injector", "DaemonSet ztunnel"}
	if diff := cmp.Diff(want, own); diff != "" {
		t.Errorf("objects of a member's own (-want +got):\n%s", diff)
	}
	for _, object := range shared {
		for _, name := range own {
			if object.Object.Object.GetKind()+" "+object.Object.Object.GetName() == name && !contains(object.Object.Object.Object, StandInPrefix) {
				t.Errorf("filling changed what is shared: %s", name)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	objects, err := decode("# only a comment\n---\nkind: A\napiVersion: v1\nmetadata: {name: a}\n---\n\n---\nkind: B\napiVersion: v1\ncount: 1\ntext: |\n  x\n  ---\n  y\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 {
		t.Fatalf("%d objects, want 2", len(objects))
	}
	if objects[1].Object["count"] != int64(1) || objects[1].Object["text"] != "x\n---\ny\n" {
		t.Errorf("decoded %v", objects[1].Object)
	}
	if _, err := decode("kind: [\n"); err == nil {
		t.Error("broken YAML decodes")
	}
}

func TestEngineFromManyGoroutines(t *testing.T) {
	engine := New()
	release, _ := catalog.Builtin().Release("1.30.4")
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	network.Spec.DataPlane.Namespace = "applink-system"
	var group sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		group.Go(func() {
			member := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if _, _, err := engine.Drafts(Request{Network: network, Member: member, Release: release}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// A setting may hold the text of a stand-in, which is then no stand-in.
func TestTextOfAStandInStays(t *testing.T) {
	release, _ := catalog.Builtin().Release("1.31.0")
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	network.Spec.DataPlane.Namespace = "applink-system"
	network.Spec.Components = &v1alpha1.Components{Nodes: &v1alpha1.Nodes{Selector: map[string]string{"pool": "ISTHMUS_CLUSTER", "zone": "ISTHMUS0_NETWORK"}}}
	member := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "1e3"}}
	drafts, values, err := New().Drafts(Request{Network: network, Member: member, Release: release})
	if err != nil {
		t.Fatal(err)
	}
	for _, draft := range drafts {
		filled, err := values.Fill(draft)
		if err != nil {
			t.Fatal(err)
		}
		content := filled.Object.Object.Object
		switch kind := filled.Object.Object.GetKind(); {
		case kind == "DaemonSet" && (!contains(content, "ISTHMUS_CLUSTER") || !contains(content, "ISTHMUS0_NETWORK")):
			t.Errorf("%s %s lost its nodes", kind, filled.Object.Object.GetName())
		case kind == "DaemonSet" && filled.Object.Object.GetName() == "ztunnel" && !contains(content, "1e3"):
			t.Error("ztunnel has no cluster")
		}
		if contains(content, "ISTHMUS1_") {
			t.Errorf("%s is not filled in", filled.Object.Object.GetName())
		}
	}
}

// What a fleet no longer needs must go, or a process that lives long holds every
// value that a fleet ever had.
func TestSweepDropsWhatIsNotNeeded(t *testing.T) {
	release, _ := catalog.Builtin().Release("1.31.0")
	engine := New()
	request := func(network, registry string) Request {
		n := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: network}}
		n.Spec.DataPlane.Namespace = "applink-system"
		n.Spec.Components = &v1alpha1.Components{Images: &v1alpha1.Images{Registry: registry}}
		return Request{Network: n, Member: &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, Release: release}
	}
	sizes := func() [4]int {
		return [4]int{len(engine.meshes.entries), len(engine.runs.entries), len(engine.owned.entries), len(engine.definitions.entries)}
	}
	for _, registry := range []string{"a", "b", "c", "d"} {
		if _, _, err := engine.Drafts(request("prod", registry)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := engine.Drafts(request("test", registry)); err != nil {
			t.Fatal(err)
		}
		engine.Sweep()
		if diff := cmp.Diff([4]int{2, 8, 2, 1}, sizes()); diff != "" {
			t.Errorf("registry %s: meshes, runs, owned, definitions (-want +got):\n%s", registry, diff)
		}
	}
	before, _, err := engine.Drafts(request("prod", "d"))
	if err != nil {
		t.Fatal(err)
	}
	engine.Sweep()
	if err := engine.Keep(request("prod", "d")); err != nil {
		t.Fatal(err)
	}
	engine.Sweep()
	if diff := cmp.Diff([4]int{1, 4, 1, 1}, sizes()); diff != "" {
		t.Errorf("kept: meshes, runs, owned, definitions (-want +got):\n%s", diff)
	}
	after, _, err := engine.Drafts(request("prod", "d"))
	if err != nil {
		t.Fatal(err)
	}
	if before[0].Object.Object != after[0].Object.Object {
		t.Error("what is kept was made again")
	}
}
