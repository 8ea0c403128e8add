package reconciler

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/shard"
)

// memberWork and fleetWork name the pieces of work that replicas share: to lead a
// fleet is one, each of its members is another.
func memberWork(name string) string { return "member/" + name }
func fleetWork(name string) string  { return "fleet/" + name }

// wakes carries what is to be looked at again, beside what the hub says.
type wakes struct {
	fleets, members chan event.GenericEvent
}

func newWakes() *wakes {
	return &wakes{fleets: make(chan event.GenericEvent, 64), members: make(chan event.GenericEvent, 1024)}
}

func (w *wakes) member(name types.NamespacedName) {
	w.members <- event.GenericEvent{Object: &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}}
}

func (w *wakes) fleet(name types.NamespacedName) {
	w.fleets <- event.GenericEvent{Object: &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}}
}

// newReplica makes this process one of several; nil where it is to be alone. Its
// client is its own: nothing may hold up the renewal of a Lease.
func newReplica(hub *rest.Config, o Options, vault string) (*shard.Replica, error) {
	if !o.LeaderElection {
		return nil, nil
	}
	hub = rest.CopyConfig(hub)
	hub.QPS = -1
	leases, err := coordinationclient.NewForConfig(hub)
	if err != nil {
		return nil, err
	}
	return shard.New(leases.Leases(o.Namespace), shard.Options{Name: o.Replica, Shared: vault}), nil
}

// addReplica takes part beside the others, and looks at everything again when
// what is ours has changed.
func addReplica(manager ctrl.Manager, o Options, wakes *wakes, replica *shard.Replica) error {
	if replica == nil {
		return nil
	}
	log := o.Log.WithValues("replica", replica.Name())
	run := func(ctx context.Context) error {
		err := replica.Run(ctx, func(err error) { log.Info("the Lease is not up to date", "error", err.Error()) })
		if errors.Is(err, shard.ErrStranger) {
			return fmt.Errorf("%w: they have different vaults and would make different CAs: give all replicas the same folder (--vault)", err)
		}
		return err
	}
	again := func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-replica.Changed():
				if err := wakes.all(ctx, manager.GetClient(), o.Namespace); err != nil {
					log.Info("list what is to be looked at again", "error", err.Error())
				}
			}
		}
	}
	return errors.Join(manager.Add(ctrlmanager.RunnableFunc(run)), manager.Add(ctrlmanager.RunnableFunc(again)))
}

// all wakes every fleet and member of a namespace.
func (w *wakes) all(ctx context.Context, hub client.Client, namespace string) error {
	var fleets v1alpha1.FleetList
	var members v1alpha1.MemberList
	err := errors.Join(hub.List(ctx, &fleets, client.InNamespace(namespace)), hub.List(ctx, &members, client.InNamespace(namespace)))
	for i := range fleets.Items {
		w.fleet(client.ObjectKeyFromObject(&fleets.Items[i]))
	}
	for i := range members.Items {
		w.member(client.ObjectKeyFromObject(&members.Items[i]))
	}
	return err
}

// Reconcile gives one member its turn, if it is ours; members do not wait for
// each other.
func (r *memberReconciler) Reconcile(ctx context.Context, request reconcile.Request) (ctrl.Result, error) {
	if !r.replica.Owns(memberWork(request.Name)) {
		r.leaveToOthers(request)
		return ctrl.Result{}, nil
	}
	ctx, turn, ok := r.lanes.enter(ctx, request.NamespacedName)
	if !ok {
		return ctrl.Result{RequeueAfter: laneRetry()}, nil
	}
	failed := true
	defer func() { turn.leave(failed) }()
	ctx, leave, err := r.replica.Enter(ctx, memberWork(request.Name))
	if err != nil {
		r.leaveToOthers(request)
		return ctrl.Result{}, nil
	}
	defer leave()
	result, err := r.reconcile(ctx, request)
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, shard.ErrNotOurs):
		r.leaveToOthers(request)
		return ctrl.Result{}, nil
	case errors.Is(cause, errTurnOver):
		return ctrl.Result{RequeueAfter: laneRetry()}, nil
	}
	failed = err != nil
	return result, err
}

// leaveToOthers drops what this process knows of a member that another replica
// works on. When the member comes back we are woken.
func (r *memberReconciler) leaveToOthers(request reconcile.Request) {
	if r.connections.drop(request.NamespacedName) {
		forgetMember(request.Name)
	}
}
