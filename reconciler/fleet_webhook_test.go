package reconciler

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// TestPushDuringALook: a push that comes while the repository is read may be too
// late for that look, so it makes another due.
func TestPushDuringALook(t *testing.T) {
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: "prod"}}
	key := client.ObjectKeyFromObject(f)
	woken := make(chan types.NamespacedName, 10)
	r := &fleetReconciler{
		now:    func() time.Time { return time.Unix(1_000_000_000, 0) },
		next:   map[types.NamespacedName]time.Time{},
		last:   map[types.NamespacedName]lastLook{},
		pushed: map[types.NamespacedName]bool{},
		wake:   func(fleet types.NamespacedName) { woken <- fleet },
	}
	r.looked(f, look{})
	if r.due(f) {
		t.Fatal("due right after a look")
	}
	r.pushedTo(key)
	if got := <-woken; got != key || !r.due(f) {
		t.Fatalf("woken %s, due %t: a push makes a look due", got, r.due(f))
	}
	r.takePush(key)
	r.pushedTo(key)
	r.looked(f, look{})
	if <-woken; !r.due(f) {
		t.Fatal("the push that came during the look is lost")
	}
}
