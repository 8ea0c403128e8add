package rights_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/rights"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

const (
	home = "isthmus-access"
	user = "system:serviceaccount:isthmus-access:isthmus"
	// system is the system namespace of fleet-example.
	system = "applink-system"
)

// unshown are the rights that this run cannot show, and why.
var unshown = []struct {
	reason     string
	verb       string
	namespaces []string // "" is the cluster
	resources  []string
}{
	{"no istiod runs, so nothing is made for gateways", "delete", []string{"shop"},
		[]string{"deployments", "services", "serviceaccounts", "horizontalpodautoscalers", "poddisruptionbudgets"}},
	{"no istiod runs, so nothing is made for gateways", "delete", []string{system}, []string{"poddisruptionbudgets"}},
}

func isUnshown(namespace, resource, verb string) bool {
	for _, u := range unshown {
		if u.verb == verb && slices.Contains(u.namespaces, namespace) && slices.Contains(u.resources, resource) {
			return true
		}
	}
	return false
}

// TestRightsAreEnoughAndUsed brings a member from nothing to fleet-example, through
// drift, and out again, with the rights that its YAML grants; and sees from the API
// server's audit log that each of them was used.
func TestRightsAreEnoughAndUsed(t *testing.T) {
	cp := controlplanetest.Start(t, controlplane.Options{})
	cluster := controlplanetest.Cluster(t, cp, "member", controlplane.ClusterOptions{AuditReads: true})
	check(t, cluster.InstallGatewayAPI(t.Context(), "v1.5.1"))
	b := example(t)
	granted := rights.Of(b)
	manifest, err := granted.Manifest(b.Member, home)
	check(t, err)
	admin, err := member.Connect(cluster.RESTConfig())
	check(t, err)
	t.Cleanup(admin.Close)
	for _, o := range parse(t, manifest) {
		applyAsAdmin(t, admin, o)
	}
	limited := connect(t, admin, cluster)
	before, err := cluster.Objects(t.Context())
	check(t, err)

	r := &run{t: t, admin: admin, limited: limited, set: setOf(t, b), target: apply.NewTarget(limited)}
	r.deliver()
	r.prove()
	r.beRead()
	r.restart()
	r.drift()
	r.leave()

	eventually(t, "what was delivered to be gone", func() string {
		after, err := cluster.Objects(t.Context())
		check(t, err)
		after = slices.DeleteFunc(after, func(o string) bool {
			// What Kubernetes makes in every namespace may have come a moment later.
			return slices.Contains(before, o) || strings.HasSuffix(o, "/kube-root-ca.crt") ||
				strings.HasPrefix(o, "serviceaccounts ") && strings.HasSuffix(o, "/default")
		})
		return strings.Join(after, "\n")
	})
	requests, err := cluster.Requests(func(r controlplane.Request) bool { return r.User == user })
	check(t, err)
	checkRefusals(t, requests)
	checkUsed(t, granted, requests)
}

// run is the life of a member.
type run struct {
	t              *testing.T
	admin, limited *member.Member
	set            apply.Set
	target         *apply.Target
}

var options = apply.Options{
	Timeout: 4 * time.Minute, StageTimeout: 2 * time.Minute, GatewayTimeout: time.Second, GoneTimeout: time.Minute,
}

func (r *run) deliver() {
	r.t.Helper()
	_, err := r.limited.ClusterUID(r.t.Context())
	check(r.t, err)
	_, err = r.target.GatewayAPI(r.t.Context())
	check(r.t, err)
	_, err = apply.Apply(r.t.Context(), r.target, r.set, options)
	check(r.t, err)
	again, err := apply.Apply(r.t.Context(), apply.NewTarget(r.limited), r.set, options)
	check(r.t, err)
	if got := again.Count(apply.Unchanged); got != len(again.Changes) {
		r.t.Errorf("the second apply: %v", again.Changes)
	}
}

// prove asks istiod. What answers is no istiod here, but it is asked once there are
// roots, of whatever kind.
func (r *run) prove() {
	r.t.Helper()
	configs := r.admin.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(system)
	kube, err := configs.Get(r.t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	check(r.t, err)
	ca, _, _ := unstructured.NestedString(kube.Object, "data", "ca.crt")
	roots := parse(r.t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-ca-root-cert, namespace: applink-system, labels: {istio.io/config: "true"}}
`)[0]
	check(r.t, unstructured.SetNestedField(roots.Object, ca, "data", "root-cert.pem"))
	applyAsAdmin(r.t, r.admin, roots)
	answer, err := proof.Ask(r.t.Context(), r.limited, proof.Question{Namespace: system})
	check(r.t, err)
	if answer.Denied != "" || len(answer.Replicas) == 0 {
		r.t.Errorf("istiods could not be asked: %+v", answer)
	}
}

// beRead makes a token by which another member reads this one.
func (r *run) beRead() {
	r.t.Helper()
	secrets := r.admin.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(system)
	anchor, err := secrets.Get(r.t.Context(), "cacerts", metav1.GetOptions{}) // one Secret is as good as another
	check(r.t, err)
	_, err = peering.Mint(r.t.Context(), r.limited.Token, peering.Request{
		Peer: "eastus-1", Namespace: system, Anchor: anchor.GetName(), AnchorUID: anchor.GetUID(), Lifetime: time.Hour,
	})
	check(r.t, err)
}

// restart restarts the proxies, among them those of a waypoint as istiod makes it.
func (r *run) restart() {
	r.t.Helper()
	gateway, err := at(r.t, r.admin, r.object("Gateway", "waypoint")).Get(r.t.Context(), "waypoint", metav1.GetOptions{})
	check(r.t, err)
	waypoint := parse(r.t, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: waypoint, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: waypoint}}
spec:
  selector: {matchLabels: {app: waypoint}}
  template:
    metadata: {labels: {app: waypoint}}
    spec: {containers: [{name: istio-proxy, image: proxy, env: [{name: CA_ADDR, value: "istiod.applink-system.svc:15012"}]}]}
`)[0]
	waypoint.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: gateway.GetAPIVersion(), Kind: "Gateway", Name: gateway.GetName(), UID: gateway.GetUID()}})
	applyAsAdmin(r.t, r.admin, waypoint)
	after := time.Now()
	eventually(r.t, "the restart to be complete", func() string {
		waiting, err := apply.Restart(r.t.Context(), r.target, r.set, after)
		check(r.t, err)
		if len(waiting) > 0 {
			return waiting[0].Subject.String() + ": " + waiting[0].Why
		}
		return ""
	})
}

// drift lets somebody change and delete objects in all of the places.
func (r *run) drift() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var failed []error
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = apply.Watch(ctx, r.target, r.set.Mesh, func(subjects []apply.Subject) {
			if _, err := apply.Correct(ctx, r.target, r.set, subjects, options); err != nil && ctx.Err() == nil {
				failed = append(failed, err)
			}
		})
	})
	defer func() {
		cancel()
		watching.Wait()
		check(r.t, errors.Join(failed...))
	}()
	config := r.object("ConfigMap", "istio")
	patched := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	eventually(r.t, "an edit to be put back", func() string {
		// Again and again, since the watches take a moment to begin.
		live, err := r.admin.Dynamic.Resource(patched).Namespace(system).Get(ctx, "istio", metav1.GetOptions{})
		check(r.t, err)
		if live.GetLabels()["edited"] == "" {
			_, err = r.admin.Dynamic.Resource(patched).Namespace(system).Patch(ctx, "istio", types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"edited":"true"}},"data":{"mesh":"edited"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
			check(r.t, err)
			return "edited just now"
		}
		want, _, _ := unstructured.NestedString(config.Object, "data", "mesh")
		if has, _, _ := unstructured.NestedString(live.Object, "data", "mesh"); has != want {
			return "it is as edited"
		}
		return ""
	})
	for _, lost := range []*unstructured.Unstructured{
		r.object("ServiceAccount", "ztunnel"), r.object("ClusterRole", "istio-cni"), r.object("ClusterRoleBinding", "istio-cni"),
		r.object("RoleBinding", "istiod"), r.object("Gateway", "waypoint"), r.set.Secrets[0],
	} {
		client := at(r.t, r.admin, lost)
		gone, err := client.Get(ctx, lost.GetName(), metav1.GetOptions{})
		check(r.t, err)
		check(r.t, client.Delete(ctx, lost.GetName(), metav1.DeleteOptions{}))
		eventually(r.t, lost.GetKind()+" "+lost.GetName()+" to come back", func() string {
			live, err := client.Get(ctx, lost.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return "it is gone"
			}
			check(r.t, err)
			if live.GetUID() == gone.GetUID() {
				return "it is the old one"
			}
			return ""
		})
	}
}

// leave takes the member out, with what an istiod leaves behind, and after the
// inventory was lost: then all has to be found by its label.
func (r *run) leave() {
	r.t.Helper()
	for _, o := range parse(r.t, `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-ca-root-cert, namespace: shop, labels: {istio.io/config: "true"}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio-waypoint}
spec: {controllerName: istio.io/mesh-controller}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: istio-leader, namespace: applink-system}
`) {
		applyAsAdmin(r.t, r.admin, o)
	}
	configs := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	check(r.t, r.admin.Dynamic.Resource(configs).Namespace(system).Delete(r.t.Context(), "isthmus-inventory", metav1.DeleteOptions{}))
	result, err := apply.Leave(r.t.Context(), apply.NewTarget(r.limited), r.set.Mesh, apply.Leaving{}, options)
	if err != nil {
		r.t.Fatalf("leave: %v (at %s)", err, result.Step)
	}
	leases := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	if _, err := r.admin.Dynamic.Resource(leases).Namespace(system).Get(r.t.Context(), "istio-leader", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		r.t.Errorf("istiod's lease is still there: %v", err)
	}
}

func (r *run) object(kind, name string) *unstructured.Unstructured {
	r.t.Helper()
	for _, o := range r.set.Objects {
		if o.Object.GetKind() == kind && o.Object.GetName() == name {
			return o.Object
		}
	}
	r.t.Fatalf("the bundle has no %s %s", kind, name)
	return nil
}

// checkRefusals lets only the lists of a sweep be refused, which looks for our label
// among all kinds of the cluster.
func checkRefusals(t *testing.T, requests []controlplane.Request) {
	t.Helper()
	for _, r := range requests {
		if r.Code == 403 && r.Verb != "list" {
			t.Errorf("refused: %s %s.%s %s/%s", r.Verb, r.Resource, r.Group, r.Namespace, r.Name)
		}
	}
}

// checkUsed wants every verb on every kind to have been used, where it was granted.
func checkUsed(t *testing.T, granted rights.Rights, requests []controlplane.Request) {
	t.Helper()
	places := append([]rights.Namespaced{{Rules: granted.Cluster}}, granted.Namespaces...)
	shown := 0
	for _, place := range places {
		for _, rule := range place.Rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					used := slices.ContainsFunc(requests, func(r controlplane.Request) bool {
						return uses(r, place.Namespace, rule.PolicyRule, resource, verb)
					})
					switch hidden := isUnshown(place.Namespace, resource, verb); {
					case used:
						shown++
					case !hidden:
						t.Errorf("granted and not used: %s %s.%s in %q, names %v", verb, resource, rule.APIGroups[0], place.Namespace, rule.ResourceNames)
					}
				}
			}
		}
	}
	t.Logf("%d rights, each used", shown)
}

// uses reports whether a request needed a right. The API server asks for "create"
// when an apply creates, and for "escalate" and "bind" when roles and bindings are
// written.
func uses(r controlplane.Request, namespace string, rule rbacv1.PolicyRule, resource, verb string) bool {
	if r.Subresource != "" {
		r.Resource += "/" + r.Subresource
	}
	if r.Resource == "pods/portforward" && r.Verb == "create" && r.Code >= 500 {
		r.Code = 101 // let through, to a kubelet that is not there
	}
	if r.Code >= 400 && r.Code != 404 && r.Code != 409 || r.Group != rule.APIGroups[0] || namespace != "" && r.Namespace != namespace {
		return false
	}
	named := func(name string) bool {
		return len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, name)
	}
	applied := r.Verb == "patch" && r.Code < 300
	switch verb {
	case "create":
		return r.Resource == resource && (r.Verb == "create" && (r.Name == "" || named(r.Name)) || applied && r.Code == 201 && named(r.Name))
	case "escalate":
		return r.Resource == resource && applied && named(r.Name)
	case "bind":
		return strings.HasSuffix(r.Resource, "bindings") && applied
	case "list", "watch":
		return r.Resource == resource && r.Verb == verb && r.Namespace == namespace
	}
	return r.Resource == resource && r.Verb == verb && named(r.Name)
}

func example(t *testing.T) bundle.Bundle {
	t.Helper()
	loaded, problems := fleet.Load(os.DirFS("../../fleet-example"))
	if len(problems.Errors()) > 0 {
		t.Fatal(problems)
	}
	result, err := renderer.Render(loaded, catalog.Builtin())
	check(t, err)
	for _, b := range result.Bundles {
		if b.Member == "eastus-1" {
			return b
		}
	}
	t.Fatal("no member eastus-1")
	return bundle.Bundle{}
}

func setOf(t *testing.T, b bundle.Bundle) apply.Set {
	t.Helper()
	objects := slices.Clone(b.Objects)
	for i, o := range objects {
		objects[i].Object = unanswered(t, o.Object)
	}
	return apply.Set{
		Mesh: apply.Mesh{Network: b.Network, SystemNamespace: b.SystemNamespace}, Release: b.Release, Commit: "c1", Digest: b.Digest,
		Objects: objects,
		Secrets: parse(t, `
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: applink-system}
data: {ca-key.pem: Y2FuYXJ5LW9mLXRoZS1rZXk=}
`),
	}
}

// unanswered lets the API server go on without the answer of a webhook: the istiod
// here is played, and has none.
func unanswered(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	if o.GetKind() != "ValidatingWebhookConfiguration" {
		return o
	}
	out := o.DeepCopy()
	webhooks, _, err := unstructured.NestedSlice(out.Object, "webhooks")
	check(t, err)
	for _, webhook := range webhooks {
		webhook.(map[string]any)["failurePolicy"] = "Ignore"
	}
	check(t, unstructured.SetNestedSlice(out.Object, webhooks, "webhooks"))
	return out
}

func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewBufferString(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := documents.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		check(t, err)
		if o.Object != nil {
			out = append(out, o)
		}
	}
}

func applyAsAdmin(t *testing.T, admin *member.Member, o *unstructured.Unstructured) {
	t.Helper()
	_, err := at(t, admin, o).Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "admin"})
	check(t, err)
}

// connect logs in with the token of the YAML's Secret.
func connect(t *testing.T, admin *member.Member, cluster *controlplane.Cluster) *member.Member {
	t.Helper()
	config := rest.AnonymousClientConfig(cluster.RESTConfig())
	secrets := admin.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(home)
	eventually(t, "the token", func() string {
		secret, err := secrets.Get(t.Context(), "isthmus", metav1.GetOptions{})
		check(t, err)
		token, _, _ := unstructured.NestedString(secret.Object, "data", "token")
		config.BearerToken = decode(t, token)
		if config.BearerToken == "" {
			return "there is none"
		}
		return ""
	})
	limited, err := member.Connect(config)
	check(t, err)
	t.Cleanup(limited.Close)
	return limited
}

func decode(t *testing.T, text string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	check(t, err)
	return string(raw)
}

// at is where objects of a kind are.
func at(t *testing.T, m *member.Member, o *unstructured.Unstructured) dynamic.ResourceInterface {
	t.Helper()
	mapping, err := m.Mapping(o.GroupVersionKind())
	check(t, err)
	if o.GetNamespace() == "" {
		return m.Dynamic.Resource(mapping.Resource)
	}
	return m.Dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
}

func eventually(t *testing.T, what string, wait func() (still string)) {
	t.Helper()
	still := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if still = wait(); still == "" {
			return
		}
	}
	t.Fatalf("waited in vain for %s: %s", what, still)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
