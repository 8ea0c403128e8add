package reconciler

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/deletion"
)

// having is a commit whose members have so many ConfigMaps each, and one more
// object of each given kind.
func having(guard v1alpha1.DeletionGuard, count int, members int, kinds ...string) *accepted {
	var names []string
	for i := range members {
		names = append(names, fmt.Sprintf("m-%d", i))
	}
	a := commit(guard, names...)
	for _, name := range names {
		b := a.bundles[name]
		b.Digest = fmt.Sprint(count, kinds)
		for i := range count {
			b.Objects = append(b.Objects, bundle.Object{Object: anObject("ConfigMap", fmt.Sprint("c-", i))})
		}
		for _, kind := range kinds {
			o := anObject(strings.TrimSuffix(kind, " released"), "one")
			if strings.HasSuffix(kind, " released") {
				o.SetAnnotations(map[string]string{bundle.PruneAnnotation: bundle.PruneRelease})
			}
			b.Objects = append(b.Objects, bundle.Object{Object: o})
		}
		a.bundles[name] = b
	}
	return a
}

func anObject(kind, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind}}
	if kind == "CustomResourceDefinition" {
		o.SetAPIVersion("apiextensions.k8s.io/v1")
	}
	o.SetName(name)
	return o
}

func TestGuardOfObjects(t *testing.T) {
	none, half, all := int32(0), int32(50), int32(100)
	plain := v1alpha1.DeletionGuard{}
	for _, tt := range []struct {
		reason       string
		before, next *accepted
		stops        bool
	}{
		{"nothing goes", having(plain, 50, 1), having(plain, 50, 1), false},
		{"a fifth may go", having(plain, 50, 1), having(plain, 40, 1), false},
		{"more than a fifth may not", having(plain, 50, 1), having(plain, 39, 1), true},
		{"an empty render", having(plain, 50, 1), having(plain, 0, 1), true},
		{"half may where the fleet says so", having(plain, 50, 1), having(v1alpha1.DeletionGuard{ObjectsPercent: &half}, 25, 1), false},
		{"few may go whatever their share", having(plain, 8, 1), having(plain, 3, 1), false},
		{"one more than few may not", having(plain, 8, 1), having(plain, 2, 1), true},
		{"few on each of many members are many", having(plain, 8, 3), having(plain, 4, 3), true},
		{"none may where the fleet says so", having(plain, 50, 1), having(v1alpha1.DeletionGuard{ObjectsPercent: &none}, 49, 1), true},
		{"a namespace takes along what is in it", having(plain, 50, 1, "Namespace"), having(plain, 50, 1), true},
		{"whatever the share", having(plain, 50, 1, "Namespace"), having(v1alpha1.DeletionGuard{ObjectsPercent: &all}, 50, 1), true},
		{"a namespace that is only released stays", having(plain, 50, 1, "Namespace released"), having(plain, 50, 1), false},
		{"a CRD takes along the objects of its kind", having(plain, 50, 1, "CustomResourceDefinition"), having(plain, 50, 1), true},
		{"members that leave have their own guard", having(plain, 50, 2), having(plain, 50, 1), false},
		{"new members have nothing to lose", having(plain, 50, 1), having(plain, 50, 3), false},
	} {
		failure := guardObjects(tt.before, published{}, tt.next)
		if (failure != nil) != tt.stops {
			t.Errorf("%s: failure %+v, want one: %v", tt.reason, failure, tt.stops)
		}
		if failure == nil {
			continue
		}
		if failure.Reason != status.ReasonDeletionGuard || !failure.Stalled {
			t.Errorf("%s: failure %+v", tt.reason, failure)
		}
		_, token, found := strings.Cut(failure.Message, `put "`)
		token, _, _ = strings.Cut(token, `"`)
		if !found {
			t.Fatalf("%s: %q does not say what to do", tt.reason, failure.Message)
		}
		tt.next.networks[0].Spec.DeletionGuard.Allow = []string{token}
		if failure := guardObjects(tt.before, published{}, tt.next); failure != nil {
			t.Errorf("%s: not acknowledged by %q: %s", tt.reason, token, failure.Message)
		}
	}
}

// TestAcknowledgementIsOfWhatItNames: one that stays in the file allows nothing
// else.
func TestAcknowledgementIsOfWhatItNames(t *testing.T) {
	before, once := having(v1alpha1.DeletionGuard{}, 50, 1), having(v1alpha1.DeletionGuard{}, 30, 1)
	token := deletion.Of("prod", before.bundles, once.bundles).Token()
	allow := v1alpha1.DeletionGuard{Allow: []string{token, "m-0"}}
	if failure := guardObjects(before, published{}, having(allow, 30, 1)); failure != nil {
		t.Errorf("what is acknowledged is stopped: %s", failure.Message)
	}
	if guardObjects(before, published{}, having(allow, 29, 1)) == nil {
		t.Error("one object more passed by the acknowledgement of others")
	}
}

func TestGuardWithoutTheOldBundle(t *testing.T) {
	m := aMember("prod", "m-0")
	m.Status.Objects = 51 // with the CA
	for after, stops := range map[int]bool{50: false, 40: false, 20: true} {
		failure := guardObjects(nil, published{members: []v1alpha1.Member{m}}, having(v1alpha1.DeletionGuard{}, after, 1))
		if (failure != nil) != stops {
			t.Errorf("51 objects to %d: %+v, want a failure: %v", after, failure, stops)
		}
	}
}
