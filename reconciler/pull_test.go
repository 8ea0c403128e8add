package reconciler

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestPullGuard: a reconciler inside a member looks at the guard with its own
// member's eyes, and not as if the rest of the network had gone.
func TestPullGuard(t *testing.T) {
	zero := int32(0)
	mine := []v1alpha1.Member{aMember("prod", "a-1")}
	all := append([]v1alpha1.Member{aMember("prod", "b-1"), aMember("prod", "c-1")}, mine...)
	for _, tt := range []struct {
		reason  string
		current []v1alpha1.Member
		next    *accepted
		stops   bool
	}{
		{"the others are none of our business", mine, commit(v1alpha1.DeletionGuard{}, "a-1", "b-1"), false},
		{"the others may go", mine, commit(v1alpha1.DeletionGuard{}, "a-1"), false},
		{"it may leave a network that others stay in", mine, commit(v1alpha1.DeletionGuard{}, "b-1"), false},
		{"it may not where the fleet lets none go", mine, commit(v1alpha1.DeletionGuard{Members: &zero}, "b-1"), true},
		{"it may where it is named", mine, commit(v1alpha1.DeletionGuard{Members: &zero, Allow: []string{"a-1"}}, "b-1"), false},
		{"it may not leave as the last", mine, commit(v1alpha1.DeletionGuard{}), true},
		{"a hub of many members does not become one of a single member", all, commit(v1alpha1.DeletionGuard{}, "a-1", "b-1", "c-1"), true},
	} {
		tt.next.keepOnly("a-1")
		if failure := guard(nil, published{members: tt.current}, tt.next); (failure != nil) != tt.stops {
			t.Errorf("%s: failure %+v, want one: %t", tt.reason, failure, tt.stops)
		}
	}
}

func TestPullPublishesItsNetwork(t *testing.T) {
	a := commit(v1alpha1.DeletionGuard{}, "a-1", "b-1")
	other := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "dev"}}
	a.networks = append(a.networks, other)
	for _, network := range []string{"prod", "dev"} {
		m := aMember(network, map[string]string{"prod": "a-1", "dev": "b-1"}[network])
		a.members = append(a.members, &m)
	}
	if got := len(a.published()); got != 2 {
		t.Errorf("a whole fleet publishes %d networks", got)
	}
	a.keepOnly("a-1")
	if got := a.published(); len(got) != 1 || got[0].Name != "prod" || len(a.members) != 1 || len(a.bundles) != 1 {
		t.Errorf("one member publishes %d networks, %d members, %d bundles", len(got), len(a.members), len(a.bundles))
	}
	f := &v1alpha1.Fleet{}
	if a.isOf(f) {
		t.Error("a fleet that is to follow all members keeps what was read for one")
	}
	f.Spec.Member = "a-1"
	if !a.isOf(f) {
		t.Error("what was read for this member is not used")
	}
}

// TestStoredObjectsStayReadable: what this version writes to the hub it reads
// back as it was, also strictly: a field that only one direction knows would be
// lost with the first conversion.
func TestStoredObjectsStayReadable(t *testing.T) {
	loaded, problems := fleet.Load(os.DirFS("../fleet-example"))
	if len(problems.Errors()) > 0 {
		t.Fatal(problems)
	}
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Name: "fleet", Namespace: DefaultNamespace}}
	check := func(want, got client.Object) {
		t.Helper()
		stored, err := onHub(f, want)
		if err != nil {
			t.Fatal(err)
		}
		data, err := yaml.Marshal(stored.Object)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(data, got); err != nil {
			t.Fatalf("%s %s: %v", kindOf(want), want.GetName(), err)
		}
		before, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
		if err != nil {
			t.Fatal(err)
		}
		after, err := runtime.DefaultUnstructuredConverter.ToUnstructured(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before["spec"], after["spec"]); diff != "" {
			t.Errorf("%s %s (-in Git +from the hub):\n%s", kindOf(want), want.GetName(), diff)
		}
	}
	for _, network := range loaded.Networks {
		check(network, &v1alpha1.ApplicationNetwork{})
	}
	for _, member := range loaded.Members {
		check(member, &v1alpha1.Member{})
	}
	if len(loaded.Networks) == 0 || len(loaded.Members) == 0 {
		t.Error("fleet-example is empty")
	}
}
