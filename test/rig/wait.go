package rig

import (
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Fleet reads the Fleet object.
func (r *Rig) Fleet(ctx context.Context) (*v1alpha1.Fleet, error) {
	var f v1alpha1.Fleet
	return &f, r.HubClient.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: FleetName}, &f)
}

// Member reads a Member object.
func (r *Rig) Member(ctx context.Context, name string) (*v1alpha1.Member, error) {
	var m v1alpha1.Member
	return &m, r.HubClient.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: name}, &m)
}

// Request asks for a look at the repository now, as "flux reconcile" does.
func (r *Rig) Request(ctx context.Context) error {
	f, err := r.Fleet(ctx)
	if err != nil {
		return err
	}
	before := f.DeepCopy()
	metav1.SetMetaDataAnnotation(&f.ObjectMeta, meta.ReconcileRequestAnnotation, time.Now().Format(time.RFC3339Nano))
	return r.HubClient.Patch(ctx, f, client.MergeFrom(before))
}

// WaitApplied waits until the fleet reports a commit as applied everywhere.
func (r *Rig) WaitApplied(ctx context.Context, commit string, timeout time.Duration) error {
	return Eventually(ctx, timeout, func() error {
		f, err := r.Fleet(ctx)
		if err != nil {
			return err
		}
		if f.Status.AppliedRevision == "main@sha1:"+commit && apimeta.IsStatusConditionTrue(f.Status.Conditions, meta.ReadyCondition) {
			return nil
		}
		return fmt.Errorf("fleet: %s", Condition(f.Status.Conditions, meta.ReadyCondition))
	})
}

// WaitFleet waits for a condition of the fleet.
func (r *Rig) WaitFleet(ctx context.Context, timeout time.Duration, kind string, s metav1.ConditionStatus, reason string) error {
	return Eventually(ctx, timeout, func() error {
		f, err := r.Fleet(ctx)
		if err != nil {
			return err
		}
		return expect("fleet", f.Status.Conditions, kind, s, reason)
	})
}

// WaitMember waits for a condition of a member.
func (r *Rig) WaitMember(ctx context.Context, name string, timeout time.Duration, kind string, s metav1.ConditionStatus, reason string) error {
	return Eventually(ctx, timeout, func() error {
		m, err := r.Member(ctx, name)
		if err != nil {
			return err
		}
		return expect("member "+name, m.Status.Conditions, kind, s, reason)
	})
}

func expect(what string, conditions []metav1.Condition, kind string, s metav1.ConditionStatus, reason string) error {
	c := apimeta.FindStatusCondition(conditions, kind)
	if c != nil && c.Status == s && c.Reason == reason {
		return nil
	}
	return fmt.Errorf("%s: %s, want %s=%s/%s", what, Condition(conditions, kind), kind, s, reason)
}

// Condition prints one condition in a line.
func Condition(conditions []metav1.Condition, kind string) string {
	c := apimeta.FindStatusCondition(conditions, kind)
	if c == nil {
		return "no condition " + kind
	}
	return fmt.Sprintf("%s=%s/%s: %s", kind, c.Status, c.Reason, c.Message)
}
