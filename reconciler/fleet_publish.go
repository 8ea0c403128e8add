package reconciler

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	// fieldManager of everything that isthmus writes, on hub and members.
	fieldManager = "isthmus"
	// fleetLabel on networks and members of the hub names the fleet they are of.
	fleetLabel = "isthmus.dev/fleet"
	// memberFinalizer keeps a Member on the hub until it has left its cluster.
	memberFinalizer = "isthmus.dev/leave"
)

// publish holds the hub's networks and members to the accepted commit: what Git
// has is written, where it differs, and what Git no longer has is deleted. A
// member that is deleted here leaves its cluster first. No object is owned by
// the Fleet: deleting a Fleet must not take the mesh with it.
func (r *fleetReconciler) publish(ctx context.Context, f *v1alpha1.Fleet, a *accepted, now published) *status.Failure {
	networks := a.published()
	for _, network := range networks {
		if failure := publishOne(ctx, r.Client, f, network, &v1alpha1.ApplicationNetwork{}); failure != nil {
			return failure
		}
	}
	for _, member := range a.members {
		if failure := publishOne(ctx, r.Client, f, member, &v1alpha1.Member{}); failure != nil {
			return failure
		}
	}
	for i := range now.members {
		member := &now.members[i]
		if _, stays := a.bundles[member.Name]; stays || !member.DeletionTimestamp.IsZero() {
			continue
		}
		if err := r.Delete(ctx, member); client.IgnoreNotFound(err) != nil {
			return hubFailure("delete Member "+member.Name, err)
		}
	}
	return r.dropNetworks(ctx, f, networks)
}

// dropNetworks deletes the networks that do not stay, once their last
// member has left: the member needs its network until then.
func (r *fleetReconciler) dropNetworks(ctx context.Context, f *v1alpha1.Fleet, stay []*v1alpha1.ApplicationNetwork) *status.Failure {
	now, failure := r.published(ctx, f)
	if failure != nil {
		return failure
	}
	for i := range now.networks {
		network := &now.networks[i]
		inUse := slices.ContainsFunc(now.members, func(m v1alpha1.Member) bool { return m.Spec.ApplicationNetwork == network.Name })
		stays := slices.ContainsFunc(stay, func(n *v1alpha1.ApplicationNetwork) bool { return n.Name == network.Name })
		if stays || inUse {
			continue
		}
		if err := r.Delete(ctx, network); client.IgnoreNotFound(err) != nil {
			return hubFailure("delete ApplicationNetwork "+network.Name, err)
		}
	}
	return nil
}

// publishOne writes one object of Git to the hub unless it is there already.
// live is an empty object of the same type.
func publishOne(ctx context.Context, hub client.Client, f *v1alpha1.Fleet, want, live client.Object) *status.Failure {
	kind := kindOf(want)
	err := hub.Get(ctx, client.ObjectKey{Namespace: f.Namespace, Name: want.GetName()}, live)
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return hubFailure("read "+kind+" "+want.GetName(), err)
	case err == nil && live.GetLabels()[fleetLabel] != "" && live.GetLabels()[fleetLabel] != f.Name:
		return &status.Failure{Reason: status.ReasonInvalidFleet, Stalled: true,
			Message: fmt.Sprintf("%s %q belongs to the fleet %q: rename one of the two", kind, want.GetName(), live.GetLabels()[fleetLabel])}
	}
	if live.GetUID() != "" && plainlyHolds(f, live, want) {
		return nil
	}
	desired, err := onHub(f, want)
	if err != nil {
		return hubFailure("build "+kind+" "+want.GetName(), err)
	}
	if live.GetUID() != "" {
		same, err := holds(live, desired)
		if err != nil {
			return hubFailure("compare "+kind+" "+want.GetName(), err)
		}
		if same {
			return nil
		}
	}
	err = hub.Apply(ctx, client.ApplyConfigurationFromUnstructured(desired), client.FieldOwner(fieldManager), client.ForceOwnership)
	if err != nil {
		return hubFailure("write "+kind+" "+want.GetName(), err)
	}
	return nil
}

// onHub is what the hub is to have of an object of Git.
func onHub(f *v1alpha1.Fleet, want client.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return nil, err
	}
	labels := map[string]any{fleetLabel: f.Name}
	for key, value := range want.GetLabels() {
		labels[key] = value
	}
	metadata := map[string]any{"name": want.GetName(), "namespace": f.Namespace, "labels": labels}
	if annotations := want.GetAnnotations(); len(annotations) > 0 {
		values := map[string]any{}
		for key, value := range annotations {
			values[key] = value
		}
		metadata["annotations"] = values
	}
	kind := kindOf(want)
	if kind == v1alpha1.MemberKind {
		metadata["finalizers"] = []any{memberFinalizer}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       kind,
		"metadata":   metadata,
		"spec":       content["spec"],
	}}, nil
}

// plainlyHolds is what holds mostly finds out, told without taking both objects
// apart: of a thousand members, several times for each commit, that would cost more
// than all else. A spec that differs in no more than how it is written is left to holds.
func plainlyHolds(f *v1alpha1.Fleet, live, want client.Object) bool {
	switch live := live.(type) {
	case *v1alpha1.Member:
		of, ok := want.(*v1alpha1.Member)
		if !ok || !equality.Semantic.DeepEqual(live.Spec, of.Spec) || !slices.Contains(live.Finalizers, memberFinalizer) {
			return false
		}
	case *v1alpha1.ApplicationNetwork:
		of, ok := want.(*v1alpha1.ApplicationNetwork)
		if !ok || !equality.Semantic.DeepEqual(live.Spec, of.Spec) {
			return false
		}
	default:
		return false
	}
	return live.GetLabels()[fleetLabel] == f.Name &&
		contains(live.GetLabels(), want.GetLabels()) && contains(live.GetAnnotations(), want.GetAnnotations())
}

// holds reports whether the hub already has the object: the same spec, and at
// least the labels, annotations and finalizers that we write.
func holds(live client.Object, want *unstructured.Unstructured) (bool, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return false, err
	}
	if !equality.Semantic.DeepEqual(content["spec"], want.Object["spec"]) {
		return false, nil
	}
	for _, finalizer := range want.GetFinalizers() {
		if !slices.Contains(live.GetFinalizers(), finalizer) {
			return false, nil
		}
	}
	return contains(live.GetLabels(), want.GetLabels()) && contains(live.GetAnnotations(), want.GetAnnotations()), nil
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if got, ok := all[key]; !ok || got != value {
			return false
		}
	}
	return true
}

func kindOf(object client.Object) string {
	switch object.(type) {
	case *v1alpha1.ApplicationNetwork:
		return v1alpha1.ApplicationNetworkKind
	case *v1alpha1.Member:
		return v1alpha1.MemberKind
	}
	return v1alpha1.FleetKind
}

// published returns what the hub has of a fleet, sorted by name. The members are
// the cache's own and only to be read: copies of a thousand, several times for
// each summary, would cost more than all else of it.
func (r *fleetReconciler) published(ctx context.Context, f *v1alpha1.Fleet) (published, *status.Failure) {
	ofFleet := []client.ListOption{client.InNamespace(f.Namespace), client.MatchingLabels{fleetLabel: f.Name}}
	var members v1alpha1.MemberList
	if err := r.List(ctx, &members, append(slices.Clone(ofFleet), client.UnsafeDisableDeepCopy)...); err != nil {
		return published{}, hubFailure("list Members", err)
	}
	var networks v1alpha1.ApplicationNetworkList
	if err := r.List(ctx, &networks, ofFleet...); err != nil {
		return published{}, hubFailure("list ApplicationNetworks", err)
	}
	slices.SortFunc(members.Items, func(a, b v1alpha1.Member) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(networks.Items, func(a, b v1alpha1.ApplicationNetwork) int { return strings.Compare(a.Name, b.Name) })
	return published{networks: networks.Items, members: members.Items}, nil
}
