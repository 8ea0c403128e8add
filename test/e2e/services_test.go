package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// recordTo is a folder for the answers of the istiods of TestServices, from which
// reconciler/istiod/testdata is made; empty for none.
var recordTo = os.Getenv("ISTHMUS_RECORD")

// TestServices: the hub knows what the real istiods of two releases serve of each
// other's services, and says why one does not answer.
func TestServices(t *testing.T) {
	t.Parallel() // it mostly waits
	releases := map[string]string{east: oneRelease, west: otherRelease}
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east, west}, Istiods: []string{oneRelease, otherRelease}, LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	check(t, r.Repository.Write(network, `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec:
  namespaces:
  - {name: shop, ambient: true, waypoint: {name: waypoint}}
  discovery: {exports: [{namespace: tools}]}
`))
	clients := map[string]client.Client{}
	for name, release := range releases {
		check(t, r.Repository.Write(memberFile(name), fmt.Sprintf(`apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: %[1]s}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: %[1]s}}
  connectivity: {network: net-of-%[1]s}
  upgrade: {mode: SelfManaged, version: %[2]q}
`, name, release)))
		clients[name], err = r.ClientOf(name)
		check(t, err)
	}
	commit := push(t, r, "Services")
	t.Cleanup(runWith(t, r, reconciler.Options{VaultDirectory: r.Vault(), MetricsAddress: "0", LeaderElection: true}))
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, 4*time.Minute))
	shared := map[string]string{"istio.io/global": "true"}
	for _, one := range []struct {
		on, namespace, name string
		labels              map[string]string
		pods, ports         int32
	}{
		{east, "shop", "cart", shared, 3, 1}, {west, "shop", "cart", shared, 2, 1},
		{east, "shop", "till", shared, 1, 1}, {west, "shop", "till", nil, 1, 1},
		{east, "shop", "ports", shared, 1, 1}, {west, "shop", "ports", shared, 1, 2},
		{east, "shop", "empty", shared, 0, 1},
		{east, "tools", "all", nil, 1, 1},
	} {
		check(t, deploy(t.Context(), clients[one.on], one.namespace, one.name, one.labels, one.pods, one.ports))
	}
	want := map[string][]string{
		east: {"shop/cart WaypointNotGlobal", "shop/empty NoEndpoints", "shop/empty WaypointNotGlobal", "shop/ports WaypointNotGlobal", "shop/till WaypointNotGlobal"},
		west: {"shop/cart WaypointNotGlobal", "shop/ports PortsDiffer", "shop/ports WaypointNotGlobal", "shop/till NotGlobalEverywhere", "tools/all NamespaceMissing"},
	}
	start := time.Now()
	for name, problems := range want {
		check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
			check(t, lookAgain(t.Context(), r, name))
			m, err := r.Member(t.Context(), name)
			if err != nil || m.Status.Discovery == nil {
				return errors.Join(err, errors.New("nothing is known of "+name))
			}
			var got []string
			for _, p := range m.Status.Discovery.Problems {
				got = append(got, p.Service+" "+p.Reason)
			}
			if !slices.Equal(got, problems) {
				return fmt.Errorf("%s has problems %q, want %q", name, got, problems)
			}
			return nil
		}))
	}
	t.Logf("all problems are known after %s", time.Since(start).Round(time.Second))
	if recordTo != "" {
		record(t, r, releases)
	}
	// What each serves of the other is on the hub.
	sees := map[string]map[string]uint32{
		east: {"shop/cart": 2, "shop/ports": 1}, west: {"shop/cart": 3, "shop/ports": 1, "tools/all": 1},
	}
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		views := map[string]peering.View{}
		for name := range releases {
			var known corev1.ConfigMap
			if err := r.HubClient.Get(t.Context(), client.ObjectKey{Namespace: rig.Namespace, Name: reconciler.ServicesPrefix + name}, &known); err != nil {
				return err
			}
			if views[name], err = peering.DecodeView(known.BinaryData[reconciler.ServicesKey]); err != nil {
				return err
			}
		}
		for name, other := range map[string]string{east: west, west: east} {
			see, at := views[name].Sees, views[other].Exports.Gateways
			if len(see) != 1 || len(at) != 1 || see[0].Gateway != at[0]+":15008" || see[0].Network != "net-of-"+other || !maps.Equal(see[0].Services, sees[name]) {
				return fmt.Errorf("%s sees %+v, and %s is at %v", name, see, other, at)
			}
		}
		return nil
	}))
	// A look that finds nothing new writes nothing.
	before := versions(t, r)
	for name := range releases {
		check(t, lookAgain(t.Context(), r, name))
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			m, err := r.Member(t.Context(), name)
			if err == nil && m.Status.LastHandledReconcileAt != m.Annotations["reconcile.fluxcd.io/requestedAt"] {
				err = errors.New(name + " was not looked at")
			}
			return err
		}))
	}
	if after := versions(t, r); before != after {
		t.Errorf("what is known was written again: %s, then %s", before, after)
	}
	check(t, clients[west].Patch(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "till"}},
		client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"istio.io/global":"true"}}}`))))
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		check(t, lookAgain(t.Context(), r, west))
		m, err := r.Member(t.Context(), west)
		if err != nil {
			return err
		}
		for _, p := range m.Status.Discovery.Problems {
			if p.Reason == peering.NotGlobalEverywhere {
				return fmt.Errorf("west has the problem %s %s", p.Service, p.Reason)
			}
		}
		return nil
	}))
}

// deploy makes a service on a member, with as many pods.
func deploy(ctx context.Context, c client.Client, namespace, name string, labels map[string]string, pods, ports int32) error {
	app := map[string]string{"app": name}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}, Spec: corev1.ServiceSpec{Selector: app}}
	for i := range ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("http-", i), Port: 80 + i})
	}
	space := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	return errors.Join(client.IgnoreAlreadyExists(space), c.Create(ctx, service), c.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &pods, Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: app},
				Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: ptr.To[int64](0), Containers: []corev1.Container{{Name: "app", Image: "example.com/app:1"}}},
			},
		},
	}))
}

// lookAgain asks for a look at a member.
func lookAgain(ctx context.Context, r *rig.Rig, name string) error {
	return r.HubClient.Patch(ctx, &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: name}},
		client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"%d"}}}`, time.Now().UnixNano())))
}

// versions of what the hub knows of services.
func versions(t *testing.T, r *rig.Rig) string {
	t.Helper()
	var known corev1.ConfigMapList
	check(t, r.HubClient.List(t.Context(), &known, client.InNamespace(rig.Namespace), client.HasLabels{reconciler.ServicesLabel}))
	var out []string
	for _, one := range known.Items {
		out = append(out, one.Name+"@"+one.ResourceVersion)
	}
	return strings.Join(out, " ")
}

// record keeps what istiods answer.
func record(t *testing.T, r *rig.Rig, releases map[string]string) {
	t.Helper()
	for name, release := range releases {
		istiod, err := r.Members[name].WaitIstiod(t.Context(), system, release)
		check(t, err)
		address, _ := istiod.Address(8080)
		for _, question := range []string{"ambientz", "clusterz"} {
			response, err := http.Get("http://" + address + "/debug/" + question)
			check(t, err)
			text, err := io.ReadAll(response.Body)
			check(t, errors.Join(err, response.Body.Close(), os.WriteFile(filepath.Join(recordTo, question+"-"+release+".json"), text, 0o600)))
		}
	}
}
