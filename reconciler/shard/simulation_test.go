package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// clock is one that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var errLost = errors.New("the answer was lost")

// hub is an API server for Leases: linearisable, with optimistic locking, that
// loses requests and answers, and takes some of them late.
type hub struct {
	leases  map[string]*coordinationv1.Lease
	version int
	late    []func()
	// around is called before and after every request: time passes there, and the
	// other replicas run.
	around func()
	// fault is what becomes of the next request.
	fault func() fault
}

type fault int

const (
	none fault = iota
	lostBefore
	lostAfter
	delayed
)

var gr = coordinationv1.Resource("leases")

func (h *hub) call(write bool, do func() error) error {
	h.around()
	defer h.around()
	switch f := h.fault(); {
	case f == lostBefore:
		return errLost
	case f == lostAfter:
		_ = do()
		return errLost
	case f == delayed && write:
		h.late = append(h.late, func() { _ = do() })
		return errLost
	}
	return do()
}

func (h *hub) put(lease *coordinationv1.Lease) *coordinationv1.Lease {
	h.version++
	stored := lease.DeepCopy()
	stored.ResourceVersion = strconv.Itoa(h.version)
	h.leases[lease.Name] = stored
	return stored.DeepCopy()
}

func (h *hub) Create(_ context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions) (out *coordinationv1.Lease, err error) {
	err = h.call(true, func() error {
		if h.leases[lease.Name] != nil {
			return apierrors.NewAlreadyExists(gr, lease.Name)
		}
		lease := lease.DeepCopy()
		lease.UID = types.UID(strconv.Itoa(h.version))
		out = h.put(lease)
		return nil
	})
	return out, err
}

func (h *hub) Update(_ context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (out *coordinationv1.Lease, err error) {
	lease = lease.DeepCopy()
	err = h.call(true, func() error {
		live := h.leases[lease.Name]
		switch {
		case live == nil:
			return apierrors.NewNotFound(gr, lease.Name)
		case live.ResourceVersion != lease.ResourceVersion:
			return apierrors.NewConflict(gr, lease.Name, errors.New("changed"))
		}
		out = h.put(lease)
		return nil
	})
	return out, err
}

func (h *hub) Get(_ context.Context, name string, _ metav1.GetOptions) (out *coordinationv1.Lease, err error) {
	err = h.call(false, func() error {
		if h.leases[name] == nil {
			return apierrors.NewNotFound(gr, name)
		}
		out = h.leases[name].DeepCopy()
		return nil
	})
	return out, err
}

func (h *hub) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	return h.call(true, func() error {
		live := h.leases[name]
		if live == nil {
			return apierrors.NewNotFound(gr, name)
		}
		if o.Preconditions != nil && (*o.Preconditions.UID != live.UID || *o.Preconditions.ResourceVersion != live.ResourceVersion) {
			return apierrors.NewConflict(gr, name, errors.New("changed"))
		}
		delete(h.leases, name)
		return nil
	})
}

func (h *hub) List(context.Context, metav1.ListOptions) (out *coordinationv1.LeaseList, err error) {
	err = h.call(false, func() error {
		out = &coordinationv1.LeaseList{}
		for _, lease := range h.leases {
			out.Items = append(out.Items, *lease.DeepCopy())
		}
		return nil
	})
	return out, err
}

// simulation runs replicas against one hub in one goroutine, with chance for the
// order of things.
type simulation struct {
	*rand.Rand
	t        *testing.T
	clock    clock
	hub      *hub
	replicas []*simulated
	depth    int
	calm     bool
	begun    int // pieces of work
}

type simulated struct {
	*Replica
	busy   bool
	frozen time.Time // until when it does not run
	inside map[string]entered
}

type entered struct {
	ctx   context.Context
	leave func()
}

var works = members(6)

func newSimulation(t *testing.T, seed uint64, replicas int) *simulation {
	s := &simulation{Rand: rand.New(rand.NewPCG(seed, 0)), t: t, clock: clock{now: time.Now()}}
	s.hub = &hub{leases: map[string]*coordinationv1.Lease{}, around: s.others, fault: s.fault}
	for range replicas {
		s.add()
	}
	return s
}

func (s *simulation) add() {
	replica := New(s.hub, Options{Now: s.clock.Now})
	// The same seed gives the same run.
	replica.name = "r" + strconv.Itoa(len(s.replicas))
	replica.rights.self = replica.name
	s.replicas = append(s.replicas, &simulated{Replica: replica, inside: map[string]entered{}})
}

func (s *simulation) fault() fault {
	if s.calm || s.IntN(12) > 0 {
		return none
	}
	return fault(s.IntN(4))
}

// others lets time pass and other replicas run in the midst of a request.
func (s *simulation) others() {
	if s.depth > 2 || s.IntN(3) > 0 {
		return
	}
	s.depth++
	defer func() { s.depth-- }()
	for range 1 + s.IntN(2) {
		s.step()
	}
}

// step does one thing.
func (s *simulation) step() {
	limit := 1200
	if s.calm {
		limit = 300
	}
	s.clock.advance(time.Duration(s.IntN(limit)) * time.Millisecond)
	if len(s.hub.late) > 0 && s.IntN(6) == 0 {
		late := s.hub.late[0]
		s.hub.late = s.hub.late[1:]
		late()
	}
	r := s.replicas[s.IntN(len(s.replicas))]
	if r.busy || s.clock.Now().Before(r.frozen) {
		return
	}
	switch {
	case !s.calm && s.IntN(60) == 0:
		r.frozen = s.clock.Now().Add(time.Duration(s.IntN(40)) * time.Second)
	case s.IntN(2) == 0:
		r.busy = true
		_ = r.tick(s.t.Context())
		r.busy = false
	default:
		s.work(r)
	}
	s.check()
}

// work ends or begins a piece of work.
func (s *simulation) work(r *simulated) {
	work := works[s.IntN(len(works))]
	if under, ok := r.inside[work]; ok {
		if s.IntN(3) == 0 || under.ctx.Err() != nil {
			under.leave()
			delete(r.inside, work)
		}
		return
	}
	ctx, leave, err := r.Enter(s.t.Context(), work)
	if err != nil {
		return
	}
	s.begun++
	r.inside[work] = entered{ctx, leave}
	for _, other := range s.replicas {
		if _, ok := other.inside[work]; ok && other != r && other.Ready() == nil {
			s.t.Fatalf("%s began %s, which %s has not ended", r.Name(), work, other.Name())
		}
	}
}

// check that nothing may be written by two.
func (s *simulation) check() {
	for _, work := range works {
		owners, writers := []string{}, []string{}
		for _, r := range s.replicas {
			if r.Owns(work) {
				owners = append(owners, r.Name())
			}
			if under, ok := r.inside[work]; ok && Check(under.ctx) == nil {
				writers = append(writers, r.Name())
			}
		}
		if len(owners) > 1 || len(writers) > 1 {
			s.t.Fatalf("%s: owners %q, writers %q", work, owners, writers)
		}
	}
}

// TestNeverTwoWriters plays thousands of orders of events: requests and answers
// that are lost or late, replicas that freeze between and in the midst of
// requests, replicas that come. Never may two replicas write for one
// piece of work; once it is calm everything is done by somebody.
func TestNeverTwoWriters(t *testing.T) {
	t.Parallel()
	first := rand.Uint64()
	t.Logf("seeds from %d", first)
	begun := 0
	for i := range uint64(120) {
		t.Run(fmt.Sprint(first+i), func(t *testing.T) {
			s := newSimulation(t, first+i, 1+int(i%4))
			for n := range 1500 {
				s.step()
				if n == 700 {
					s.add()
				}
			}
			s.calmDown()
			begun += s.begun
		})
	}
	if begun < 120*15 {
		t.Errorf("only %d pieces of work were begun: the test shows little", begun)
	}
}

// calmDown lets the faults stop and waits for agreement.
func (s *simulation) calmDown() {
	s.calm = true
	for range 20000 {
		s.step()
		owned := 0
		for _, work := range works {
			for _, r := range s.replicas {
				if r.Owns(work) {
					owned++
				}
			}
		}
		if owned == len(works) {
			return
		}
	}
	s.t.Errorf("no agreement after the faults have stopped")
}
