package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

func TestApplyTwiceWritesOnce(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "twice")
	target := NewTarget(m)

	first := mustApply(t, target, set)
	if got, want := first.Count(Created), len(set.Objects)+len(set.Secrets); got != want {
		t.Errorf("first apply created %d objects, want %d: %v", got, want, first.Changes)
	}
	t.Logf("first: %d calls, %d writes", len(wire.Calls()), len(wire.Writes()))

	for _, tt := range []struct {
		reason string
		target *Target
		commit string
	}{
		{"a process that remembers", target, "c1"},
		{"a process that starts anew has to compare, and writes nothing", NewTarget(m), "c1"},
		{"a new commit that says the same", target, "c2"},
	} {
		wire.Reset()
		set.Commit = tt.commit
		again := mustApply(t, tt.target, set)
		if got := again.Count(Unchanged); got != len(again.Changes) || len(again.Changes) == 0 {
			t.Errorf("%s: changes %v", tt.reason, again.Changes)
		}
		if writes := wire.Writes(); len(writes) > 0 {
			t.Errorf("%s: wrote %v", tt.reason, writes)
		}
		t.Logf("%s: %d calls", tt.reason, len(wire.Calls()))
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	ctx := context.Background()
	set := small(t, "gone")
	target := NewTarget(m)
	mustApply(t, target, set)

	// What istiod leaves behind, and what looks like it but is not its.
	shop := "gone-shop"
	create(t, m, "v1", "ConfigMap", shop, "istio-ca-root-cert", map[string]any{"labels": map[string]any{"istio.io/config": "true"}})
	create(t, m, "v1", "ConfigMap", shop, "istio-ca-root-cert-of-mine", map[string]any{"labels": map[string]any{"istio.io/config": "true"}})

	mustRemove(t, target, set)

	left, err := target.sweep(ctx, set.Mesh)
	if err != nil || len(left) > 0 {
		t.Errorf("after removal: %v left, error %v", left, err)
	}
	if _, err := get(m, "v1", "Namespace", "", "gone-system"); !apierrors.IsNotFound(err) {
		t.Errorf("the system namespace is still there: %v", err)
	}
	if _, err := get(m, "v1", "ConfigMap", shop, "istio-ca-root-cert"); !apierrors.IsNotFound(err) {
		t.Errorf("istiod's root certificate is still there: %v", err)
	}
	if _, err := get(m, "v1", "ConfigMap", shop, "istio-ca-root-cert-of-mine"); err != nil {
		t.Errorf("somebody's own ConfigMap went: %v", err)
	}
	kept, err := get(m, "v1", "Namespace", "", shop)
	if err != nil {
		t.Fatalf("the users' namespace went: %v", err)
	}
	if labels := kept.GetLabels(); labels[LabelNetwork] != "" || labels["istio.io/dataplane-mode"] != "" {
		t.Errorf("the users' namespace keeps our labels: %v", labels)
	}
	mustRemove(t, NewTarget(m), set) // again: nothing to do, no error
}

func TestRemoveKeepsCRDInUse(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "inuse")
	mustApply(t, NewTarget(m), set)
	create(t, m, "inuse.test/v1", "Policy", "default", "of-a-user", nil)

	result := mustRemove(t, NewTarget(m), set)

	crd, err := get(m, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "policies.inuse.test")
	if err != nil {
		t.Fatalf("the CRD of a user's object went: %v", err)
	}
	if crd.GetLabels()[LabelNetwork] != "" {
		t.Errorf("the kept CRD has our labels: %v", crd.GetLabels())
	}
	if versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions"); len(versions) != 1 {
		t.Errorf("the kept CRD lost its schema: %v", crd.Object["spec"])
	}
	if result.Count(Released) != 2 { // and the users' namespace
		t.Errorf("changes: %v", result.Changes)
	}
	if _, err := get(m, "inuse.test/v1", "Policy", "default", "of-a-user"); err != nil {
		t.Errorf("the user's object went: %v", err)
	}
}

func TestAdoptedNamespaceIsKept(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	create(t, m, "v1", "Namespace", "", "adopt-system", map[string]any{"labels": map[string]any{"team": "network"}})
	set := small(t, "adopt")
	target := NewTarget(m)
	result := mustApply(t, target, set)
	entry := result.Inventory.find(namespaceSubject("adopt-system"))
	if entry == nil || !entry.Keep {
		t.Fatalf("inventory entry of a namespace that was there before: %+v", entry)
	}
	mustRemove(t, target, set)
	kept, err := get(m, "v1", "Namespace", "", "adopt-system")
	if err != nil || kept.GetDeletionTimestamp() != nil {
		t.Fatalf("a namespace that was there before us went: %v", err)
	}
	if kept.GetLabels()["team"] != "network" || kept.GetLabels()[LabelNetwork] != "" || kept.GetAnnotations()[AnnotationPrune] != "" {
		t.Errorf("labels %v, annotations %v", kept.GetLabels(), kept.GetAnnotations())
	}
	if _, err := get(m, "v1", "ConfigMap", "adopt-system", inventoryName); !apierrors.IsNotFound(err) {
		t.Errorf("the inventory is still there: %v", err)
	}
}

func TestPruneTakesOnlyWhatTheInventoryLists(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "prune")
	target := NewTarget(m)
	mustApply(t, target, set)
	// Somebody's object with our label, and one that somebody took over.
	create(t, m, "v1", "ConfigMap", "prune-system", "copied", map[string]any{"labels": map[string]any{LabelNetwork: "prune"}})
	less := without(without(set, "ConfigMap", "istio"), "DaemonSet", "ztunnel")

	wire.Reset()
	result := mustApply(t, target, less)
	if result.Count(Deleted) != 2 {
		t.Errorf("changes: %v", result.Changes)
	}
	if got := len(wire.Writes()); got != 3 { // two deletions, one inventory
		t.Errorf("writes: %v", wire.Writes())
	}
	if _, err := get(m, "v1", "ConfigMap", "prune-system", "istio"); !apierrors.IsNotFound(err) {
		t.Errorf("not pruned: %v", err)
	}
	if _, err := get(m, "v1", "ConfigMap", "prune-system", "copied"); err != nil {
		t.Errorf("pruned what no inventory lists: %v", err)
	}
}

func TestPruneLeavesWhatIsNotOursAnyMore(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "foreign")
	target := NewTarget(m)
	mustApply(t, target, set)
	// Deleted and made anew by somebody else.
	remove(t, m, "v1", "ConfigMap", "foreign-system", "istio")
	create(t, m, "v1", "ConfigMap", "foreign-system", "istio", nil)
	result := mustApply(t, target, without(set, "ConfigMap", "istio"))
	if result.Count(Released) != 1 {
		t.Errorf("changes: %v", result.Changes)
	}
	if _, err := get(m, "v1", "ConfigMap", "foreign-system", "istio"); err != nil {
		t.Errorf("somebody's object was pruned: %v", err)
	}
}

// TestKilledAtEveryWrite cuts the process off at each of its writes, before the
// write reaches the API server and after, while it delivers and while it
// changes. Each time the inventory lists all that is there, and the next
// process gets to the same end.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	for name, fate := range map[string]membertest.Fate{"cut": membertest.Cut, "lose": membertest.Lose} {
		t.Run("deliver-"+name, func(t *testing.T) {
			t.Parallel()
			for n, died := 1, true; died; n++ {
				set := still(small(t, fmt.Sprintf("%s%d", name, n)))
				m, wire := connected(t)
				died = killedAt(t, m, wire, n, fate, set)
				converges(t, m, wire, set)
			}
		})
		t.Run("change-"+name, func(t *testing.T) {
			t.Parallel()
			full := still(small(t, "change"+name))
			less := without(without(full, "ConfigMap", "istio"), "ClusterRoleBinding", "change"+name+"-istiod")
			object(t, less, "ClusterRole", "change"+name+"-istiod").SetAnnotations(map[string]string{"changed": "true"})
			m, wire := connected(t)
			for n, died := 1, true; died; n++ {
				converges(t, m, wire, full)
				died = killedAt(t, m, wire, n, fate, less)
				converges(t, m, wire, less)
			}
		})
	}
}

// still drops what takes time to become healthy.
func still(s Set) Set { return without(without(s, "Deployment", "istiod"), "DaemonSet", "ztunnel") }

// killedAt applies a set with a process that dies at its nth write, and reports
// whether it came that far.
func killedAt(t testing.TB, m *member.Member, wire *membertest.Wire, n int, fate membertest.Fate, set Set) bool {
	t.Helper()
	died := false
	wire.Reset()
	wire.Rule(func(c membertest.Call) membertest.Fate {
		switch {
		case c.WriteNumber == n:
			died = true
			return fate
		case died:
			return membertest.Cut
		}
		return membertest.Pass
	})
	_, err := Apply(context.Background(), NewTarget(m), set, quick)
	wire.Reset()
	if died == (err == nil) {
		t.Fatalf("killed at write %d: %v, error %v", n, died, err)
	}
	checkNoOrphans(t, NewTarget(m), set)
	return died
}

// converges applies a set with a new process, and checks that yet another one
// finds nothing to do and that there is nothing else.
func converges(t testing.TB, m *member.Member, wire *membertest.Wire, set Set) {
	t.Helper()
	mustApply(t, NewTarget(m), set)
	wire.Reset()
	again := mustApply(t, NewTarget(m), set)
	if writes := wire.Writes(); len(writes) > 0 {
		t.Errorf("not converged: %v wrote %v", again.Changes, writes)
	}
	found, err := NewTarget(m).sweep(context.Background(), set.Mesh)
	if err != nil || len(found) != len(set.Objects)+len(set.Secrets)+1 { // and the inventory
		t.Errorf("%d objects have our label, want %d and the inventory: %v (%v)", len(found), len(set.Objects)+len(set.Secrets), found, err)
	}
}

func TestKilledWhileLeaving(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "leaving")
	target := NewTarget(m)
	mustApply(t, target, set)
	for n, died := 1, true; died; n++ {
		died = false
		wire.Reset()
		wire.Rule(func(c membertest.Call) membertest.Fate {
			// Each process manages one write more, and the first ones none.
			if c.WriteNumber > n/4 {
				died = true
			}
			if died {
				return membertest.Cut
			}
			return membertest.Pass
		})
		_, err := Remove(context.Background(), NewTarget(m), set.Mesh, quick)
		wire.Reset()
		if died == (err == nil) {
			t.Fatalf("round %d: died %v, error %v", n, died, err)
		}
		if died {
			checkNoOrphans(t, NewTarget(m), set)
		}
	}
	left, err := target.sweep(context.Background(), set.Mesh)
	if err != nil || len(left) > 0 {
		t.Errorf("after removal: %v left, error %v", left, err)
	}
}

// checkNoOrphans fails if anything with our label is not in the inventory. The
// system namespace may be there alone: it is the inventory's home.
func checkNoOrphans(t testing.TB, target *Target, set Set) {
	t.Helper()
	ctx := context.Background()
	found, err := target.sweep(ctx, set.Mesh)
	if err != nil {
		t.Fatal(err)
	}
	var listed Inventory
	if stored, err := target.readInventory(ctx, set.Mesh); err == nil {
		listed = stored.Inventory
	} else if !errors.Is(err, errNoInventory) {
		t.Fatal(err)
	}
	for _, f := range found {
		home := f.key() == namespaceSubject(set.SystemNamespace).key() || f.key() == InventorySubject(set.Mesh).key()
		if !home && listed.find(f.Subject) == nil {
			t.Errorf("orphan: %s", f.Subject)
		}
	}
}

func TestLostInventoryIsMadeFromLabels(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "lost")
	mustApply(t, NewTarget(m), set)
	remove(t, m, "v1", "ConfigMap", "lost-system", inventoryName)
	result := mustApply(t, NewTarget(m), without(set, "ConfigMap", "istio"))
	if result.Count(Deleted) != 1 {
		t.Errorf("what only the lost inventory listed was not pruned: %v", result.Changes)
	}
	patch(t, m, "v1", "ConfigMap", "lost-system", inventoryName, `{"data":{"inventory.json":"{broken"}}`)
	mustRemove(t, NewTarget(m), set)
}

func TestNewerInventoryStopsEverything(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "newer")
	target := NewTarget(m)
	mustApply(t, target, set)
	patch(t, m, "v1", "ConfigMap", "newer-system", inventoryName, `{"data":{"inventory.json":"{\"version\":2}"}}`)
	wire.Reset()
	_, err := Apply(context.Background(), NewTarget(m), without(set, "ConfigMap", "istio"), quick)
	if member.ReasonOf(err) != InventoryTooNew || len(wire.Writes()) > 0 {
		t.Errorf("error %v, writes %v", err, wire.Writes())
	}
	if _, err := Remove(context.Background(), NewTarget(m), set.Mesh, quick); member.ReasonOf(err) != InventoryTooNew {
		t.Errorf("remove: error %v", err)
	}
	patch(t, m, "v1", "ConfigMap", "newer-system", inventoryName, `{"data":{"inventory.json":"{broken"}}`)
	mustRemove(t, NewTarget(m), set)
}

func TestFailuresAreReportedPerObject(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "failing")
	mustApply(t, NewTarget(m), set)
	changed := clone(set)
	changed.Digest = "sha256:2"
	selector := map[string]any{"app": "other"}
	_ = unstructured.SetNestedField(object(t, changed, "Deployment", "istiod").Object, selector, "spec", "selector", "matchLabels")
	_ = unstructured.SetNestedField(object(t, changed, "Deployment", "istiod").Object, selector, "spec", "template", "metadata", "labels")
	_ = unstructured.SetNestedField(object(t, changed, "ConfigMap", "istio").Object, "new", "data", "mesh")
	_ = unstructured.SetNestedField(object(t, changed, "Policy", "default").Object, "PERMISSIVE", "spec", "mode")

	result, err := Apply(context.Background(), NewTarget(m), changed, quick)

	var failed Errors
	if !errors.As(err, &failed) || len(failed) != 1 || failed[0].Reason != ImmutableField || failed[0].Subject.Name != "istiod" {
		t.Errorf("error %v, want ImmutableField of the Deployment", err)
	}
	if !Stalls(err) {
		t.Error("an immutable field does not mend by waiting")
	}
	if result.Count(Configured) != 1 {
		t.Errorf("the rest of the stage did not go on, or a later stage did: %v", result.Changes)
	}
}

func TestSecretValuesStayInside(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "secret")
	bad := clone(set)
	bad.Secrets = parse(t, "secret", `
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: SYSTEM}
data: {ca-key.pem: canary-not-base64}
`)
	result, err := Apply(context.Background(), NewTarget(m), bad, quick)
	if err == nil {
		t.Fatal("a broken Secret was accepted")
	}
	if text := fmt.Sprintf("%v %+v", err, result); strings.Contains(text, "canary") {
		t.Errorf("leaks: %s", text)
	}
	good := mustApply(t, NewTarget(m), set)
	if e := good.Inventory.find(SubjectOf(set.Secrets[0])); e == nil || e.Hash != "" {
		t.Errorf("inventory entry of a Secret: %+v", e)
	}
	stored, err := get(m, "v1", "ConfigMap", "secret-system", inventoryName)
	if err != nil || strings.Contains(fmt.Sprint(stored.Object), "canary") {
		t.Errorf("the inventory leaks, or is not there: %v", err)
	}
}

func TestDeniedPermission(t *testing.T) {
	t.Parallel()
	admin, _ := connected(t)
	set := small(t, "denied")
	mustApply(t, NewTarget(admin), set)
	limited, _ := connect(t, serviceAccount(t, admin, "denied-system", "limited", rbacv1.PolicyRule{
		APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"},
	}, rbacv1.PolicyRule{
		APIGroups: []string{"", "apiextensions.k8s.io"}, Resources: []string{"*"}, Verbs: []string{"*"},
	}))
	changed := clone(set)
	changed.Digest = "sha256:2"
	_ = unstructured.SetNestedField(object(t, changed, "ConfigMap", "istio").Object, "new", "data", "mesh")
	object(t, changed, "Deployment", "istiod").SetAnnotations(map[string]string{"a": "b"})
	object(t, changed, "ClusterRole", "denied-istiod").SetAnnotations(map[string]string{"a": "b"})

	result, err := Apply(context.Background(), NewTarget(limited), changed, quick)

	var failed Errors
	if !errors.As(err, &failed) || len(failed) < 2 {
		t.Fatalf("error %v", err)
	}
	var names []string
	for _, f := range failed {
		if f.Reason != member.AccessDenied {
			t.Errorf("%s: reason %s", f.Subject, f.Reason)
		}
		names = append(names, f.Subject.String())
	}
	if !slices.Contains(names, "Deployment denied-system/istiod") || !slices.Contains(names, "ClusterRole denied-istiod") {
		t.Errorf("failed: %v", names)
	}
	if i := slices.IndexFunc(result.Changes, func(c Change) bool { return c.Subject.Name == "istio" }); i < 0 || result.Changes[i].Action != Configured {
		t.Errorf("what is permitted did not go on: %v", result.Changes)
	}
}

// TestInertObjectsComeWhileKindsAreAwaited has a CRD that is not served for as long
// as another one has its names. What acts, and what was there before, has to wait.
func TestInertObjectsComeWhileKindsAreAwaited(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "inert")
	before := still(without(without(without(set, "CustomResourceDefinition", "policies.inert.test"), "Policy", "default"), "ServiceAccount", "istiod"))
	object(t, before, "ConfigMap", "istio").Object["data"] = map[string]any{"mesh": "before"}
	mustApply(t, NewTarget(m), before)
	rival := createRival(t, m, object(t, set, "CustomResourceDefinition", "policies.inert.test"))
	o := quick
	o.StageTimeout = time.Second

	result, err := Apply(context.Background(), NewTarget(m), set, o)

	if member.ReasonOf(err) != NotReady {
		t.Errorf("error %v, want that the CRD is waited for", err)
	}
	var written []string
	for _, c := range result.Changes {
		if c.Action != Unchanged {
			written = append(written, c.Subject.String())
		}
	}
	if want := []string{"CustomResourceDefinition policies.inert.test", "ServiceAccount inert-system/istiod"}; !slices.Equal(slices.Sorted(slices.Values(written)), want) {
		t.Errorf("written %v, want %v", written, want)
	}
	if err := m.Dynamic.Resource(crds).Delete(context.Background(), rival, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	converges(t, m, wire, set)
	mustRemove(t, NewTarget(m), set)
}

// createRival creates a CRD that takes the kind of another one, and returns its
// name when it is established.
func createRival(t testing.TB, m *member.Member, of *unstructured.Unstructured) string {
	t.Helper()
	rival, ctx := of.DeepCopy(), context.Background()
	group, _, _ := unstructured.NestedString(rival.Object, "spec", "group")
	rival.SetName("rivals." + group)
	rival.SetLabels(nil)
	_ = unstructured.SetNestedField(rival.Object, "rivals", "spec", "names", "plural")
	_ = unstructured.SetNestedField(rival.Object, "rival", "spec", "names", "singular")
	if _, err := m.Dynamic.Resource(crds).Create(ctx, rival, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rival to be established", func() bool {
		live, err := m.Dynamic.Resource(crds).Get(ctx, rival.GetName(), metav1.GetOptions{})
		c := (*metav1.Condition)(nil)
		if err == nil {
			c = condition(live, "Established")
		}
		return c != nil && c.Status == metav1.ConditionTrue
	})
	return rival.GetName()
}

// TestCRDEstablishedLate holds back the discovery of the new kind.
func TestCRDEstablishedLate(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	ctx := context.Background()
	set := small(t, "late")
	// A CRD whose names are taken is not established until the other one goes.
	rival := createRival(t, m, object(t, set, "CustomResourceDefinition", "policies.late.test"))
	var waited []string
	told := false
	o := quick
	o.Progress = func(p Progress) {
		for _, w := range p.Waiting {
			waited = append(waited, w.Subject.Kind+": "+w.Why)
			if !told && w.Why == notServedYet && readDefinition(wire, "policies.late.test") {
				t.Errorf("a CRD was read at look %d: most are served in a moment", len(waited))
			}
			if strings.Contains(w.Why, "not established") {
				told = true
				_ = m.Dynamic.Resource(crds).Delete(ctx, rival, metav1.DeleteOptions{})
			}
		}
	}
	if _, err := Apply(ctx, NewTarget(m), set, o); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(waited, " "), "CustomResourceDefinition: not established") || !strings.HasSuffix(waited[0], notServedYet) {
		t.Errorf("did not wait for the CRD, or asked for the reason at once: %v", waited)
	}
	mustRemove(t, NewTarget(m), set) // its CRD would stand in the way of the rival
}

func readDefinition(wire *membertest.Wire, name string) bool {
	return slices.ContainsFunc(wire.Calls(), func(c membertest.Call) bool {
		return c.Method == http.MethodGet && strings.HasSuffix(c.Path, "/customresourcedefinitions/"+name)
	})
}

func TestStageWaitsForHealth(t *testing.T) {
	t.Parallel()
	m, _ := connected(t)
	set := small(t, "sick")
	sick := clone(set)
	// No node has the label, so no pod ever runs.
	_ = unstructured.SetNestedMap(object(t, sick, "Deployment", "istiod").Object, map[string]any{"no": "node"}, "spec", "template", "spec", "nodeSelector")
	o := quick
	o.StageTimeout = time.Second
	target := NewTarget(m)
	result, err := Apply(context.Background(), target, sick, o)
	if member.ReasonOf(err) != NotReady {
		t.Errorf("error %v", err)
	}
	if len(result.Waiting) != 1 || result.Waiting[0].Subject.Name != "istiod" || result.Waiting[0].Why == "" {
		t.Errorf("waiting: %+v", result.Waiting)
	}
	for _, c := range result.Changes {
		if c.Stage == bundle.StageZtunnel || c.Subject.Kind == "ValidatingWebhookConfiguration" {
			t.Errorf("%s was applied before istiod was healthy", c.Subject)
		}
	}
	mustApply(t, target, set)
}

func TestSetThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	m, wire := connected(t)
	set := small(t, "invalid")
	foreign := clone(set)
	object(t, foreign, "ConfigMap", "istio").SetLabels(map[string]string{LabelNetwork: "other"})
	twice := clone(set)
	twice.Objects = append(twice.Objects, set.Objects[0])
	for _, tt := range []struct {
		reason string
		set    Set
	}{
		{"nothing at all would prune everything", Set{Mesh: set.Mesh}},
		{"no system namespace: no home for the inventory", without(set, "Namespace", "invalid-system")},
		{"an object of another network", foreign},
		{"one object twice", twice},
		{"no network", Set{Objects: set.Objects}},
	} {
		_, err := Apply(context.Background(), NewTarget(m), tt.set, quick)
		if member.ReasonOf(err) != InvalidSet {
			t.Errorf("%s: error %v", tt.reason, err)
		}
	}
	if calls := wire.Calls(); len(calls) > 0 {
		t.Errorf("calls for sets that cannot be meant: %v", calls)
	}
}

// serviceAccount makes one with a cluster role of its own and returns its configuration.
func serviceAccount(t testing.TB, m *member.Member, namespace, name string, rules ...rbacv1.PolicyRule) *rest.Config {
	t.Helper()
	ctx := context.Background()
	config, err := member.Config(cluster.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	create(t, m, "v1", "ServiceAccount", namespace, name, nil)
	role, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{GenerateName: name}, Rules: rules}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, tokenRequest(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	limited := rest.AnonymousClientConfig(config)
	limited.BearerToken = token.Status.Token
	return limited
}

func get(m *member.Member, apiVersion, kind, namespace, name string) (*unstructured.Unstructured, error) {
	d := newDelivery(NewTarget(m), Mesh{}, Options{})
	return d.live(context.Background(), subject(apiVersion, kind, namespace, name))
}

func create(t testing.TB, m *member.Member, apiVersion, kind, namespace, name string, metadata map[string]any) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{}}}
	if metadata != nil {
		o.Object["metadata"] = metadata
	}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetName(name)
	o.SetNamespace(namespace)
	if _, err := client(t, m, o.GetAPIVersion(), kind, namespace).Create(context.Background(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, m *member.Member, apiVersion, kind, namespace, name string) {
	t.Helper()
	if err := client(t, m, apiVersion, kind, namespace).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func patch(t testing.TB, m *member.Member, apiVersion, kind, namespace, name, body string) {
	t.Helper()
	_, err := client(t, m, apiVersion, kind, namespace).Patch(context.Background(), name, types.MergePatchType,
		[]byte(body), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
}
