package ambient

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

var testMesh = mesh{network: "prod", namespace: "applink-system", trustDomain: "cluster.local"}

// Filling in a member must give what running the charts for it would have given.
func TestFillEqualsRunningTheCharts(t *testing.T) {
	id := identity{cluster: "eastus-1", network: "eastus"}
	for _, release := range catalog.Builtin().Releases() {
		shared, err := renderMesh(release, testMesh, standIn)
		if err != nil {
			t.Fatal(err)
		}
		filled, err := fill(shared, id)
		if err != nil {
			t.Fatal(err)
		}
		direct, err := renderMesh(release, testMesh, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(direct, filled); diff != "" {
			t.Errorf("release %s (-charts +filled):\n%s", release.Version, diff)
		}
	}
}

// The stand-ins must reach both istiod and ztunnel, or every member is the same.
func TestFillSharesWhatIsTheSame(t *testing.T) {
	release, _ := catalog.Builtin().Release("1.31.0")
	shared, err := renderMesh(release, testMesh, standIn)
	if err != nil {
		t.Fatal(err)
	}
	filled, err := fill(shared, identity{cluster: "a", network: "b"})
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for i := range shared {
		if shared[i].Object != filled[i].Object {
			own = append(own, filled[i].Object.GetKind()+" "+filled[i].Object.GetName())
		}
	}
	want := []string{"Deployment istiod", "ConfigMap istio-sidecar-injector", "DaemonSet ztunnel"}
	if diff := cmp.Diff(want, own); diff != "" {
		t.Errorf("objects of a member's own (-want +got):\n%s", diff)
	}
	for _, object := range shared {
		for _, name := range own {
			if object.Object.GetKind()+" "+object.Object.GetName() != name {
				continue
			}
			if again, changed := replaceMap(object.Object.Object, standInReplacer(standIn)); changed {
				t.Errorf("filling changed what is shared: %v", again)
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
			if _, err := engine.Objects(network, member, release); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
