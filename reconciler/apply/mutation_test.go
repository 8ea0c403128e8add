package apply

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// webhook answers for the ConfigMap istio of one network.
type webhook struct {
	member *member.Member
	name   string
	// asked counts its calls.
	asked atomic.Int32
}

// hook registers a webhook and waits until the API server asks it. Answer fills
// the response in.
func hook(t *testing.T, network string, answer func(*admissionv1.AdmissionRequest, *admissionv1.AdmissionResponse)) *webhook {
	t.Helper()
	m, _ := connected(t)
	h := &webhook{member: m, name: network + "-mutator"}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Errorf("admission review: %v", err)
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		answer(review.Request, review.Response)
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	none, fail, seconds := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, int32(5)
	config := &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: h.name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "mutate." + network + ".test", AdmissionReviewVersions: []string{"v1"},
			SideEffects: &none, FailurePolicy: &fail, TimeoutSeconds: &seconds,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL:      &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": network + "-system"}},
			MatchConditions:   []admissionregistrationv1.MatchCondition{{Name: "one", Expression: "request.name == 'istio'"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(config)
	if err != nil {
		t.Fatal(err)
	}
	hooks := client(t, m, config.APIVersion, config.Kind, "")
	if _, err := hooks.Create(context.Background(), &unstructured.Unstructured{Object: fields}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hooks.Delete(context.Background(), h.name, metav1.DeleteOptions{}) })
	eventually(t, "the API server to ask the webhook", func() bool { return h.touch(network) != nil || h.asked.Load() > 0 })
	return h
}

// touch tries a change of the ConfigMap without making it.
func (h *webhook) touch(network string) error {
	mapping, err := h.member.Mapping(subject("v1", "ConfigMap", "", "").kind())
	if err != nil {
		return nil
	}
	_, err = h.member.Dynamic.Resource(mapping.Resource).Namespace(network+"-system").Patch(context.Background(), "istio",
		types.MergePatchType, []byte(`{"metadata":{"annotations":{"touched":"yes"}}}`), metav1.PatchOptions{DryRun: []string{"All"}})
	return err
}

// real are the writes that were no trial.
func real(calls []membertest.Call) []membertest.Call {
	return slices.DeleteFunc(calls, func(c membertest.Call) bool { return c.DryRun() })
}

// TestWebhookThatMutates changes a field of ours on its way in: always to the
// same, and to another value each time. Neither may make us write again and again.
func TestWebhookThatMutates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		network string
		value   func(n int32) string
		// restarts are the writes of a process that finds the object.
		restarts int
	}{
		{"hooksame", func(int32) string { return "trustDomain: mutated" }, 0},
		{"hookother", func(n int32) string { return fmt.Sprintf("trustDomain: mutated-%d", n) }, 1},
	} {
		t.Run(tt.network, func(t *testing.T) {
			t.Parallel()
			g := guard(t, tt.network)
			var n atomic.Int32
			h := hook(t, tt.network, func(_ *admissionv1.AdmissionRequest, answer *admissionv1.AdmissionResponse) {
				patch, kind := fmt.Sprintf(`[{"op":"replace","path":"/data/mesh","value":%q}]`, tt.value(n.Add(1))), admissionv1.PatchTypeJSONPatch
				answer.Patch, answer.PatchType = []byte(patch), &kind
			})
			g.reset()
			patch(t, h.member, "v1", "ConfigMap", tt.network+"-system", "istio", `{"data":{"mesh":"edited"}}`)
			eventually(t, "the edit to be noticed", func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return len(g.results) > 0
			})
			time.Sleep(20 * coalesce) // a loop would show now
			if writes := real(g.wire.Writes()); len(writes) > 2 {
				t.Errorf("one edit, writes: %v", writes)
			}
			g.reset()
			mustApply(t, g.target, g.set)
			g.target.Doubt()
			mustApply(t, g.target, g.set)
			time.Sleep(20 * coalesce)
			if writes := real(g.wire.Writes()); len(writes) > 0 {
				t.Errorf("nothing happened, writes: %v", writes)
			}
			fresh, wire := connected(t)
			mustApply(t, NewTarget(fresh), g.set)
			if writes := real(wire.Writes()); len(writes) > tt.restarts {
				t.Errorf("after a restart, writes: %v", writes)
			}
		})
	}
}

// TestNamespaceThatDoesNotGo: a namespace that is being deleted and whose
// finalizer stays. What belongs into it waits, with few calls; the rest goes on.
func TestNamespaceThatDoesNotGo(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	target, set := NewTarget(m), small(t, "ending")
	for _, o := range parse(t, "ending", `
apiVersion: v1
kind: ConfigMap
metadata: {name: inside, namespace: ending-shop}
data: {a: b}
`) {
		set.Objects = append(set.Objects, bundle.Object{Stage: bundle.StageGateways, Object: o})
	}
	mustApply(t, target, set)
	other, _ := connected(t)
	patch(t, other, "v1", "ConfigMap", "ending-shop", "kube-root-ca.crt", `{"metadata":{"finalizers":["example.com/never"]}}`)
	remove(t, other, "v1", "Namespace", "", "ending-shop")
	eventually(t, "the object inside to go", func() bool {
		_, err := get(other, "v1", "ConfigMap", "ending-shop", "inside")
		return err != nil
	})
	wire.Reset()
	for range 3 {
		_, err := Apply(context.Background(), target, set, quick)
		var failed Errors
		if !errors.As(err, &failed) || failed[0].Reason != Terminating {
			t.Fatalf("error %v, want Terminating", err)
		}
	}
	if writes := real(wire.Writes()); len(writes) > 9 {
		t.Errorf("%d writes in three runs: %v", len(writes), writes)
	}
}
