package reconciler

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/webhook"
)

// tokenAge is how long a webhook's token is used before its Secret is read again.
const tokenAge = 30 * time.Second

// hooks let the repositories' servers tell of pushes.
type hooks struct {
	receiver *webhook.Receiver
	address  string
}

// newHooks returns the hooks of a reconciler, nil when it is not to listen.
func newHooks(address string, pushed func(types.NamespacedName)) *hooks {
	if address == "" || address == "0" {
		return nil
	}
	return &hooks{address: address, receiver: webhook.New(webhook.Options{Pushed: pushed, Count: func(result webhook.Result) {
		gitRequests.WithLabelValues("webhook", string(result)).Inc()
	}})}
}

// Start listens until ctx ends.
func (h *hooks) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.address)
	if err != nil {
		return fmt.Errorf("listen for webhooks: %w", err)
	}
	return h.receiver.Serve(ctx, listener)
}

// NeedLeaderElection: every replica listens, since a Service picks any.
func (h *hooks) NeedLeaderElection() bool { return false }

// tokenRead is when the token of a fleet's webhook was read.
type tokenRead struct {
	at         time.Time
	generation int64
}

// listen takes a fleet's webhook over from its spec and returns its path, empty
// when nothing listens there: a Secret that is missing stops the webhook alone.
func (r *fleetReconciler) listen(ctx context.Context, f *v1alpha1.Fleet) string {
	if r.hooks == nil {
		return ""
	}
	key := client.ObjectKeyFromObject(f)
	if f.Spec.Webhook == nil {
		r.deafen(key)
		return ""
	}
	r.mu.Lock()
	read := r.tokens[key]
	r.mu.Unlock()
	if read.generation == f.Generation && r.now().Sub(read.at) < tokenAge {
		return webhook.Path(key)
	}
	var secret corev1.Secret
	name := types.NamespacedName{Namespace: f.Namespace, Name: f.Spec.Webhook.SecretRef.Name}
	err := r.looker.hub.Get(ctx, name, &secret)
	if client.IgnoreNotFound(err) != nil && !read.at.IsZero() {
		return webhook.Path(key) // the hub is busy: the token that was read still counts
	}
	if err != nil || len(secret.Data["token"]) == 0 {
		log.FromContext(ctx).Info("no webhook: its Secret has no key token", "secret", name.Name)
		r.deafen(key)
		return ""
	}
	r.hooks.receiver.Set(key, webhook.Hook{Type: f.Spec.Webhook.Type, Token: secret.Data["token"]})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens[key] = tokenRead{at: r.now(), generation: f.Generation}
	return webhook.Path(key)
}

// deafen forgets a fleet's webhook.
func (r *fleetReconciler) deafen(key types.NamespacedName) {
	if r.hooks == nil {
		return
	}
	r.hooks.receiver.Remove(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tokens, key)
}

// pushedTo makes a fleet's look due: here when this replica leads the fleet, else
// by the annotation with which people ask for one, which wakes the one that does.
func (r *fleetReconciler) pushedTo(key types.NamespacedName) {
	r.mu.Lock()
	led := r.replica == nil || r.led[key]
	if led {
		r.pushed[key] = true
	}
	r.mu.Unlock()
	if led {
		go r.wake(key)
		return
	}
	go r.askLeader(key)
}

// askTimeout of the write that passes a push on.
const askTimeout = 10 * time.Second

func (r *fleetReconciler) askLeader(key types.NamespacedName) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	f := &v1alpha1.Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, meta.ReconcileRequestAnnotation, r.now().Format(time.RFC3339Nano))
	if err := r.Patch(ctx, f, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldManager)); err != nil {
		r.log.Info("cannot pass a push on: it acts at the next look", "fleet", key, "error", err.Error())
	}
}

// takePush is called when a look begins: a push that comes during it is for the
// next.
func (r *fleetReconciler) takePush(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pushed, key)
}

// pushWaits reports whether a push has not been looked at.
func (r *fleetReconciler) pushWaits(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pushed[key]
}
