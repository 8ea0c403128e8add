package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

const (
	// LeasePrefix of the names of all replicas' Leases.
	LeasePrefix = "isthmus-replica-"
	// replicaLabel is on all replicas' Leases.
	replicaLabel = "isthmus.dev/replica"
	// viewAnnotation is the view that a replica acts on; empty for none yet.
	viewAnnotation = "isthmus.dev/view"
	// sharedAnnotation is what all replicas must have in common.
	sharedAnnotation = "isthmus.dev/vault"
)

// ErrStranger says that a replica lacks what all others have in common.
var ErrStranger = errors.New("does not share what all replicas have to share")

// Leases is what is needed of a client of the hub's Leases. Answers of List must
// not come from a cache.
type Leases interface {
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
	List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error)
}

// Options of a replica. The zero value is usable.
type Options struct {
	// Name of the replica, such as its pod's; the Lease's has random letters after
	// it, since a process that starts anew is another replica.
	Name string
	// Shared names what all replicas must have in common.
	Shared string
	// Duration after which others take a Lease that was not renewed for expired.
	// Zero: 15 seconds.
	Duration time.Duration
	// Deadline after which a replica that could not renew stops by itself; it must
	// be well below Duration. Zero: 10 seconds.
	Deadline time.Duration
	// Renew is how often the Lease is renewed. Zero: 5 seconds.
	Renew time.Duration
	// Look is how often the other Leases are read. Zero: 2 seconds.
	Look time.Duration
	// Now is the clock, which must have monotonic readings. Nil: [time.Now].
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	o.Duration = cmp.Or(o.Duration, 15*time.Second)
	o.Deadline = cmp.Or(o.Deadline, 10*time.Second)
	o.Renew = cmp.Or(o.Renew, 5*time.Second)
	o.Look = cmp.Or(o.Look, 2*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

const (
	// callTimeout of one call to the hub: several fit into the deadline.
	callTimeout = 3 * time.Second
	// settling is how soon the Leases are read again while replicas do not agree.
	settling = 250 * time.Millisecond
	// drainTimeout is how long a stop waits for work to end before the Lease is
	// left to expire.
	drainTimeout = 25 * time.Second
)

// Replica is one of several processes that share work.
type Replica struct {
	leases  Leases
	options Options
	now     func() time.Time
	name    string
	changed chan struct{}

	// What follows is of the goroutine that runs.
	peers     *peers
	own       *coordinationv1.Lease // nil before it is made
	published string                // the view that is surely in it, empty for none
	renewed   time.Time

	mu       sync.Mutex
	rights   rights
	jobs     map[*job]struct{}
	watchdog *time.Timer
}

// New returns a replica, which holds nothing before Run.
func New(leases Leases, o Options) *Replica {
	o = o.withDefaults()
	name := LeasePrefix + leaseName(o.Name) + rand.String(5)
	return &Replica{
		leases: leases, options: o, now: o.Now, name: name,
		changed: make(chan struct{}, 1),
		peers:   newPeers(o.Duration), rights: rights{self: name}, jobs: map[*job]struct{}{},
	}
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// leaseName makes a part of a Lease's name of a name of a host.
func leaseName(name string) string {
	name = strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if len(name) > 63 {
		name = strings.Trim(name[:63], "-")
	}
	if name == "" {
		return ""
	}
	return name + "-"
}

// Name of the replica, which is that of its Lease.
func (r *Replica) Name() string { return r.name }

// Changed is sent to when what the replica may work on has changed.
func (r *Replica) Changed() <-chan struct{} { return r.changed }

// Ready returns why the replica does not take part in the work now, or nil.
func (r *Replica) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.rights.held(r.now()):
		return errors.New("the Lease of this replica is not held: is the hub's API server away?")
	case len(r.rights.chain) == 0:
		return errors.New("the replicas have not agreed yet on who does what")
	}
	return nil
}

// Run takes part until ctx ends; then it stops all work, waits for its end and
// releases the Lease. Faults of the hub are lived through: report is told of
// them. An error wraps [ErrStranger].
func (r *Replica) Run(ctx context.Context, report func(error)) error {
	defer r.release(context.WithoutCancel(ctx))
	for {
		err := r.tick(ctx)
		if errors.Is(err, ErrStranger) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			report(err)
		}
		pause := r.options.Look
		if err != nil || !r.settled() {
			pause = settling
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (r *Replica) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rights.agreed
}

// tick holds the Lease and looks at those of the others.
func (r *Replica) tick(ctx context.Context) error {
	if err := r.hold(ctx); err != nil {
		return err
	}
	return r.look(ctx)
}

// hold renews the Lease when that is due. One that was lost is taken anew, and
// not before all work has ended.
func (r *Replica) hold(ctx context.Context) error {
	r.mu.Lock()
	held := r.rights.held(r.now())
	if !held {
		r.rights.lose()
	}
	ending := r.stop()
	r.mu.Unlock()
	switch {
	case held && r.now().Sub(r.renewed) < r.options.Renew:
		return nil
	case held:
		_, err := r.write(ctx, r.published)
		return err
	case len(ending) > 0:
		return nil
	}
	sent, err := r.write(ctx, "")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rights.joined(sent, r.options.Deadline)
	r.watch()
	return nil
}

// look reads all Leases and acts on who is there.
func (r *Replica) look(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	asked := r.now()
	list, err := r.leases.List(call, metav1.ListOptions{LabelSelector: replicaLabel})
	if err != nil {
		return fmt.Errorf("list the Leases of replicas: %w", err)
	}
	r.peers.observe(list.Items, r.now())
	if !r.adopt(list.Items) {
		r.lose()
		return nil
	}
	r.forget(call, asked)
	v := viewOf(append(r.peers.live(asked), r.name))
	if stranger := r.peers.stranger(v, r.options.Shared); stranger != "" && r.joining() {
		return fmt.Errorf("this replica and %q: %w", stranger, ErrStranger)
	}
	if !r.see(v) {
		return nil
	}
	if r.published != v.hash() {
		_, err := r.write(ctx, v.hash())
		return err
	}
	if r.peers.agreed(v) {
		r.agree(v)
	}
	return nil
}

// adopt takes over our Lease as it is listed; false when it is not there.
func (r *Replica) adopt(leases []coordinationv1.Lease) bool {
	for i := range leases {
		if leases[i].Name == r.name {
			r.own = &leases[i]
			return true
		}
	}
	r.own = nil
	return false
}

// lose gives all work up: the next tick joins anew.
func (r *Replica) lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rights.lose()
	r.stop()
	r.tell()
}

func (r *Replica) joining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rights.chain) == 0
}

// see takes the view, and says whether nothing runs any more that is not ours in
// it.
func (r *Replica) see(v view) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rights.held(r.now()) {
		return false
	}
	if r.rights.current.hash() != v.hash() {
		r.rights.see(v)
		r.tell()
	}
	return len(r.stop()) == 0
}

func (r *Replica) agree(v view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rights.agreed || !r.rights.held(r.now()) || r.rights.current.hash() != v.hash() {
		return
	}
	r.rights.agree()
	r.tell()
}

// tell says that rights have changed; r.mu is held.
func (r *Replica) tell() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// write renews the Lease with a view in it, and returns when that was sent.
func (r *Replica) write(ctx context.Context, hash string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	want := r.lease(hash)
	sent := r.now()
	var (
		got *coordinationv1.Lease
		err error
	)
	if r.own == nil {
		got, err = r.leases.Create(ctx, want, metav1.CreateOptions{})
	} else {
		got, err = r.leases.Update(ctx, want, metav1.UpdateOptions{})
	}
	if err != nil {
		if hash != r.published {
			// It may be taken later. Until a write of ours has made that impossible,
			// which view others will read is not known.
			r.published = ""
		}
		return sent, errors.Join(fmt.Errorf("write Lease %q: %w", r.name, err), r.reread(ctx, err))
	}
	r.own, r.published, r.renewed = got, hash, sent
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rights.renewed(sent, r.options.Deadline)
	r.watch()
	return sent, nil
}

// reread finds out what became of our Lease after a write that was refused, or
// that may have been taken though its answer was lost.
func (r *Replica) reread(ctx context.Context, err error) error {
	if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
		return nil
	}
	got, err := r.leases.Get(ctx, r.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		r.own = nil
		r.lose()
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Lease %q: %w", r.name, err)
	}
	r.own = got
	return nil
}

// watch ends all work at the moment when the Lease is not surely held any more,
// whatever the loop waits for; r.mu is held.
func (r *Replica) watch() {
	if r.watchdog != nil {
		r.watchdog.Stop()
	}
	r.watchdog = time.AfterFunc(r.rights.until.Sub(r.now()), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.rights.held(r.now()) {
			return
		}
		r.rights.lose()
		r.stop()
		r.tell()
	})
}

// lease is ours as it is to be. Its times are for people: nobody compares them.
func (r *Replica) lease(hash string) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: r.name}}
	if r.own != nil {
		lease = r.own.DeepCopy()
	}
	lease.Labels = map[string]string{replicaLabel: "true"}
	lease.Annotations = map[string]string{viewAnnotation: hash, sharedAnnotation: r.options.Shared}
	now := metav1.NewMicroTime(r.now())
	if lease.Spec.AcquireTime == nil {
		lease.Spec.AcquireTime = &now
	}
	lease.Spec.HolderIdentity = &r.name
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(max(1, r.options.Duration/time.Second)))
	lease.Spec.RenewTime = &now
	return lease
}

// forget deletes Leases that crashed replicas left behind. That one stays is no
// fault: another replica or the next look deletes it.
func (r *Replica) forget(ctx context.Context, asked time.Time) {
	for _, lease := range r.peers.left(asked) {
		if lease.Name != r.name {
			_ = r.leases.Delete(ctx, lease.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}})
		}
	}
}

// release ends all work and lets the others have it at once. Work that does not
// end keeps the Lease until it expires.
func (r *Replica) release(ctx context.Context) {
	r.mu.Lock()
	held := r.rights.held(r.now())
	r.rights.lose()
	ending := r.stop()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	for _, j := range ending {
		select {
		case <-j.done:
		case <-ctx.Done():
			return
		}
	}
	if !held || r.own == nil {
		return
	}
	ctx, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease := r.lease("")
	lease.Spec.HolderIdentity = ptr.To("")
	_, _ = r.leases.Update(ctx, lease, metav1.UpdateOptions{})
}
