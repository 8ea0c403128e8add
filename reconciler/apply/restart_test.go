package apply

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

func TestProxiesThatStartAfter(t *testing.T) {
	after := time.Date(2026, 3, 1, 12, 0, 0, 400, time.UTC)
	for _, tt := range []struct {
		reason      string
		annotations map[string]any
		want        bool
	}{
		{"never restarted", nil, false},
		{"for this time", map[string]any{AnnotationRestart: "2026-03-01T12:00:00Z"}, true},
		{"for a later one", map[string]any{AnnotationRestart: "2026-03-01T12:00:01Z"}, true},
		{"for an earlier one", map[string]any{AnnotationRestart: "2026-03-01T11:59:59Z"}, false},
		{"by kubectl, where clocks go by another zone", map[string]any{annotationKubectl: "2026-03-01T14:00:01+02:00"}, true},
		{"by kubectl, before", map[string]any{annotationKubectl: "2026-03-01T13:59:59+02:00", AnnotationRestart: "2026-02-01T12:00:00Z"}, false},
		{"what is no time", map[string]any{AnnotationRestart: "yes"}, false},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		if tt.annotations != nil {
			if err := unstructured.SetNestedField(o.Object, tt.annotations, "spec", "template", "metadata", "annotations"); err != nil {
				t.Fatal(err)
			}
		}
		if got := startsAfter(o, after); got != tt.want {
			t.Errorf("%s: %t", tt.reason, got)
		}
	}
}

// gateways are Deployments as istiod makes them: of this mesh, of another one, and
// one that istiod has not made.
const gateways = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: waypoint, namespace: NETWORK-shop, labels: {gateway.networking.k8s.io/gateway-name: waypoint}}
spec:
  replicas: 1
  selector: {matchLabels: {app: waypoint}}
  template:
    metadata: {labels: {app: waypoint}, annotations: {istio.io/rev: default}}
    spec: {containers: [{name: istio-proxy, image: proxy, env: [{name: CA_ADDR, value: "istiod.SYSTEM.svc:15012"}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: others, namespace: NETWORK-shop, labels: {gateway.networking.k8s.io/gateway-name: others}}
spec:
  selector: {matchLabels: {app: others}}
  template:
    metadata: {labels: {app: others}}
    spec: {containers: [{name: istio-proxy, image: proxy, env: [{name: CA_ADDR, value: "istiod.istio-system.svc:15012"}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: NETWORK-shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: shop, env: [{name: CA_ADDR, value: "istiod.SYSTEM.svc:15012"}]}]}
`

// TestRestart restarts proxies on a real API server with its real controllers. What
// deliveries and istiod apply beside it must not undo a restart, and must not begin
// another one.
//
// It and the next are not parallel: tests of leaves would wait for their pods, which
// are in a namespace of the mesh.
func TestRestart(t *testing.T) {
	m, _ := connected(t)
	t.Cleanup(func() { clearGateways(t, m, "restart-shop") })
	target, set := NewTarget(m), small(t, "restart")
	mustApply(t, target, set)
	asIstiod := func() {
		t.Helper()
		for _, o := range parse(t, "restart", gateways) {
			labels := o.GetLabels()
			delete(labels, LabelNetwork)
			delete(labels, LabelComponent)
			o.SetLabels(labels)
			_, err := client(t, m, "apps/v1", "Deployment", o.GetNamespace()).Apply(t.Context(), o.GetName(), o,
				metav1.ApplyOptions{FieldManager: "istio.io/gateway-controller", Force: true})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	asIstiod()
	pods := func(namespace, app string) map[string]bool {
		t.Helper()
		list, err := client(t, m, "v1", "Pod", namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, pod := range list.Items {
			if pod.GetDeletionTimestamp() == nil {
				out[string(pod.GetUID())] = true
			}
		}
		return out
	}
	generations := func() (out [4]int64) {
		t.Helper()
		for i, s := range []Subject{
			subject("apps/v1", "DaemonSet", "restart-system", "ztunnel"), subject("apps/v1", "Deployment", "restart-shop", "waypoint"),
			subject("apps/v1", "Deployment", "restart-shop", "others"), subject("apps/v1", "Deployment", "restart-shop", "shop"),
		} {
			o, err := client(t, m, "apps/v1", s.Kind, s.Namespace).Get(t.Context(), s.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			out[i] = o.GetGeneration()
		}
		return out
	}
	complete := func(after time.Time) {
		t.Helper()
		var waiting []Waiting
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			var err error
			if waiting, err = Restart(t.Context(), target, set, after); err != nil {
				t.Fatal(err)
			}
			if len(waiting) == 0 {
				return
			}
		}
		t.Fatalf("the restart is not complete: %+v", waiting)
	}
	before, zt, wp := generations(), pods("restart-system", "ztunnel"), pods("restart-shop", "waypoint")
	after := time.Now()
	first, err := Restart(t.Context(), target, set, after)
	if err != nil || len(first) != 2 {
		t.Errorf("right after it begins the restart waits for %+v, error %v", first, err)
	}
	complete(after)
	now := generations()
	if want := [4]int64{before[0] + 1, before[1] + 1, before[2], before[3]}; now != want {
		t.Errorf("generations of ztunnel, waypoint, another mesh's and no gateway: %v, want %v", now, want)
	}
	for app, old := range map[string]map[string]bool{"ztunnel": zt, "waypoint": wp} {
		namespace := map[string]string{"ztunnel": "restart-system", "waypoint": "restart-shop"}[app]
		for uid := range pods(namespace, app) {
			if old[uid] {
				t.Errorf("a pod of %s is from before the restart", app)
			}
		}
	}
	// The next delivery of a process that knows nothing, istiod, and our successor
	// after a crash.
	if result := mustApply(t, NewTarget(m), set); result.Count(Unchanged) != len(result.Changes) {
		t.Errorf("a delivery after the restart: %v", result.Changes)
	}
	asIstiod()
	if waiting, err := Restart(t.Context(), NewTarget(m), set, after); err != nil || len(waiting) > 0 {
		t.Errorf("the same restart again waits for %+v, error %v", waiting, err)
	}
	if again := generations(); again != now {
		t.Errorf("generations %v after a delivery and the same restart again, want %v", again, now)
	}
	// A delivery that changes the same template keeps what the restart wrote.
	next := clone(set)
	next.Digest = "sha256:2"
	if err := unstructured.SetNestedField(object(t, next, "DaemonSet", "ztunnel").Object,
		map[string]any{"number": "2"}, "spec", "template", "metadata", "annotations"); err != nil {
		t.Fatal(err)
	}
	mustApply(t, target, next)
	live, err := client(t, m, "apps/v1", "DaemonSet", "restart-system").Get(t.Context(), "ztunnel", metav1.GetOptions{})
	if err != nil || !startsAfter(live, after) {
		t.Errorf("a delivery of another template takes the restart back; error %v", err)
	}
	// A later time is another restart.
	now = generations()
	complete(after.Add(time.Second))
	if again := generations(); again[0] != now[0]+1 || again[1] != now[1]+1 {
		t.Errorf("generations %v after a later restart, before %v", again, now)
	}
}

// TestRestartRefused: of one proxy that may not be changed is said what to do; the
// others are restarted all the same.
func TestRestartRefused(t *testing.T) {
	m, _ := connected(t)
	t.Cleanup(func() { clearGateways(t, m, "norestart-shop") })
	target, set := NewTarget(m), small(t, "norestart")
	mustApply(t, target, set)
	o := parse(t, "norestart", gateways)[0]
	o.SetLabels(map[string]string{gatewayNameLabel: "waypoint"})
	if _, err := client(t, m, "apps/v1", "Deployment", o.GetNamespace()).Apply(t.Context(), o.GetName(), o,
		metav1.ApplyOptions{FieldManager: "istio.io/gateway-controller"}); err != nil {
		t.Fatal(err)
	}
	// The longest value that the API server takes for all annotations is 256 KiB.
	jsonPatch(t, m, "apps/v1", "Deployment", "norestart-shop", "waypoint",
		`[{"op": "add", "path": "/spec/template/metadata/annotations/full", "value": "`+strings.Repeat("x", 256*1024-30)+`"}]`)
	waiting, err := Restart(t.Context(), target, set, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var refused bool
	for _, w := range waiting {
		if w.Subject.Name == "waypoint" {
			refused = strings.Contains(w.Why, "kubectl rollout restart deployment/waypoint -n norestart-shop")
		}
	}
	live, err := client(t, m, "apps/v1", "DaemonSet", "norestart-system").Get(t.Context(), "ztunnel", metav1.GetOptions{})
	if err != nil || !refused || !startsAfter(live, time.Now().Add(-time.Minute)) {
		t.Errorf("refused: %t, waits for %+v, error %v", refused, waiting, err)
	}
}

// clearGateways deletes the Deployments of a namespace with their pods.
func clearGateways(t *testing.T, m *member.Member, namespace string) {
	t.Helper()
	ctx := context.Background()
	err := client(t, m, "apps/v1", "Deployment", namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
	if err != nil {
		t.Error(err)
	}
	eventually(t, "the pods of gateways to go", func() bool {
		pods, err := client(t, m, "v1", "Pod", namespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == 0
	})
}
