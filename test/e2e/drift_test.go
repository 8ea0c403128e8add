package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const meshConfig = "ConfigMap " + system + "/istio"

// edit changes the mesh config of a member under a name.
func edit(ctx context.Context, member client.Client, manager string, n int) error {
	config := &corev1.ConfigMap{}
	config.Namespace, config.Name = system, "istio"
	return member.Patch(ctx, config, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"data":{"mesh":"edit %d"}}`, n)), client.FieldOwner(manager))
}

// untouched reports an error while the mesh config of a member is not ours.
func untouched(ctx context.Context, member client.Client) error {
	var config corev1.ConfigMap
	if err := member.Get(ctx, client.ObjectKey{Namespace: system, Name: "istio"}, &config); err != nil {
		return err
	}
	if strings.HasPrefix(config.Data["mesh"], "edit ") {
		return fmt.Errorf("%s is %q", meshConfig, config.Data["mesh"])
	}
	return nil
}

// told reports an error until the hub has an event of a reason about a member.
func told(ctx context.Context, r *rig.Rig, member, reason, part string) error {
	var events corev1.EventList
	if err := r.HubClient.List(ctx, &events, client.InNamespace(rig.Namespace)); err != nil {
		return err
	}
	for _, event := range events.Items {
		if event.InvolvedObject.Name == member && event.Reason == reason && strings.Contains(event.Message, part) {
			return nil
		}
	}
	return fmt.Errorf("no event %s about %s with %q", reason, member, part)
}

func driftOf(ctx context.Context, r *rig.Rig, member string) v1alpha1.DriftStatus {
	m, err := r.Member(ctx, member)
	if err != nil || m.Status.Drift == nil {
		return v1alpha1.DriftStatus{}
	}
	return *m.Status.Drift
}

// testReported has one member whose drift is left as it is: it is said who did
// what, and put back when the fleet says so again. The other member's is put
// back all the while.
func testReported(t *testing.T, r *rig.Rig) {
	ctx := t.Context()
	const said = "\n  drift: {mode: Report}\n"
	check(t, r.Repository.Replace(memberFile(west), "\n  location: westus\n", "\n  location: westus\n"+said))
	check(t, r.WaitApplied(ctx, push(t, r, "Report the drift of "+west), time.Minute))
	members := map[string]client.Client{}
	for _, name := range names(r) {
		member, err := r.ClientOf(name)
		check(t, err)
		check(t, edit(ctx, member, "kubectl-edit", 1))
		members[name] = member
	}
	check(t, rig.Eventually(ctx, time.Minute, func() error { return untouched(ctx, members[east]) }))
	check(t, rig.Eventually(ctx, time.Minute, func() error {
		drift := driftOf(ctx, r, west)
		if len(drift.Reported) == 1 && drift.Reported[0] == (v1alpha1.DriftedObject{Object: meshConfig, By: "kubectl-edit"}) {
			return nil
		}
		return fmt.Errorf("reported: %v", drift.Reported)
	}))
	check(t, told(ctx, r, west, reconciler.ReasonDriftReported, "edited by kubectl-edit at "))
	if untouched(ctx, members[west]) == nil {
		t.Error("reported drift was put back")
	}
	check(t, r.Repository.Replace(memberFile(west), said, ""))
	push(t, r, "Correct the drift of "+west)
	check(t, rig.Eventually(ctx, time.Minute, func() error {
		if drift := driftOf(ctx, r, west); len(drift.Reported) > 0 {
			return fmt.Errorf("still reported: %v", drift.Reported)
		}
		return untouched(ctx, members[west])
	}))
}

// testRival has somebody who changes an object ten times a second: it is put
// back a bounded number of times, the rival is named, and when it stops the
// object is ours again.
func testRival(t *testing.T, r *rig.Rig) {
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	member, err := r.ClientOf(east)
	check(t, err)
	began := time.Now()
	var rival sync.WaitGroup
	rival.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			_ = edit(ctx, member, "rival", n)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	contested := rig.Eventually(t.Context(), 20*time.Second, func() error {
		drift := driftOf(t.Context(), r, east)
		if slices.Contains(drift.Contested, v1alpha1.DriftedObject{Object: meshConfig, By: "rival"}) {
			return nil
		}
		return fmt.Errorf("contested: %v", drift.Contested)
	})
	rival.Wait()
	check(t, contested)
	check(t, told(t.Context(), r, east, reconciler.ReasonDriftContested, "rival keeps changing "+meshConfig))
	var writes int
	for _, write := range ours(t, r.Members[east], began) {
		if write.Resource == "configmaps" && write.Name == "istio" {
			writes++
		}
	}
	// Eleven at once if nobody disturbed it before, then after 2, 4 and 8 seconds.
	if writes < 2 || writes > 18 {
		t.Errorf("%d writes against a rival in %s, want 2 to 18", writes, time.Since(began).Round(time.Second))
	}
	check(t, rig.Eventually(t.Context(), time.Minute, func() error { return untouched(t.Context(), member) }))
}

// testTrustMeanwhile deletes the CA of a member while a delivery waits for an
// istiod that will not start: it is back before that ends.
func testTrustMeanwhile(t *testing.T, r *rig.Rig) {
	ctx := t.Context()
	const stuck = `
  patches:
  - target: {kind: Deployment, name: istiod}
    patch: |
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: istiod}
      spec: {template: {spec: {nodeSelector: {nowhere: "true"}}}}
`
	check(t, r.Repository.Replace(memberFile(east), "\n  location: eastus\n", "\n  location: eastus\n"+stuck))
	push(t, r, "An istiod that fits nowhere")
	waits := func() error {
		m, err := r.Member(ctx, east)
		if err != nil {
			return err
		}
		if said := rig.Condition(m.Status.Conditions, "Ready"); !strings.Contains(said, "waiting for Deployment "+system+"/istiod") {
			return fmt.Errorf("%s", said)
		}
		return nil
	}
	check(t, rig.Eventually(ctx, time.Minute, waits))
	member, err := r.ClientOf(east)
	check(t, err)
	ca := &corev1.Secret{}
	ca.Namespace, ca.Name = system, "cacerts"
	check(t, member.Delete(ctx, ca))
	check(t, rig.Eventually(ctx, 30*time.Second, func() error { return member.Get(ctx, client.ObjectKeyFromObject(ca), ca) }))
	check(t, waits())
	check(t, rig.Eventually(ctx, 30*time.Second, func() error {
		return told(ctx, r, east, reconciler.ReasonTrustMaterialChanged, "put back Secret "+system+"/cacerts: deleted")
	}))
	check(t, r.Repository.Replace(memberFile(east), stuck, ""))
	commit := push(t, r, "An istiod that fits again")
	check(t, r.WaitApplied(ctx, commit, 2*time.Minute))
}
