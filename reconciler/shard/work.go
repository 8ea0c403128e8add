package shard

import (
	"context"
	"errors"
)

// ErrNotOurs says that a piece of work is not this replica's, or not any more:
// another replica does it, or will as soon as that is safe.
var ErrNotOurs = errors.New("another replica of isthmus does this now")

// job is one piece of work under way.
type job struct {
	replica *Replica
	work    string
	cancel  context.CancelCauseFunc
	done    chan struct{}
	// stopped once it was told to end; guarded by the replica's mu.
	stopped bool
}

type jobKey struct{}

// Enter begins a piece of work, or says with [ErrNotOurs] that it may not. The
// context that it returns ends, with that cause, when the work has to stop; leave
// must be called when it has. A nil Replica, one that is alone by decree, lets
// everything in.
func (r *Replica) Enter(ctx context.Context, work string) (_ context.Context, leave func(), _ error) {
	if r == nil {
		return ctx, func() {}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rights.mayWork(work, r.now()) {
		return ctx, nil, ErrNotOurs
	}
	ctx, cancel := context.WithCancelCause(ctx)
	j := &job{replica: r, work: work, cancel: cancel, done: make(chan struct{})}
	r.jobs[j] = struct{}{}
	leave = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		cancel(nil)
		delete(r.jobs, j)
		close(j.done)
	}
	return context.WithValue(ctx, jobKey{}, j), leave, nil
}

// Owns says whether a piece of work may be begun now.
func (r *Replica) Owns(work string) bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rights.mayWork(work, r.now())
}

// Check says whether the work that the context is of may still write, at this
// moment. Outside of work nothing may.
func Check(ctx context.Context) error {
	j, ok := ctx.Value(jobKey{}).(*job)
	if !ok || !j.current() {
		return ErrNotOurs
	}
	return nil
}

// Entered says whether the context is of work that was entered.
func Entered(ctx context.Context) bool {
	_, ok := ctx.Value(jobKey{}).(*job)
	return ok
}

// current says whether the job was let in under what still holds. One that was
// told to stop never writes again, also when the work has come back meanwhile.
func (j *job) current() bool {
	r := j.replica
	r.mu.Lock()
	defer r.mu.Unlock()
	_, running := r.jobs[j]
	return running && !j.stopped && r.rights.mayWork(j.work, r.now())
}

// stop tells the jobs to end that may not go on; r.mu is held. It returns those
// that have not ended yet, however often they were told.
func (r *Replica) stop() []*job {
	now := r.now()
	var ending []*job
	for j := range r.jobs {
		if !j.stopped && r.rights.mayWork(j.work, now) {
			continue
		}
		j.stopped = true
		j.cancel(ErrNotOurs)
		ending = append(ending, j)
	}
	return ending
}
