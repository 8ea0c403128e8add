package reconciler

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// soon is when to look again at what a delivery left undone.
const soon = 100 * time.Millisecond

// watchRetry is how soon a watch that ended is started again.
const watchRetry = 5 * time.Second

// connection is one reached member and what this process knows about it. Only
// the member's own reconcile uses it, but for drift, which the watch adds to.
type connection struct {
	name   types.NamespacedName
	member *member.Member
	target *apply.Target
	mesh   apply.Mesh
	// credentials is the version of those that it was made from.
	credentials string

	mu        sync.Mutex
	stopWatch context.CancelFunc
	drifted   map[apply.Subject]time.Time // first seen
	// done is the fingerprint of the set last applied whole by this process.
	done     string
	compared time.Time
	// log of the drift, and the delivery under way; nil for none.
	log   driftLog
	under *underWay
	// identity of the cluster, see identify, and whether its API server may be away.
	identity identity
	doubted  bool
	// proof is when to ask its istiods. Only the member's own reconcile uses it.
	proof proofPace
	// view is when to ask them what they serve.
	view viewPace
	// peers are its credentials for them. Only the member's own reconcile uses it.
	peers peerBook
}

// step is what a member needs.
type step int

const (
	stepNothing step = iota
	stepCorrect
	stepApply
)

// demand is what decides about a step.
type demand struct {
	fingerprint            string
	requestedAt, handledAt string
	waiting                bool
	now                    time.Time
	fullCompare            time.Duration
}

// work is a step and what belongs to it.
type work struct {
	step        step
	fingerprint string
	subjects    []apply.Subject
	// seen is when the oldest of the subjects was reported; zero for none.
	seen time.Time
	// repeat says that the set was applied whole before: what changes now is drift.
	repeat bool
	// full says that the watches are not to be believed this time.
	full           bool
	gatewayTimeout time.Duration
	now            time.Time
}

// due decides what the member needs and takes the drift that was reported.
func (c *connection) due(d demand) work {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := work{fingerprint: d.fingerprint, repeat: c.done == d.fingerprint, now: d.now}
	c.log.contests.settle(d.now)
	w.subjects, w.seen = c.take(d.now)
	w.full = w.repeat && d.now.Sub(c.compared) >= d.fullCompare
	switch {
	case !w.repeat, w.full, d.requestedAt != d.handledAt, d.waiting:
		w.step = stepApply
	case len(w.subjects) > 0:
		w.step = stepCorrect
	}
	if w.repeat {
		// Everything is there but an address: look, do not hold a worker.
		w.gatewayTimeout = time.Second
	}
	return w
}

// take takes the drift that may be corrected now, and when the oldest of it was
// seen. The caller holds mu.
func (c *connection) take(now time.Time) (subjects []apply.Subject, oldest time.Time) {
	for subject, seen := range c.drifted {
		if c.log.contests.held(subject, now) {
			continue
		}
		delete(c.drifted, subject)
		subjects = append(subjects, subject)
		if oldest.IsZero() || seen.Before(oldest) {
			oldest = seen
		}
	}
	return subjects, oldest
}

// takeUnderWay is the delivery under way, and the drift to correct beside it.
func (c *connection) takeUnderWay(now time.Time) (*underWay, []apply.Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.under == nil {
		return nil, nil
	}
	subjects, _ := c.take(now)
	return c.under, subjects
}

func (c *connection) setUnderWay(u *underWay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under = u
}

// holds tells which objects are contested and not to be put back now.
func (c *connection) holds(s apply.Subject) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.contests.held(s, time.Now())
}

// found takes over what a call found.
func (c *connection) found(result apply.Result, repeat bool, now time.Time) (notes []note, reported, contested []v1alpha1.DriftedObject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range result.Changes {
		if change.Action == apply.Left && c.log.contests.held(change.Subject, now) {
			c.drifted[change.Subject] = now // until its time comes
		}
	}
	notes = c.log.take(result, repeat, now)
	return notes, c.log.reported(), c.log.contested()
}

// nextLook is how soon drift that is left needs a look; zero for none.
func (c *connection) nextLook(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject := range c.drifted {
		if !c.log.contests.held(subject, now) {
			return soon
		}
	}
	at := c.log.contests.nextLook(now)
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(now), soon)
}

// applied records that a set was applied whole.
func (c *connection) applied(w work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done, c.compared = w.fingerprint, w.now
}

// redo gives back the drift of work that failed.
func (c *connection) redo(w work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = identity{}
	for _, subject := range w.subjects {
		if _, ok := c.drifted[subject]; !ok {
			c.drifted[subject] = w.seen
		}
	}
}

func (c *connection) drift(subjects []apply.Subject, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, subject := range subjects {
		if _, ok := c.drifted[subject]; !ok {
			c.drifted[subject] = now
		}
	}
}

func (c *connection) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopWatch != nil {
		c.stopWatch()
		c.stopWatch = nil
	}
}

// connections holds the connection of every member.
type connections struct {
	ctx    context.Context // of the process: watches outlive a reconcile
	access *access
	// shared says that other replicas may take members over.
	shared bool
	wake   chan<- event.GenericEvent

	mu  sync.Mutex
	all map[types.NamespacedName]*connection
}

func newConnections(ctx context.Context, access *access, o Options, wake chan<- event.GenericEvent) *connections {
	return &connections{ctx: ctx, access: access, shared: o.LeaderElection, wake: wake, all: map[types.NamespacedName]*connection{}}
}

// get returns the member's connection, made anew when its credentials changed.
func (s *connections) get(ctx context.Context, m *v1alpha1.Member, mesh apply.Mesh) (*connection, *status.Failure) {
	name := client.ObjectKeyFromObject(m)
	s.mu.Lock()
	c := s.all[name]
	s.mu.Unlock()
	if c != nil && c.mesh == mesh && s.access.unchanged(ctx, m, c.credentials) {
		return c, nil
	}
	with, failure := s.access.of(ctx, m)
	if failure != nil {
		return nil, failure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.all[name]; c != nil && c.credentials == with.version && c.mesh == mesh {
		return c, nil
	}
	config, err := with.config()
	if err != nil {
		return nil, memberFailure(err)
	}
	if s.shared {
		fenced(config, true)
	}
	reached, err := member.Connect(config)
	if err != nil {
		return nil, memberFailure(err)
	}
	if old := s.all[name]; old != nil {
		old.close()
		old.member.Close()
	}
	s.all[name] = &connection{
		name: name, member: reached, target: apply.NewTarget(reached), mesh: mesh, credentials: with.version,
		drifted: map[apply.Subject]time.Time{},
	}
	return s.all[name], nil
}

// watch keeps one drift watch running for the connection.
func (s *connections) watch(c *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopWatch != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c.stopWatch = cancel
	go func() {
		for ctx.Err() == nil {
			err := apply.Watch(ctx, c.target, c.mesh, func(subjects []apply.Subject) {
				now := time.Now()
				if len(subjects) == 0 {
					c.doubt()
					s.wakeUp(c.name)
					return
				}
				c.drift(subjects, now)
				if !c.meanwhile(now) {
					s.wakeUp(c.name)
				}
			})
			if err != nil && ctx.Err() == nil {
				log.FromContext(ctx).Info("watch ended", "member", c.name.Name, "reason", member.ReasonOf(err))
			}
			select {
			case <-ctx.Done():
			case <-time.After(watchRetry):
			}
		}
	}()
}

func (s *connections) wakeUp(name types.NamespacedName) {
	object := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	select {
	case s.wake <- event.GenericEvent{Object: object}:
	case <-s.ctx.Done():
	}
}

// drop forgets a member, and says whether there was something to forget.
func (s *connections) drop(name types.NamespacedName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[name]
	if c != nil {
		c.close()
		c.member.Close()
	}
	delete(s.all, name)
	return c != nil
}
