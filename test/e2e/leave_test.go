package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestLeaving goes through the ways out that are not a plain leave; that one is
// the last step of TestSpine.
func TestLeaving(t *testing.T) {
	r, commit := newRig(t)
	settled(t, r, commit)
	t.Run("a suspended fleet writes nothing, and what drifted is put back afterwards", func(t *testing.T) { testSuspendedFleet(t, r) })
	t.Run("a renamed member deletes nothing", func(t *testing.T) { testRename(t, r) })
	t.Run("a cluster that is gone is let go", func(t *testing.T) { testGone(t, r) })
	t.Run("the last member needs the guard's word", func(t *testing.T) { testLastMember(t, r) })
}

var errStill = errors.New("it was read")

func suspend(t *testing.T, r *rig.Rig, on bool) {
	t.Helper()
	f, err := r.Fleet(t.Context())
	check(t, err)
	before := f.DeepCopy()
	f.Spec.Suspend = on
	check(t, r.HubClient.Patch(t.Context(), f, client.MergeFrom(before)))
}

func testSuspendedFleet(t *testing.T, r *rig.Rig) {
	member, err := r.ClientOf(east)
	check(t, err)
	suspend(t, r, true)
	check(t, r.WaitMember(t.Context(), east, 30*time.Second, "Ready", metav1.ConditionUnknown, "Suspended"))
	suspended := time.Now()
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "istio"}}
	check(t, member.Delete(t.Context(), config))
	// A correction takes less than a second.
	time.Sleep(3 * time.Second)
	if writes := ours(t, r.Members[east], suspended); len(writes) > 0 {
		t.Errorf("written while suspended: %v", writes)
	}
	suspend(t, r, false)
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		return member.Get(t.Context(), client.ObjectKeyFromObject(config), config)
	}))
}

// renamed is what the member westus-1 is called after testRename.
const renamed = "westus-2"

func testRename(t *testing.T, r *rig.Rig) {
	member, err := r.ClientOf(west)
	check(t, err)
	var ca corev1.Secret
	check(t, member.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "cacerts"}, &ca))
	peer, err := r.ClientOf(east)
	check(t, err)
	credential := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "istio-remote-secret-" + west}}
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		return peer.Get(t.Context(), client.ObjectKeyFromObject(credential), credential)
	}))
	start := time.Now()
	check(t, r.Repository.Replace(memberFile(west), "name: "+west+"\n  labels", "name: "+renamed+"\n  labels"))
	commit := push(t, r, "Rename "+west)
	check(t, r.WaitApplied(t.Context(), commit, 2*time.Minute))
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		if _, err := r.Member(t.Context(), west); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the old Member is still there (%w)", cmp.Or(err, errStill))
		}
		return nil
	}))
	for _, write := range ours(t, r.Members[west], start) {
		if write.Verb == "delete" || write.Verb == "deletecollection" {
			t.Errorf("a rename deleted: %+v", write)
		}
	}
	uid := ca.UID
	check(t, member.Get(t.Context(), client.ObjectKeyFromObject(&ca), &ca))
	if ca.UID != uid {
		t.Error("the CA was away for a moment")
	}
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		if err := peer.Get(t.Context(), client.ObjectKeyFromObject(credential), credential); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the peer still has the credential of the old name (%w)", cmp.Or(err, errStill))
		}
		return nil
	}))
}

func testGone(t *testing.T, r *rig.Rig) {
	// Nobody listens there.
	gone := regexp.MustCompile(`(?m)server: .*$`).ReplaceAll(r.Members[west].Kubeconfig(), []byte("server: https://127.0.0.1:1"))
	check(t, r.SetKubeconfig(t.Context(), west, gone))
	check(t, r.Repository.Remove(memberFile(west)))
	waitIdle(t, r) // the anchor of the name before goes after its Member
	start := time.Now()
	push(t, r, "Remove "+renamed)
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		m, err := r.Member(t.Context(), renamed)
		if err != nil {
			return err
		}
		if ready := rig.Condition(m.Status.Conditions, "Ready"); !strings.Contains(ready, "leaving: ") || !strings.Contains(ready, "isthmus.dev/leave=Orphan") {
			return fmt.Errorf("the Member does not say what to do: %s", ready)
		}
		return nil
	}))
	// Others are not held up.
	check(t, r.Repository.Write("README.md", "while a member is away\n"))
	commit := push(t, r, "Go on without it")
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		m, err := r.Member(t.Context(), east)
		if err == nil && !strings.HasSuffix(m.Status.AppliedRevision, commit) {
			err = fmt.Errorf("%s is at %s", east, m.Status.AppliedRevision)
		}
		return err
	}))
	m, err := r.Member(t.Context(), renamed)
	check(t, err)
	before := m.DeepCopy()
	m.Annotations = map[string]string{reconciler.LeaveAnnotation: "Orphan"}
	check(t, r.HubClient.Patch(t.Context(), m, client.MergeFrom(before)))
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		if _, err := r.Member(t.Context(), renamed); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Member is still there (%w)", cmp.Or(err, errStill))
		}
		return nil
	}))
	if writes := ours(t, r.Members[west], start); len(writes) > 0 {
		t.Errorf("an orphan was touched: %v", writes)
	}
}

func testLastMember(t *testing.T, r *rig.Rig) {
	check(t, r.Repository.Remove(memberFile(east)))
	push(t, r, "Remove "+east)
	check(t, r.WaitFleet(t.Context(), time.Minute, "Ready", metav1.ConditionFalse, "DeletionGuard"))
	m, err := r.Member(t.Context(), east)
	check(t, err)
	if !m.DeletionTimestamp.IsZero() {
		t.Error("the last member leaves without the guard's word")
	}
}
