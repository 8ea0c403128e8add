package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestPull runs the reconciler inside a member, for that member alone: the other
// one of the fleet does not even exist.
func TestPull(t *testing.T) {
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east}, Pull: east, Istiods: []string{"1.30.4"}, LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	check(t, r.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	commit := push(t, r, "Two members")
	before := objects(t, r)[east]
	settled(t, r, commit)
	t.Run("only its own member is on the hub", func(t *testing.T) { testPullPublishes(t, r) })
	t.Run("drift is put back", func(t *testing.T) {
		member, err := r.ClientOf(east)
		check(t, err)
		_, err = changes[0].cause(t, member)
		check(t, err)
	})
	t.Run("the others are checked all the same", func(t *testing.T) {
		check(t, r.Repository.Replace(memberFile(west), "applicationNetwork: prod", "applicationNetwork: prd"))
		push(t, r, "A mistake in "+west)
		check(t, r.WaitFleet(t.Context(), patience, "Ready", metav1.ConditionFalse, status.ReasonInvalidFleet))
		check(t, r.Repository.Replace(memberFile(west), "applicationNetwork: prd", "applicationNetwork: prod"))
		check(t, r.WaitApplied(t.Context(), push(t, r, "Mended"), patience))
	})
	t.Run("leaving leaves isthmus itself", func(t *testing.T) { testPullLeaves(t, r, before) })
}

func testPullPublishes(t *testing.T, r *rig.Rig) {
	var members v1alpha1.MemberList
	check(t, r.HubClient.List(t.Context(), &members))
	if len(members.Items) != 1 || members.Items[0].Name != east {
		t.Errorf("%d members are on the hub, want %s alone", len(members.Items), east)
	}
	f, err := r.Fleet(t.Context())
	check(t, err)
	if f.Status.Members != 1 || f.Status.ReadyMembers != 1 {
		t.Errorf("the fleet counts %d of %d members", f.Status.ReadyMembers, f.Status.Members)
	}
}

func testPullLeaves(t *testing.T, r *rig.Rig, before []string) {
	check(t, r.Repository.Remove(memberFile(east)))
	push(t, r, "Remove "+east)
	check(t, rig.Eventually(t.Context(), patience, func() error {
		m, err := r.Member(t.Context(), east)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there: %s (%w)", rig.Condition(m.Status.Conditions, "Ready"), err)
	}))
	check(t, r.WaitFleet(t.Context(), patience, "Ready", metav1.ConditionTrue, status.ReasonNoMembers))
	check(t, rig.Eventually(t.Context(), patience, func() error {
		var networks v1alpha1.ApplicationNetworkList
		if err := r.HubClient.List(t.Context(), &networks); err != nil || len(networks.Items) == 0 {
			return err
		}
		return fmt.Errorf("%d networks are still on the hub", len(networks.Items))
	}))
	check(t, r.HubClient.Get(t.Context(), client.ObjectKey{Name: rig.Namespace}, &corev1.Namespace{}))
	check(t, r.HubClient.Get(t.Context(), client.ObjectKey{Name: "fleets.isthmus.dev"}, &apiextensionsv1.CustomResourceDefinition{}))
	for _, object := range added(before, objects(t, r)[east]) {
		if strings.Contains(object, " "+rig.Namespace+"/") ||
			slices.Contains([]string{"namespaces /shop", "serviceaccounts shop/default", "configmaps shop/kube-root-ca.crt"}, object) {
			continue
		}
		t.Errorf("left behind: %s", object)
	}
	for _, object := range before {
		if !slices.Contains(objects(t, r)[east], object) && strings.Contains(object, "isthmus") && !strings.Contains(object, "events ") {
			t.Errorf("taken along: %s", object)
		}
	}
}
