package apisim_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// exampleSet is the bundle of a member of fleet-example, without the webhooks
// that refuse its policies as long as no istiod answers.
func exampleSet(t testing.TB) apply.Set {
	t.Helper()
	f, problems := fleet.Load(os.DirFS(filepath.Join(rig.Root(), "fleet-example")))
	if f == nil {
		t.Fatal(problems)
	}
	result, err := renderer.Render(f, catalog.Builtin())
	if err != nil || len(result.Bundles) == 0 {
		t.Fatal(err, result)
	}
	b := result.Bundles[0]
	return apply.Set{
		Mesh:    apply.Mesh{Network: b.Network, SystemNamespace: b.SystemNamespace},
		Release: b.Release, Commit: "c1", Digest: b.Digest,
		Objects: slices.DeleteFunc(slices.Clone(b.Objects), func(o bundle.Object) bool {
			return o.Object.GetKind() == "ValidatingWebhookConfiguration"
		}),
	}
}

// told is what the engine says of one call.
type told struct {
	Call      string
	Changes   []apply.Change
	Inventory []apply.Entry
}

func TestDeliveryAgrees(t *testing.T) {
	t.Parallel()
	set := exampleSet(t)
	want, got := deliver(t, "real", set), deliver(t, "played", set)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the engine says (-real +played):\n%s", diff)
	}
}

// deliver, deliver again, correct an edit and remove.
func deliver(t testing.TB, which string, set apply.Set) []told {
	t.Helper()
	ctx := context.Background()
	m, err := member.Connect(configOf(t, which))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	options := apply.Options{GatewayTimeout: time.Millisecond}
	var out []told
	tell := func(call string, result apply.Result, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %s: %v", which, call, err)
		}
		for i := range result.Inventory.Entries {
			result.Inventory.Entries[i].UID = ""
		}
		for i := range result.Changes {
			result.Changes[i].At = time.Time{}
		}
		out = append(out, told{call, result.Changes, result.Inventory.Entries})
	}
	target := apply.NewTarget(m)
	result, err := apply.Apply(ctx, target, set, options)
	tell("first", result, err)
	result, err = apply.Apply(ctx, apply.NewTarget(m), set, options)
	tell("again", result, err)
	edited := apply.Subject{Version: "v1", Kind: "ConfigMap", Namespace: set.SystemNamespace, Name: "istio"}
	_, err = m.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(edited.Namespace).
		Patch(ctx, edited.Name, types.MergePatchType, []byte(`{"data":{"mesh":"edited"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
	result, err = apply.Correct(ctx, target, set, []apply.Subject{edited}, options)
	tell("correct", result, err)
	result, err = apply.Remove(ctx, target, set.Mesh, options)
	tell("remove", result, err)
	return out
}
