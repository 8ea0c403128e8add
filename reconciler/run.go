package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/fluxcd/pkg/runtime/predicates"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/shard"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/keyvault"
)

// DefaultNamespace of the hub in which Fleets, Members and kubeconfigs live.
const DefaultNamespace = "isthmus-system"

// Options of a reconciler. The zero value is usable.
type Options struct {
	// Namespace of the hub to work in. Empty: [DefaultNamespace].
	Namespace string
	// VaultDirectory holds the CAs of networks whose vault is a Directory. Empty:
	// there are none.
	VaultDirectory string
	// VaultIdentity is a file with an age identity, for a VaultDirectory whose keys
	// and documents are encrypted by it. Empty: they are not.
	VaultIdentity string
	// LeafLife is for tests of rotations alone: what the replacement of a root takes
	// for the life of workloads' certificates, in place of spec.trust.workload. Who
	// sets it sees to it that no certificate lives longer. Zero: the fleet's.
	LeafLife time.Duration
	// KeyVault says how Azure Key Vaults are spoken to, but for which and as whom,
	// which networks say. The zero value is right outside of tests.
	KeyVault keyvault.Options
	// CacheDirectory holds copies of repositories, charts and CRDs; it may be lost
	// at any time.
	CacheDirectory string
	// ModuleProxy is where the Gateway API comes from, as GOPROXY has it; empty
	// for none.
	ModuleProxy string
	// RegistryConfig is a docker config.json with credentials for registries of
	// charts; empty means that all are read anonymously.
	RegistryConfig string
	// MetricsAddress and HealthAddress to listen on; "0" means not at all.
	MetricsAddress, HealthAddress string
	// WebhookAddress to listen on for webhooks of repositories; empty or "0" means
	// not at all.
	WebhookAddress string
	// LeaderElection lets several reconcilers share the work, by Leases on the hub.
	// Without it this one does all work, and no other may run.
	LeaderElection bool
	// Replica names this process among them, such as its pod's name: in Leases,
	// and in the user agent that members see. Empty for no name.
	Replica string
	// Version of this isthmus, such as "v0.4.0".
	Version string
	// Concurrency is how many members are worked on at once, those aside whose
	// turns take long: of these there are up to four times as many. Zero: 16.
	Concurrency int
	// FullCompare is the interval at which every kind of a member is listed to compare
	// every object, a safety net below the watches; up to a tenth longer by chance.
	// Zero: 20 minutes, about one request a minute for each member.
	FullCompare time.Duration
	// Member says how members may be reached.
	Member member.Options
	// Log is told what happens.
	Log logr.Logger
}

// Run follows the fleets of one namespace of the hub until ctx ends, then stops
// what is under way and lets other replicas have it. An error may wrap
// [ErrStateTooNew] or [shard.ErrStranger]: then this process must not work here.
func Run(ctx context.Context, hub *rest.Config, o Options) error {
	o.Namespace = cmp.Or(o.Namespace, DefaultNamespace)
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.FullCompare = cmp.Or(o.FullCompare, 20*time.Minute)
	if o.Replica != "" {
		o.Member.UserAgent = cmp.Or(o.Member.UserAgent, member.DefaultUserAgent+"/"+o.Replica)
	}
	vault, identity, err := openDirectory(ctx, o.VaultDirectory, o.VaultIdentity)
	if err != nil {
		return fmt.Errorf("open vault: %w", err)
	}
	replica, err := newReplica(hub, o, identity)
	if err != nil {
		return fmt.Errorf("prepare the Leases: %w", err)
	}
	hub = rest.CopyConfig(hub)
	hub.Wrap(func(next http.RoundTripper) http.RoundTripper { return lenient{next: next, log: o.Log} })
	manager, err := newManager(hub, o, replica)
	if err != nil {
		return fmt.Errorf("prepare the hub's clients: %w", err)
	}
	state := &hubState{hub: manager.GetClient(), live: manager.GetAPIReader(), namespace: o.Namespace, version: StateVersion, binary: o.Version}
	if err := state.settle(ctx, o.Log); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := manager.Add(ctrlmanager.RunnableFunc(state.watch)); err != nil {
		return err
	}
	store := newStore()
	wakes := newWakes()
	access := newAccess(manager, o)
	ledger := newLedger(newVaults(vault, o, access), o, wakes)
	if err := addLedger(ctx, manager, ledger); err != nil {
		return fmt.Errorf("watch members: %w", err)
	}
	if err := addFleets(ctx, manager, o, store, ledger, wakes, replica); err != nil {
		return fmt.Errorf("watch fleets: %w", err)
	}
	if err := addMembers(ctx, manager, o, store, ledger, access, wakes, replica); err != nil {
		return fmt.Errorf("watch members: %w", err)
	}
	if err := addReplica(manager, o, wakes, replica); err != nil {
		return err
	}
	return manager.Start(ctx)
}

// ignoreEnd drops the error of a start that was called off.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// ofServices selects the ConfigMaps that are kept in memory.
var ofServices = func() labels.Selector {
	has, err := labels.NewRequirement(ServicesLabel, selection.Exists, nil)
	if err != nil {
		panic(err) // a constant
	}
	return labels.NewSelector().Add(*has)
}()

func newManager(hub *rest.Config, o Options, replica *shard.Replica) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	hub = rest.CopyConfig(hub)
	// The API server's priority and fairness decide how much it takes; client-go's
	// default of five calls a second would hold up the statuses of a large fleet.
	hub.QPS = -1
	if replica != nil {
		fenced(hub, false)
	}
	manager, err := ctrl.NewManager(hub, ctrl.Options{
		Scheme:                 scheme,
		Logger:                 o.Log,
		Metrics:                server.Options{BindAddress: cmp.Or(o.MetricsAddress, "0")},
		HealthProbeBindAddress: cmp.Or(o.HealthAddress, "0"),
		// Run may be called again in one process, after it has ended.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{o.Namespace: {}},
			ByObject:          map[client.Object]cache.ByObject{&corev1.ConfigMap{}: {Label: ofServices, Transform: cache.TransformStripManagedFields()}},
		},
		// Secrets are read when needed and never kept in memory.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, err
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return manager, manager.AddReadyzCheck("replica", func(*http.Request) error {
		if replica == nil {
			return nil
		}
		return replica.Ready()
	})
}

// openDirectory opens the vault of networks that name no other, and says who it
// is, so that replicas find out whether they have the same. Nil: there is none.
func openDirectory(ctx context.Context, path, ageIdentity string) (trust.Vault, string, error) {
	if path == "" {
		if ageIdentity != "" {
			return nil, "", errors.New("an age identity without a folder that it is for")
		}
		return nil, "", nil
	}
	vault, err := trust.OpenDirectory(path, trust.DirectoryOptions{AgeIdentityFile: ageIdentity})
	if err != nil {
		return nil, "", err
	}
	identity, err := vault.Identity(ctx)
	return vault, identity, err
}

// addLedger keeps the ledger up to date.
func addLedger(ctx context.Context, manager ctrl.Manager, ledger *ledger) error {
	members, err := manager.GetCache().GetInformer(ctx, &v1alpha1.Member{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	if _, err := members.AddEventHandler(ledger.handler()); err != nil {
		return err
	}
	networks, err := manager.GetCache().GetInformer(ctx, &v1alpha1.ApplicationNetwork{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	if _, err := networks.AddEventHandler(ledger.turns()); err != nil {
		return err
	}
	return manager.Add(ctrlmanager.RunnableFunc(ledger.run))
}

// addFleets runs the controller of fleets.
func addFleets(ctx context.Context, manager ctrl.Manager, o Options, store *store, ledger *ledger, wakes *wakes, replica *shard.Replica) error {
	r := &fleetReconciler{
		Client: manager.GetClient(),
		events: manager.GetEventRecorderFor("isthmus"), //nolint:staticcheck // SA1019: fluxcd/pkg/runtime still emits core/v1 events.
		looker: looker{hub: manager.GetAPIReader(), renderer: newRenderers(o), cache: filepath.Join(o.CacheDirectory, "git"), now: time.Now},
		store:  store,
		ledger: ledger,
		changed: func(fleet types.NamespacedName, members []string) {
			for _, name := range members {
				wakes.member(types.NamespacedName{Namespace: fleet.Namespace, Name: name})
			}
		},
		replica: replica,
		now:     time.Now,
		next:    map[types.NamespacedName]time.Time{},
		led:     map[types.NamespacedName]bool{},
		last:    map[types.NamespacedName]lastLook{},
		summary: map[types.NamespacedName]time.Time{},
		wake:    wakes.fleet,
		pushed:  map[types.NamespacedName]bool{},
		tokens:  map[types.NamespacedName]tokenRead{},
		log:     o.Log,
	}
	r.forges = newForges(ctx, r.looker.hub, r.events)
	if r.hooks = newHooks(o.WebhookAddress, r.pushedTo); r.hooks != nil {
		if err := manager.Add(r.hooks); err != nil {
			return err
		}
	}
	ofNetwork := func(_ context.Context, object client.Object) []reconcile.Request {
		if request, ok := fleetOfObject(object); ok {
			return []reconcile.Request{request}
		}
		return nil
	}
	return ctrl.NewControllerManagedBy(manager).
		For(&v1alpha1.Fleet{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicates.ReconcileRequestedPredicate{}, predicate.AnnotationChangedPredicate{}, acceptedElsewhere{}))).
		Watches(&v1alpha1.Member{}, r.ofMember()).
		Watches(&v1alpha1.ApplicationNetwork{}, handler.EnqueueRequestsFromMapFunc(ofNetwork), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(wakes.fleets, &handler.EnqueueRequestForObject{})).
		Complete(r)
}

// addMembers runs the controller of members.
func addMembers(ctx context.Context, manager ctrl.Manager, o Options, store *store, ledger *ledger, access *access, wakes *wakes, replica *shard.Replica) error {
	r := newMemberReconciler(ctx, manager, o, store, ledger, access, wakes.members)
	r.replica, r.lanes = replica, newLanes(o.Concurrency)
	r.roster.concerns = func(m *v1alpha1.Member) { r.tellPeers(ctx, m, wakes.member) }
	members, err := manager.GetCache().GetInformer(ctx, &v1alpha1.Member{}, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	events, err := members.AddEventHandler(r.roster.handler())
	if err != nil {
		return err
	}
	r.roster.synced = events.HasSynced
	// A member that fails is retried soon at first, then every two minutes.
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, 2*time.Minute)
	return ctrl.NewControllerManagedBy(manager).
		For(&v1alpha1.Member{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicates.ReconcileRequestedPredicate{}, leaveChanged))).
		Watches(&v1alpha1.Fleet{}, handler.EnqueueRequestsFromMapFunc(r.ofFleet), builder.WithPredicates(suspendChanged)).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.ofKubeconfig)).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.readersOfKubeconfig), builder.WithPredicates(accessChanged)).
		WatchesRawSource(source.Channel(wakes.members, &handler.EnqueueRequestForObject{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.lanes.workers(), RateLimiter: limiter}).
		Complete(r)
}
