package apply

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/test/faultproxy"
)

// admission is a cluster of its own with a webhook for the ConfigMap "istio".
type admission struct {
	cluster *controlplane.Cluster
	member  *member.Member
	wire    *membertest.Wire
	server  *httptest.Server
	answer  atomic.Pointer[admissionv1.AdmissionResponse]
	calls   atomic.Int32
}

func startAdmission(t *testing.T) *admission {
	t.Helper()
	c, err := plane.Cluster(t.Context(), "admission", controlplane.ClusterOptions{APIServerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	config, err := member.Config(c.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := &admission{cluster: c}
	a.member, a.wire = connect(t, config)
	a.answer.Store(&admissionv1.AdmissionResponse{Allowed: true})
	a.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.calls.Add(1)
		review.Response = a.answer.Load().DeepCopy()
		review.Response.UID = review.Request.UID
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // who asked may be gone
	}))
	t.Cleanup(a.server.Close)
	return a
}

// hook registers the webhook at an address, and waits until it is asked.
func (a *admission) hook(t *testing.T, url string) {
	t.Helper()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.server.Certificate().Raw}))
	hook := parse(t, "x", fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: rival}
webhooks:
- name: rival.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 5
  clientConfig: {url: %q, caBundle: %s}
  matchConditions: [{name: one, expression: "request.name == 'istio'"}]
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
`, url, ca))[0]
	hooks := client(t, a.member, hook.GetAPIVersion(), hook.GetKind(), "")
	if _, err := hooks.Create(context.Background(), hook, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	probe := parse(t, "x", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: default}\n")[0]
	before := a.calls.Load()
	eventually(t, "the webhook to be asked", func() bool {
		_, err := client(t, a.member, "v1", "ConfigMap", "default").Create(context.Background(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil || a.calls.Load() > before
	})
	t.Cleanup(func() {
		if err := hooks.Delete(context.Background(), "rival", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		eventually(t, "the webhook to be forgotten", func() bool {
			before := a.calls.Load()
			_, err := client(t, a.member, "v1", "ConfigMap", "default").Create(context.Background(), probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil && a.calls.Load() == before
		})
	})
}

// TestAdmissionWebhooks: a webhook that is away or says no is named, with one
// write for each try and the other objects applied; one that changes what we
// write is not fought; and where dry runs are not possible, a write that changes
// nothing takes their place.
func TestAdmissionWebhooks(t *testing.T) {
	a := startAdmission(t)
	set := still(small(t, "admitted"))
	target := NewTarget(a.member)
	mustApply(t, target, set)
	changed := 0
	// change makes a set that differs in the ConfigMap and in another object.
	change := func(t *testing.T) Set {
		changed++
		next := clone(set)
		mesh := map[string]any{"mesh": fmt.Sprintf("number: %d", changed)}
		object(t, next, "ConfigMap", "istio").Object["data"] = mesh
		object(t, next, "ClusterRole", "admitted-istiod").SetAnnotations(map[string]string{"number": fmt.Sprint(changed)})
		return next
	}
	for name, tt := range map[string]struct {
		url    string
		answer admissionv1.AdmissionResponse
		reason member.Reason
		says   string
	}{
		"away":   {"https://127.0.0.1:1/", admissionv1.AdmissionResponse{Allowed: true}, member.ServerFailing, "rival.example.com"},
		"denies": {a.server.URL, admissionv1.AdmissionResponse{Result: &metav1.Status{Code: 403, Message: "not on a Friday"}}, member.AccessDenied, "not on a Friday"},
	} {
		next := change(t)
		t.Run(name, func(t *testing.T) {
			a.answer.Store(&tt.answer)
			a.hook(t, tt.url)
			for range 3 {
				a.wire.Reset()
				_, err := Apply(t.Context(), target, next, quick)
				if member.ReasonOf(err) != tt.reason || !strings.Contains(fmt.Sprint(err), tt.says) || !strings.Contains(fmt.Sprint(err), "ConfigMap admitted-system/istio") {
					t.Errorf("error %v, reason %s", err, member.ReasonOf(err))
				}
				if writes := a.wire.Writes(); len(writes) > 4 { // the two objects, the inventory
					t.Errorf("%d writes in one try: %v", len(writes), writes)
				}
			}
			role, err := get(a.member, "rbac.authorization.k8s.io/v1", "ClusterRole", "", "admitted-istiod")
			if err != nil || role.GetAnnotations()["number"] != fmt.Sprint(changed) {
				t.Errorf("the other object was kept back: %v, %v", role.GetAnnotations(), err)
			}
		})
		mustApply(t, target, next) // the webhook is gone
	}
	t.Run("changes what is written", func(t *testing.T) {
		patch := admissionv1.PatchTypeJSONPatch
		a.answer.Store(&admissionv1.AdmissionResponse{Allowed: true, PatchType: &patch,
			Patch: []byte(`[{"op":"replace","path":"/data/mesh","value":"mine"}]`)})
		a.hook(t, a.server.URL)
		next := change(t)
		mustApply(t, target, next)
		for name, of := range map[string]*Target{"the same process": target, "another one": NewTarget(a.member)} {
			a.wire.Reset()
			mustApply(t, of, next)
			if writes := a.wire.Writes(); len(writes) > 0 {
				t.Errorf("%s fights: %v", name, writes)
			}
		}
	})
	t.Run("dry runs are not possible", func(t *testing.T) { a.withoutDryRun(t, set) })
}

func (a *admission) withoutDryRun(t *testing.T, set Set) {
	p, err := faultproxy.Start(faultproxy.Options{Upstream: a.cluster.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	p.Inject(faultproxy.Rule{Match: func(c membertest.Call) bool { return c.DryRun() }, Do: func(x *faultproxy.Exchange) {
		x.Answer(http.StatusBadRequest, "BadRequest", `admission webhook "rival.example.com" does not support dry run`)
	}})
	config, err := member.Config(p.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, wire := connect(t, config)
	mustApply(t, NewTarget(m), set)
	wire.Reset()
	target := NewTarget(m)
	result := mustApply(t, target, set)
	perObject := map[string]int{}
	for _, w := range wire.Writes() {
		if perObject[w.Path]++; perObject[w.Path] > 1 {
			t.Errorf("%s is written more than once", w.Path)
		}
	}
	if changed := len(result.Changes) - result.Count(Unchanged); changed > 0 {
		t.Errorf("%d objects changed by the same set: %v", changed, result.Changes)
	}
	wire.Reset()
	mustApply(t, target, set)
	if writes := wire.Writes(); len(writes) > 0 {
		t.Errorf("written again: %v", writes)
	}
}

// TestKindWithoutItsVersion: an object whose version is not served any more is
// the same object in the next one; it is kept by a set that has it there, and
// pruned by one that has not. A kind that is gone has nothing to prune.
func TestKindWithoutItsVersion(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := still(small(t, "versions"))
	mustApply(t, NewTarget(m), set)
	before, err := get(m, "versions.test/v1", "Policy", "versions-system", "default")
	if err != nil {
		t.Fatal(err)
	}
	next := clone(set)
	crd := object(t, next, "CustomResourceDefinition", "policies.versions.test")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	old := versions[0].(map[string]any)
	later := (&unstructured.Unstructured{Object: old}).DeepCopy().Object
	old["served"], old["storage"], later["name"] = false, false, "v2"
	if err := unstructured.SetNestedSlice(crd.Object, []any{old, later}, "spec", "versions"); err != nil {
		t.Fatal(err)
	}
	object(t, next, "Policy", "default").SetAPIVersion("versions.test/v2")
	mustApply(t, NewTarget(m), next)
	after, err := get(m, "versions.test/v2", "Policy", "versions-system", "default")
	if err != nil || after.GetUID() != before.GetUID() {
		t.Errorf("the object is another one in the next version: %v", err)
	}
	mustApply(t, NewTarget(m), without(next, "Policy", "default"))
	if _, err := get(m, "versions.test/v2", "Policy", "versions-system", "default"); err == nil {
		t.Error("the object was not pruned")
	}
	mustApply(t, NewTarget(m), next)
	remove(t, m, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "policies.versions.test")
	mustApply(t, NewTarget(m), without(without(next, "Policy", "default"), "CustomResourceDefinition", "policies.versions.test"))
}
