package apply

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
)

// brief gives up on what does not go at once.
var brief = Options{Timeout: time.Minute, StageTimeout: 30 * time.Second, GatewayTimeout: 2 * time.Second, GoneTimeout: 2 * time.Second}

// workload makes a pod in a namespace, which its account has to come first for.
func workload(t testing.TB, m *member.Member, namespace, name string, annotations map[string]any) {
	t.Helper()
	pod := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "annotations": annotations},
		"spec": map[string]any{"automountServiceAccountToken": false, "containers": []any{map[string]any{"name": "app", "image": "app"}}},
	}}
	var err error
	eventually(t, "the namespace takes a pod", func() bool {
		_, err = client(t, m, "v1", "Pod", namespace).Create(context.Background(), pod, metav1.CreateOptions{})
		return err == nil || !apierrors.IsForbidden(err)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLeaving has a cluster for itself: pods of others and silent groups are in
// the way of every leave.
func TestLeaving(t *testing.T) {
	t.Parallel()
	own, err := plane.Cluster(context.Background(), "leaving", controlplane.ClusterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := member.Config(own.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, wire := connect(t, config)
	t.Run("waits for workloads", func(t *testing.T) { leaveWaitsForWorkloads(t, m, wire) })
	t.Run("forced", func(t *testing.T) { leaveForced(t, m) })
	t.Run("silent group", func(t *testing.T) { silentGroup(t, m) })
}

func leaveWaitsForWorkloads(t *testing.T, m *member.Member, wire *membertest.Wire) {
	ctx := context.Background()
	set := small(t, "enrolled")
	mustApply(t, NewTarget(m), set)
	create(t, m, "v1", "Namespace", "", "enrolled-users", map[string]any{"labels": map[string]any{dataPlaneModeLabel: "ambient"}})
	workload(t, m, "enrolled-users", "theirs", nil)
	workload(t, m, "enrolled-shop", "ours", map[string]any{redirectionAnnotation: "enabled"})

	// By others: nothing is changed.
	wire.Reset()
	result, err := Leave(ctx, NewTarget(m), set.Mesh, Leaving{}, brief)
	if member.ReasonOf(err) != Enrolled || !strings.Contains(err.Error(), "enrolled-users/theirs") || strings.Contains(err.Error(), "enrolled-shop/ours") {
		t.Errorf("a pod in a namespace that its owner enrolled: %v", err)
	}
	if writes := wire.Writes(); len(writes) > 0 || result.Step != LeaveWorkloads || !Stalls(err) {
		t.Errorf("at step %s wrote %v", result.Step, writes)
	}

	// By us: the namespace is let go, and the pod waited for while the mesh runs.
	patch(t, m, "v1", "Namespace", "", "enrolled-users", `{"metadata":{"labels":{"istio.io/dataplane-mode":null}}}`)
	result, err = Leave(ctx, NewTarget(m), set.Mesh, Leaving{}, brief)
	if member.ReasonOf(err) != Enrolled || !strings.Contains(err.Error(), "enrolled-shop/ours") || result.Step != LeaveExports {
		t.Errorf("at step %s: a pod whose traffic goes to ztunnel: %v", result.Step, err)
	}
	shop, err := get(m, "v1", "Namespace", "", "enrolled-shop")
	if err != nil || shop.GetLabels()[dataPlaneModeLabel] != "" {
		t.Errorf("our namespace is still enrolled: %v, %v", shop, err)
	}
	if _, err := get(m, "apps/v1", "DaemonSet", "enrolled-system", "ztunnel"); err != nil {
		t.Errorf("ztunnel went under a pod: %v", err)
	}

	// CNI has let the pod go.
	patch(t, m, "v1", "Pod", "enrolled-shop", "ours", `{"metadata":{"annotations":{"ambient.istio.io/redirection":null}}}`)
	var steps []LeaveStep
	options := quick
	options.Progress = func(p Progress) {
		if p.Step != "" {
			steps = append(steps, p.Step)
		}
	}
	asked := false
	result, err = Leave(ctx, NewTarget(m), set.Mesh, Leaving{Peers: func(context.Context) (string, error) {
		asked = true
		if _, err := get(m, "enrolled.test/v1", "Policy", "enrolled-system", "default"); err != nil {
			t.Errorf("something went before the peers' credentials: %v", err)
		}
		return "none", nil
	}}, options)
	if err != nil || !asked || result.Notes[LeavePeers] != "none" || fmt.Sprint(steps) != fmt.Sprint(LeaveSteps) {
		t.Errorf("error %v, peers asked: %v, notes %v, steps %v", err, asked, result.Notes, steps)
	}
	if _, err := get(m, "v1", "Pod", "enrolled-shop", "ours"); err != nil {
		t.Errorf("a user's pod went: %v", err)
	}
}

func leaveForced(t *testing.T, m *member.Member) {
	set := small(t, "forced")
	mustApply(t, NewTarget(m), set)
	workload(t, m, "forced-shop", "app", map[string]any{redirectionAnnotation: "enabled"})
	workload(t, m, "forced-shop", "sidecar", map[string]any{sidecarAnnotation: "{}"})
	options := quick
	options.GoneTimeout = 15 * time.Second // namespaces need some
	result, err := Leave(context.Background(), NewTarget(m), set.Mesh, Leaving{Force: true}, options)
	if err != nil || !strings.Contains(result.Notes[LeaveWorkloads], "forced-shop/sidecar") || !strings.Contains(result.Notes[LeaveExports], "forced-shop/app") {
		t.Errorf("error %v, notes %v", err, result.Notes)
	}
	remove(t, m, "v1", "Pod", "forced-shop", "sidecar")
	remove(t, m, "v1", "Pod", "forced-shop", "app")
	if _, err := get(m, "v1", "Namespace", "", "forced-system"); !apierrors.IsNotFound(err) {
		t.Errorf("the system namespace is still there: %v", err)
	}
}

func TestEnrolmentOf(t *testing.T) {
	ambient := map[string]string{dataPlaneModeLabel: "ambient"}
	none := map[string]string{dataPlaneModeLabel: "none"}
	redirected := map[string]string{redirectionAnnotation: "enabled"}
	for _, tt := range []struct {
		reason                         string
		labels, annotations, namespace map[string]string
		ours                           bool
		want                           enrolment
	}{
		{"a pod of no mesh", nil, nil, nil, false, notEnrolled},
		{"a namespace of others", nil, nil, ambient, false, enrolledByOthers},
		{"a namespace of ours", nil, nil, ambient, true, enrolledByUs},
		{"a pod that keeps out", none, nil, ambient, true, notEnrolled},
		{"a pod that enrolled itself", ambient, nil, nil, true, enrolledByOthers},
		{"a pod that is still redirected", nil, redirected, nil, true, enrolledByUs},
		{"a pod that keeps out and is still redirected", none, redirected, ambient, true, enrolledByUs},
		{"a sidecar has to be restarted, wherever it is", nil, map[string]string{sidecarAnnotation: "{}"}, ambient, true, enrolledByOthers},
		{"a waypoint is part of the mesh", map[string]string{gatewayNameLabel: "waypoint"}, nil, ambient, true, notEnrolled},
	} {
		pod, namespace := &metav1.ObjectMeta{Labels: tt.labels, Annotations: tt.annotations}, &metav1.ObjectMeta{Labels: tt.namespace}
		if got := enrolmentOf(pod, namespace, tt.ours); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.reason, got, tt.want)
		}
	}
}

// TestStuckFinalizer: a leave that cannot end says by what, after a bounded wait
// with few calls.
func TestStuckFinalizer(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "stuck")
	mustApply(t, NewTarget(m), set)
	create(t, m, "v1", "ConfigMap", "stuck-system", "held", map[string]any{"finalizers": []any{"example.com/never"}})
	patch(t, m, "apps/v1", "DaemonSet", "stuck-system", "ztunnel", `{"metadata":{"finalizers":["example.com/of-ztunnel"]}}`)
	for _, tt := range []struct{ finalizer, kind, name string }{
		{"example.com/of-ztunnel", "DaemonSet", "ztunnel"}, {"example.com/never", "ConfigMap", "held"},
	} {
		var err error
		// The first calls still do what can be done.
		for start := time.Now(); err == nil || !strings.Contains(err.Error(), tt.finalizer); {
			if time.Since(start) > time.Minute {
				t.Fatalf("the leave does not wait for %s: %v", tt.finalizer, err)
			}
			_, err = Leave(context.Background(), NewTarget(m), set.Mesh, Leaving{}, brief)
		}
		wire.Reset()
		_, err = Leave(context.Background(), NewTarget(m), set.Mesh, Leaving{}, brief)
		// 2 s of waiting in growing pauses; the rest is what there is to look at. Two
		// searches, for a lost inventory and for the proof that nothing is left, list
		// every kind; the other tests have more of them, which come and go.
		calls, lists := 0, map[string]int{}
		for _, c := range wire.Calls() {
			if !strings.Contains(c.Query, "labelSelector=isthmus.dev") {
				calls++
			} else if lists[c.Path]++; lists[c.Path] == 3 && !strings.Contains(c.Path, ".test/") {
				t.Errorf("%s: searched again: %s", tt.finalizer, c.Path)
			}
		}
		if member.ReasonOf(err) != NotGone || len(wire.Writes()) > 0 || calls > 60 {
			t.Errorf("%s: error %v, %d calls, writes %v", tt.finalizer, err, calls, wire.Writes())
		}
		api := "v1"
		if tt.kind == "DaemonSet" {
			api = "apps/v1"
		}
		patch(t, m, api, tt.kind, "stuck-system", tt.name, `{"metadata":{"finalizers":null}}`)
	}
	if _, err := Leave(context.Background(), NewTarget(m), set.Mesh, Leaving{}, quick); err != nil {
		t.Errorf("without finalizers: %v", err)
	}
}

// TestDeniedDeletionIsKept: what an admission policy does not let go stays in
// the inventory and is tried again.
func TestDeniedDeletionIsKept(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	ctx := context.Background()
	set := small(t, "refused")
	mustApply(t, NewTarget(m), set)
	for _, text := range []string{`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NETWORK-keep}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: SYSTEM}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [DELETE], resources: [configmaps], resourceNames: [istio]}]
  validations: [{expression: "false", message: "kept by a test"}]
`, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NETWORK-keep}
spec: {policyName: NETWORK-keep, validationActions: [Deny]}
`} {
		o := parse(t, "refused", text)[0]
		o.SetLabels(nil)
		if _, err := client(t, m, o.GetAPIVersion(), o.GetKind(), "").Create(ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the policy denies", func() bool {
		err := client(t, m, "v1", "ConfigMap", "refused-system").Delete(ctx, "istio", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "kept by a test")
	})
	less, target := without(set, "ConfigMap", "istio"), NewTarget(m)
	kept := subject("v1", "ConfigMap", "refused-system", "istio")
	for range 2 {
		result, err := Apply(ctx, target, less, quick)
		if err == nil || !strings.Contains(err.Error(), "kept by a test") || result.Inventory.find(kept) == nil {
			t.Errorf("a denied deletion: error %v, in the inventory: %v", err, result.Inventory.find(kept) != nil)
		}
	}
	remove(t, m, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "", "refused-keep")
	remove(t, m, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "", "refused-keep")
	eventually(t, "it is pruned once it may be", func() bool {
		result, err := Apply(ctx, target, less, quick)
		return err == nil && result.Inventory.find(kept) == nil
	})
	if _, err := get(m, "v1", "ConfigMap", "refused-system", "istio"); !apierrors.IsNotFound(err) {
		t.Errorf("not pruned: %v", err)
	}
}

func TestSetWithoutCAKeepsIt(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "keepca")
	mustApply(t, NewTarget(m), set)
	less := clone(set)
	less.Secrets, less.Digest = nil, "sha256:2"
	result := mustApply(t, NewTarget(m), less)
	if result.Inventory.find(subject("v1", "Secret", "keepca-system", caSecret)) == nil {
		t.Error("the CA is not in the inventory any more")
	}
	if _, err := get(m, "v1", "Secret", "keepca-system", caSecret); err != nil {
		t.Errorf("a set without the CA took it: %v", err)
	}
}

// silentGroup: a group whose server is away looks to discovery as if it were
// not there. Its objects are not gone by that.
func silentGroup(t *testing.T, m *member.Member) {
	ctx := context.Background()
	set := small(t, "silent")
	mustApply(t, NewTarget(m), set)
	// The group of our policy, and one that holds nothing.
	service := `"service":{"namespace":"default","name":"away","port":443},"insecureSkipTLSVerify":true`
	patch(t, m, "apiregistration.k8s.io/v1", "APIService", "", "v1.silent.test",
		`{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":null}},"spec":{`+service+`}}`)
	answers := func() bool {
		_, err := m.Discovery.ServerResourcesForGroupVersion("silent.test/v1")
		return err == nil
	}
	eventually(t, "the group is silent", func() bool { return !answers() })

	less := without(set, "Policy", "default")
	result, err := Apply(ctx, NewTarget(m), less, quick)
	if err == nil || result.Inventory.find(subject("silent.test/v1", "Policy", "silent-system", "default")) == nil {
		t.Errorf("pruned what cannot be seen: error %v", err)
	}
	if _, err := Leave(ctx, NewTarget(m), set.Mesh, Leaving{}, brief); err == nil {
		t.Error("left while a group could not be seen")
	}
	if _, err := get(m, "apps/v1", "Deployment", "silent-system", "istiod"); err != nil {
		t.Errorf("istiod went before what came after it: %v", err)
	}
	remove(t, m, "v1", "ConfigMap", "silent-system", inventoryName)
	if _, err := Apply(ctx, NewTarget(m), less, quick); member.ReasonOf(err) != member.ServerFailing || !strings.Contains(err.Error(), "silent.test/v1") {
		t.Errorf("made an inventory of what could be seen: %v", err)
	}

	remove(t, m, "apiregistration.k8s.io/v1", "APIService", "", "v1.silent.test") // the API server makes it anew
	eventually(t, "the group answers", answers)
	m.Forget()
	mustApply(t, NewTarget(m), less)
	if _, err := get(m, "silent.test/v1", "Policy", "silent-system", "default"); !apierrors.IsNotFound(err) {
		t.Errorf("the policy was not pruned once it could be seen: %v", err)
	}
}

func TestIncompleteLeavesOutMetrics(t *testing.T) {
	metrics := []schema.GroupVersion{{Group: "metrics.k8s.io", Version: "v1beta1"}, {Group: "custom.metrics.k8s.io", Version: "v1"}}
	if err := incomplete(metrics); err != nil {
		t.Errorf("metrics hold no objects: %v", err)
	}
	if incomplete(append(metrics, schema.GroupVersion{Group: "example.com", Version: "v1"})) == nil {
		t.Error("a group that does not answer may hold objects")
	}
}

// TestExpiredPages: a list whose next page has expired is read anew, or fails; it
// never ends early.
func TestExpiredPages(t *testing.T) {
	for _, tt := range []struct {
		reason string
		full   int // the answer's code to a request without pages
		want   int
	}{
		{"all at once", http.StatusOK, 3},
		{"not even that", http.StatusGone, 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			item := func(name string) string { return `{"metadata":{"name":"` + name + `"}}` }
			switch query := r.URL.Query(); {
			case query.Get("continue") != "" || query.Get("limit") == "" && tt.full != http.StatusOK:
				w.WriteHeader(http.StatusGone)
				_, _ = fmt.Fprint(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}`)
			case query.Get("limit") == "":
				_, _ = fmt.Fprintf(w, `{"items":[%s,%s,%s]}`, item("a"), item("b"), item("c"))
			default:
				_, _ = fmt.Fprintf(w, `{"metadata":{"continue":"next"},"items":[%s]}`, item("a"))
			}
		}))
		t.Cleanup(server.Close)
		m, err := member.Connect(&rest.Config{Host: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		items, err := wire{m.REST}.list(context.Background(), schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, selection{})
		if len(items) != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d items, error %v, want %d", tt.reason, len(items), err, tt.want)
		}
	}
}
