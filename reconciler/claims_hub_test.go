package reconciler

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
)

// A hub that can select Members by their cluster, and one that cannot, tell the same.
func TestMembersOfAClusterAreFoundOnAnyHub(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	soonTrue := func(is func() bool) error {
		return wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true,
			func(context.Context) (bool, error) { return is(), nil })
	}
	cp := controlplanetest.Start(t, controlplane.Options{})
	hub := controlplanetest.Cluster(t, cp, "hub", controlplane.ClusterOptions{})
	scheme := runtime.NewScheme()
	must(v1alpha1.AddToScheme(scheme))
	must(apiextensionsv1.AddToScheme(scheme))
	c, err := client.New(hub.RESTConfig(), client.Options{Scheme: scheme})
	must(err)

	var crd apiextensionsv1.CustomResourceDefinition
	data, err := os.ReadFile("../deploy/crds/isthmus.dev_members.yaml")
	must(err)
	must(yaml.UnmarshalStrict(data, &crd))
	must(c.Create(t.Context(), &crd))
	var members v1alpha1.MemberList
	must(soonTrue(func() bool { return c.List(t.Context(), &members) == nil }))
	for name, uid := range map[string]string{"one": "a", "two": "b", "three": "a"} {
		m := &v1alpha1.Member{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Spec: v1alpha1.MemberSpec{ApplicationNetwork: "prod", Cluster: v1alpha1.Cluster{
				Type: v1alpha1.ClusterKubernetes, KubeconfigRef: &v1alpha1.SecretKeyReference{Name: name}}},
		}
		must(c.Create(t.Context(), m))
		m.Status.ClusterUID = uid
		must(c.Status().Update(t.Context(), m))
	}

	r := &memberReconciler{live: c}
	found := func() []string {
		all, failure := r.liveMembersOf(t.Context(), "default", "a")
		if failure != nil {
			t.Fatal(failure.Message)
		}
		var names []string
		for i := range all {
			names = append(names, all[i].Name)
		}
		slices.Sort(names)
		return names
	}
	if got := found(); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("the hub selects %q", got)
	}
	must(c.Get(t.Context(), client.ObjectKeyFromObject(&crd), &crd))
	crd.Spec.Versions[0].SelectableFields = nil
	must(c.Update(t.Context(), &crd))
	var got []string
	if err := soonTrue(func() bool { got = found(); return len(got) == 3 }); err != nil {
		t.Errorf("a hub that cannot select gives %q, want all, of which callers take those of the cluster", got)
	}
}
