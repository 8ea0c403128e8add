package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestSpine follows one fleet from its first push to the last member's leave.
func TestSpine(t *testing.T) {
	r, commit := newRig(t)
	before := objects(t, r)
	stop := settled(t, r, commit)
	for _, name := range names(r) {
		var nodes corev1.NodeList
		c, err := r.ClientOf(name)
		check(t, err)
		check(t, c.List(t.Context(), &nodes))
		m, err := r.Member(t.Context(), name)
		check(t, err)
		if has := int32(len(nodes.Items)); m.Status.Nodes != has || has == 0 { //nolint:gosec // G115: a few.
			t.Errorf("%s has %d nodes, its status says %d", name, has, m.Status.Nodes)
		}
	}
	t.Run("a second reconcile of the same commit writes nothing", func(t *testing.T) { testNoChange(t, r) })
	t.Run("a new commit that changes no member writes nothing there", func(t *testing.T) { testOtherCommit(t, r) })
	t.Run("people's own manifests come and go with commits", func(t *testing.T) { testResources(t, r) })
	t.Run("drift is put back", func(t *testing.T) { testDrift(t, r) })
	t.Run("drift is reported where the fleet says so", func(t *testing.T) { testReported(t, r) })
	t.Run("a rival is not fought", func(t *testing.T) { testRival(t, r) })
	t.Run("the CA is put back while a delivery waits", func(t *testing.T) { testTrustMeanwhile(t, r) })
	waitIdle(t, r)
	stop()
	restarted := time.Now()
	run(t, r)
	t.Run("a restart of an idle fleet writes nothing", func(t *testing.T) {
		check(t, r.Request(t.Context()))
		time.Sleep(5 * time.Second)
		assertNoWrites(t, r, restarted)
	})
	t.Run("a member that leaves takes everything along", func(t *testing.T) { testLeave(t, r, before[west]) })
	t.Run("metrics tell of members", func(t *testing.T) { testMetrics(t) })
	t.Run("what isthmus has is private", func(t *testing.T) { testNoSecretsOnHub(t, r) })
}

func testNoChange(t *testing.T, r *rig.Rig) {
	start := time.Now()
	for range 3 {
		check(t, r.Request(t.Context()))
		time.Sleep(time.Second)
	}
	assertNoWrites(t, r, start)
}

func testOtherCommit(t *testing.T, r *rig.Rig) {
	start := time.Now()
	check(t, r.Repository.Write("README.md", "a new line\n"))
	commit := push(t, r, "Words only")
	check(t, r.WaitApplied(t.Context(), commit, 30*time.Second))
	assertNoWrites(t, r, start)
}

// waitIdle waits until nothing was written for a while: what was put back is in
// the inventory a moment after it is on the member.
func waitIdle(t *testing.T, r *rig.Rig) {
	t.Helper()
	check(t, rig.Eventually(t.Context(), 30*time.Second, func() error {
		for _, name := range names(r) {
			if writes := ours(t, r.Members[name], time.Now().Add(-2*time.Second)); len(writes) > 0 {
				return fmt.Errorf("%s: %d writes in the last two seconds", name, len(writes))
			}
		}
		return nil
	}))
}

func assertNoWrites(t *testing.T, r *rig.Rig, since time.Time) {
	t.Helper()
	for _, name := range names(r) {
		for _, write := range ours(t, r.Members[name], since) {
			t.Errorf("%s: %s %s %s/%s", name, write.Verb, write.Resource, write.Namespace, write.Name)
		}
	}
}

// testDrift changes one hundred objects, one after another, and prints how long
// each took to return. No latency is asserted: machines differ.
func testDrift(t *testing.T, r *rig.Rig) {
	member, err := r.ClientOf(east)
	check(t, err)
	var latencies []time.Duration
	// Five of each: who changes an object more than ten times a minute is a rival.
	for i := range 5 * len(changes) {
		change := changes[i%len(changes)]
		latency, err := change.cause(t, member)
		if err != nil {
			t.Fatalf("case %d, %s: %v", i, change.name, err)
		}
		latencies = append(latencies, latency)
	}
	slices.Sort(latencies)
	t.Logf("change to correction over %d cases: p50 %s, p95 %s, worst %s",
		len(latencies), latencies[len(latencies)/2], latencies[len(latencies)*95/100], latencies[len(latencies)-1])
}

// change is one way to disturb a member.
type change struct {
	name  string
	cause func(*testing.T, client.Client) (time.Duration, error)
}

var changes = []change{
	{"delete a DaemonSet", deleted(func() client.Object { return &appsv1.DaemonSet{} }, "ztunnel")},
	{"edit a ConfigMap", edited(func() client.Object { return &corev1.ConfigMap{} }, "istio", func(o client.Object) {
		o.(*corev1.ConfigMap).Data["mesh"] = "trustDomain: somebody.else"
	}, func(o client.Object) bool {
		return !strings.Contains(o.(*corev1.ConfigMap).Data["mesh"], "somebody.else")
	})},
	{"edit a Deployment", edited(func() client.Object { return &appsv1.Deployment{} }, "istiod", func(o client.Object) {
		o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image = "example.com/other:1"
	}, func(o client.Object) bool {
		return o.(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Image != "example.com/other:1"
	})},
	{"delete a ServiceAccount", deleted(func() client.Object { return &corev1.ServiceAccount{} }, "ztunnel")},
	{"take our labels off a Service", edited(func() client.Object { return &corev1.Service{} }, "istiod", func(o client.Object) {
		o.SetLabels(map[string]string{"app": "istiod"})
	}, func(o client.Object) bool { return o.GetLabels()["isthmus.dev/component"] != "" })},
	{"edit cluster-wide rights", edited(func() client.Object { return &rbacv1.ClusterRole{} }, "istiod-clusterrole-"+system, func(o client.Object) {
		o.(*rbacv1.ClusterRole).Rules = nil
	}, func(o client.Object) bool { return len(o.(*rbacv1.ClusterRole).Rules) > 0 })},
	{"edit the CA", edited(func() client.Object { return &corev1.Secret{} }, "cacerts", func(o client.Object) {
		o.(*corev1.Secret).Data["root-cert.pem"] = []byte("somebody else's root")
	}, func(o client.Object) bool {
		return string(o.(*corev1.Secret).Data["root-cert.pem"]) != "somebody else's root"
	})},
	{"delete the CA", deleted(func() client.Object { return &corev1.Secret{} }, "cacerts")},
}

func keyOf(o client.Object, name string) client.ObjectKey {
	if _, clusterWide := o.(*rbacv1.ClusterRole); clusterWide {
		return client.ObjectKey{Name: name}
	}
	return client.ObjectKey{Namespace: system, Name: name}
}

// deleted deletes an object and waits until another one has its place.
func deleted(empty func() client.Object, name string) func(*testing.T, client.Client) (time.Duration, error) {
	return func(t *testing.T, member client.Client) (time.Duration, error) {
		o := empty()
		if err := member.Get(t.Context(), keyOf(o, name), o); err != nil {
			return 0, err
		}
		uid := o.GetUID()
		if err := member.Delete(t.Context(), o); err != nil {
			return 0, err
		}
		return returned(t, member, empty, name, func(o client.Object) bool { return o.GetUID() != uid })
	}
}

// edited changes an object and waits until it is as it was.
func edited(empty func() client.Object, name string, edit func(client.Object), back func(client.Object) bool) func(*testing.T, client.Client) (time.Duration, error) {
	return func(t *testing.T, member client.Client) (time.Duration, error) {
		o := empty()
		if err := member.Get(t.Context(), keyOf(o, name), o); err != nil {
			return 0, err
		}
		edit(o)
		if err := member.Update(t.Context(), o, client.FieldOwner("somebody")); err != nil {
			return 0, err
		}
		return returned(t, member, empty, name, back)
	}
}

func returned(t *testing.T, member client.Client, empty func() client.Object, name string, back func(client.Object) bool) (time.Duration, error) {
	start := time.Now()
	for time.Since(start) < 30*time.Second {
		o := empty()
		err := member.Get(t.Context(), keyOf(o, name), o)
		if err == nil && back(o) {
			return time.Since(start), nil
		}
		if client.IgnoreNotFound(err) != nil {
			return 0, err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("%q did not return in 30 s", name)
}

// testLeave removes a member by a commit. A workload's namespace stays: it may
// hold what is not ours.
func testLeave(t *testing.T, r *rig.Rig, before []string) {
	check(t, r.Repository.Remove(memberFile(west)))
	commit := push(t, r, "Remove "+west)
	check(t, rig.Eventually(t.Context(), 2*time.Minute, func() error {
		m, err := r.Member(t.Context(), west)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("member %s is still there: %s", west, rig.Condition(m.Status.Conditions, "Ready"))
	}))
	check(t, r.WaitApplied(t.Context(), commit, 30*time.Second))
	after, err := r.Members[west].Objects(t.Context())
	check(t, err)
	for _, object := range added(before, after) {
		if !slices.Contains([]string{"namespaces /shop", "serviceaccounts shop/default", "configmaps shop/kube-root-ca.crt"}, object) {
			t.Errorf("left behind: %s", object)
		}
	}
	var shop corev1.Namespace
	member, err := r.ClientOf(west)
	check(t, err)
	check(t, member.Get(t.Context(), client.ObjectKey{Name: "shop"}, &shop))
	for key := range shop.Labels {
		if strings.Contains(key, "istio") || strings.Contains(key, "isthmus") {
			t.Errorf("the user's namespace still has the label %s", key)
		}
	}
}

// metricsPage is what the reconciler tells now.
func metricsPage(t *testing.T) string {
	t.Helper()
	response, err := http.Get("http://" + metricsAddress + "/metrics")
	check(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(t, err)
	return string(body)
}

func testMetrics(t *testing.T) {
	page := metricsPage(t)
	for _, want := range []string{
		`isthmus_member_ready{member="eastus-1",network="prod",release="1.30.4"} 1`,
		`isthmus_ca_cert_expiry_timestamp_seconds{member="eastus-1",tier="Intermediate"}`,
		`isthmus_member_objects{member="eastus-1"}`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("metrics do not have %s", want)
		}
	}
	if strings.Contains(page, `member="westus-1"`) {
		t.Error("metrics still have the member that left")
	}
}

// testNoSecretsOnHub looks for key material where people look.
func testNoSecretsOnHub(t *testing.T, r *rig.Rig) {
	f, err := r.Fleet(t.Context())
	check(t, err)
	m, err := r.Member(t.Context(), east)
	check(t, err)
	var events corev1.EventList
	check(t, r.HubClient.List(t.Context(), &events, client.InNamespace(rig.Namespace)))
	all := fmt.Sprint(f, m, events.Items, metricsPage(t))
	for _, canary := range []string{"PRIVATE KEY", "BEGIN CERTIFICATE", "client-key-data"} {
		if strings.Contains(all, canary) {
			t.Errorf("status or events contain %q", canary)
		}
	}
	if len(events.Items) == 0 {
		t.Error("no events were written")
	}
}
