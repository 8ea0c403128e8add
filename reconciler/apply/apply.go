package apply

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Apply brings a member to a set. It blocks until every stage is healthy or the
// options' times are over. A stage that is not healthy is waited for only if
// this call changed it or has more to do after it; else it is reported as
// waiting and the call succeeds.
func Apply(ctx context.Context, t *Target, set Set, o Options) (Result, error) {
	all, err := prepare(set, t.key)
	if err != nil {
		return Result{}, err
	}
	d := newDelivery(t, set.Mesh, o).of(set)
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	t.calls.Lock()
	defer t.calls.Unlock()
	t.writes.Lock()
	defer t.writes.Unlock()
	err = d.run(ctx, set, all)
	return d.outcome(), err
}

// delivery is one call of Apply, Correct or Remove.
type delivery struct {
	target  *Target
	mesh    Mesh
	options Options
	// leaving: everything goes, by Leave or Remove.
	leaving bool
	// adopt: what was there before us is taken over.
	adopt bool
	// hold tells what is not put back for now; never nil.
	hold func(Subject) bool
	// at is the step at work of a leave, notes what people should know of each.
	at    LeaveStep
	notes map[LeaveStep]string

	// inventory as it is on the member, nil before it is read or written.
	inventory *stored
	// nodes that the last look at a DaemonSet's pods named.
	nodes nodesSaid
	// seen on the member before the first write.
	seen sights

	// mu guards what follows while objects are worked on in parallel.
	mu      sync.Mutex
	changes map[Subject]Change
	written int // changes but the unchanged ones
	uids    map[Subject]types.UID
	joined  map[Subject]bool // there before us, and ours too now
	waiting []Waiting
	failed  Errors

	// scheduled is on how many nodes DaemonSets are, see [Result.Nodes].
	scheduled int32

	// deferred to the Apply under way.
	deferred []Subject
}

func newDelivery(t *Target, mesh Mesh, o Options) *delivery {
	return &delivery{
		target: t, mesh: mesh, options: o.withDefaults(),
		hold:    func(Subject) bool { return false },
		changes: map[Subject]Change{}, uids: map[Subject]types.UID{}, joined: map[Subject]bool{},
	}
}

// of makes the delivery one of a set.
func (d *delivery) of(set Set) *delivery {
	d.adopt = set.Adopt
	if set.Drift.Hold != nil {
		d.hold = set.Drift.Hold
	}
	return d
}

func (d *delivery) outcome() Result {
	r := Result{Waiting: d.waiting, Deferred: d.deferred, Nodes: d.scheduled}
	for _, c := range d.changes {
		r.Changes = append(r.Changes, c)
	}
	if d.inventory != nil {
		r.Inventory = d.inventory.Inventory
	}
	r.sort()
	return r
}

func (d *delivery) run(ctx context.Context, set Set, all []wanted) error {
	if err := d.open(ctx, all); err != nil {
		return err
	}
	if err := d.ensureHome(ctx, all); err != nil {
		return err
	}
	if err := d.writeAhead(ctx, all); err != nil {
		return err
	}
	steps := d.decideAll(all)
	stale, err := d.prunable(ctx, set, all)
	if err != nil {
		return err
	}
	for i, stage := range bundle.Stages {
		more := len(stale) > 0 || slices.ContainsFunc(all, func(w wanted) bool {
			return slices.Index(bundle.Stages, w.stage) > i && steps[w.key()] != stepSkip
		})
		if err := d.stage(ctx, stage, all, steps, more); err != nil {
			return err
		}
	}
	gone := d.takeAway(ctx, stale)
	if err := d.finish(ctx, set, all, gone); err != nil {
		return err
	}
	return d.failed.err()
}

func (d *delivery) decideAll(all []wanted) map[Subject]step {
	steps := make(map[Subject]step, len(all))
	entries := d.inventory.byKey()
	for _, w := range all {
		steps[w.key()] = decide(d.situation(w, entries[w.key()]))
	}
	return steps
}

func (d *delivery) situation(w wanted, entry *Entry) situation {
	return situation{want: w, entry: entry, known: d.target.knownOf(w.Subject), seen: d.seen[w.key()]}
}

// stage applies one stage, waits for its health, and then lets its webhooks in.
// More says that the call has more to do after this stage.
func (d *delivery) stage(ctx context.Context, stage bundle.Stage, all []wanted, steps map[Subject]step, more bool) error {
	inWave := map[wave][]wanted{}
	var gated []wanted
	work := 0
	for _, w := range all {
		if w.stage != stage {
			continue
		}
		if steps[w.key()] != stepSkip {
			work++
		}
		inWave[w.wave] = append(inWave[w.wave], w)
		if isGated(w.Subject) {
			gated = append(gated, w)
		}
		more = more || w.wave == waveWebhooks && steps[w.key()] != stepSkip
	}
	if work > 0 {
		d.options.tell(Progress{Stage: stage, Doing: fmt.Sprintf("apply %d objects", work)})
	}
	before := d.written
	defined := slices.ContainsFunc(gated, func(w wanted) bool { return w.isCRD() && steps[w.key()] == stepWrite })
	for _, wave := range waves {
		if wave == waveWebhooks {
			if err := d.failed.err(); err != nil {
				return err
			}
			if defined {
				if err := d.ahead(ctx, all, steps); err != nil {
					return err
				}
				d.target.member.Forget() // a kind may have gone and come back
			}
			if err := d.gate(ctx, stage, gated, more || d.written > before); err != nil {
				return err
			}
		}
		d.all(ctx, inWave[wave], steps)
	}
	return d.failed.err()
}

// ahead creates, while the API server takes in new CRDs, those objects of later
// stages that are not there yet and do nothing of themselves.
func (d *delivery) ahead(ctx context.Context, all []wanted, steps map[Subject]step) error {
	for _, wave := range waves {
		var now []wanted
		for _, w := range all {
			if _, done := d.changes[w.key()]; !done && w.wave == wave && w.isInert() && d.seen[w.key()] == nil {
				now = append(now, w)
			}
		}
		d.all(ctx, now, steps)
		for _, w := range now {
			steps[w.key()] = stepSkip
		}
	}
	return d.failed.err()
}

// all does the steps of independent objects. An object that fails does not
// keep the others back.
func (d *delivery) all(ctx context.Context, objects []wanted, steps map[Subject]step) {
	var work errgroup.Group
	work.SetLimit(parallel)
	for _, w := range objects {
		step := steps[w.key()]
		if step == stepSkip {
			d.done(w, Change{Action: Unchanged}, d.seen[w.key()])
			continue
		}
		work.Go(func() error {
			d.one(ctx, w, step)
			return nil
		})
	}
	_ = work.Wait() // failures are collected per object
}

// one does the step of one object and returns what it then is; nil if it failed.
func (d *delivery) one(ctx context.Context, w wanted, step step) *sight {
	var entry *Entry
	if d.inventory != nil {
		entry = d.inventory.find(w.Subject)
	}
	s := d.situation(w, entry)
	if step == stepWrite && d.leaves(s) {
		return d.left(s)
	}
	a, err := d.attempt(ctx, s)
	if err != nil {
		return d.fail(w.Subject, w.stage, "apply", err)
	}
	if a.kept != nil {
		d.done(w, Change{Action: Unchanged}, a.kept)
		return a.kept
	}
	if step == stepCompare {
		same, err := d.compare(ctx, a, s.seen)
		if err != nil {
			return d.fail(w.Subject, w.stage, "compare", err)
		}
		if same != nil {
			d.target.remember(w.Subject, known{want: w.secretHash, live: same.live, applied: same.applied})
			d.done(w, Change{Action: Unchanged}, same)
			return same
		}
		if d.leaves(s) {
			return d.left(s)
		}
	}
	if w.anew && s.seen != nil && s.seen.content {
		return d.takeOut(ctx, a, s)
	}
	applied, created, err := d.write(ctx, a)
	if err == nil {
		applied, err = d.strip(ctx, a, applied)
	}
	if err != nil {
		return d.fail(w.Subject, w.stage, "apply", err)
	}
	after := sightOf(&applied.ObjectMeta)
	d.target.remember(w.Subject, known{want: w.secretHash, live: after.live, applied: after.applied})
	if !created && fresh(s) && !w.isShared() {
		d.joins(w.Subject)
	}
	d.done(w, whatHappened(s, after, created), &after)
	return &after
}

// attempt is how one object is to be applied.
type attempt struct {
	wanted
	at   string
	body []byte
	// fields says what becomes of those that somebody else owns.
	fields rivalry
	// kept is set where the object is to stay as it is.
	kept *sight
}

func (d *delivery) attempt(ctx context.Context, s situation) (attempt, error) {
	a := attempt{wanted: s.want, fields: takeOver}
	mapping, err := d.target.member.Mapping(a.kind())
	if err != nil {
		return a, err
	}
	a.at = pathOf(mapping, a.Subject)
	switch {
	case a.isGatewayAPI():
		a.fields = yield
		if a.kept, err = d.leave(ctx, a.at, a.wanted); err != nil || a.kept != nil {
			return a, err
		}
	case a.isShared() || !fresh(s):
	case s.seen != nil && s.seen.network != "":
		return a, ofNetwork(s.seen.network)
	case !d.adopt:
		a.fields = yield
	}
	if len(a.others) > 0 && s.seen != nil {
		live, err := d.target.wire.get(ctx, a.at)
		if ignoreNotFound(err) != nil {
			return a, err
		}
		if err == nil {
			a.object = withoutTaken(a.object, a.others, live.ManagedFields)
		}
	}
	a.body, err = a.wanted.body(adopts(s))
	return a, err
}

// compare tries an apply and returns the object if it would stay as it is, nil
// if it would change.
func (d *delivery) compare(ctx context.Context, a attempt, seen *sight) (*sight, error) {
	tried, _, err := d.target.wire.apply(ctx, a.at, a.body, true, a.fields)
	if apierrors.IsBadRequest(err) {
		// A webhook that cannot do a dry run. Then only the write itself can tell;
		// one that changes nothing leaves no trace.
		return nil, nil
	}
	if err != nil {
		return nil, a.refusal(err)
	}
	if len(strays(a.wanted, tried.ManagedFields)) > 0 {
		return nil, nil
	}
	result := fingerprintOf(&tried.ObjectMeta)
	if result == seen.live {
		return seen, nil
	}
	if tried.ResourceVersion == seen.version {
		return nil, nil
	}
	// It moved since it was seen; that may be all the difference.
	live, err := d.target.wire.get(ctx, a.at)
	if err != nil || fingerprintOf(&live.ObjectMeta) != result {
		return nil, ignoreNotFound(err)
	}
	now := sightOf(&live.ObjectMeta)
	return &now, nil
}

// write applies for good. The kind of a CRD answers "not found" for a moment
// after discovery has listed it.
func (d *delivery) write(ctx context.Context, a attempt) (*metav1.PartialObjectMetadata, bool, error) {
	for try := 0; ; try++ {
		applied, created, err := d.target.wire.apply(ctx, a.at, a.body, false, a.fields)
		switch {
		case err != nil && reasonOf(err) == ImmutableField && a.isReplaceable() && try < 4:
			if err := d.clear(ctx, a); err != nil {
				return nil, false, err
			}
			continue
		case !apierrors.IsNotFound(err) || try == 4:
			return applied, created, a.refusal(err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, false, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// whatHappened names a write, and who made it necessary, by what.
func whatHappened(s situation, after sight, created bool) Change {
	content := s.seen != nil && s.seen.content
	switch {
	case created:
		return Change{Action: Created}
	case s.seen != nil && s.seen.live == after.live:
		return Change{Action: Unchanged}
	case s.seen != nil && s.seen.by != FieldManager && applied(s):
		return Change{Action: Configured, By: s.seen.by, At: s.seen.at, Content: content}
	}
	return Change{Action: Configured, Content: content}
}

// applied reports whether just what is wanted had been applied before.
func applied(s situation) bool {
	if s.known != nil {
		return s.known.want == s.want.secretHash
	}
	return s.entry != nil && s.entry.Hash != "" && s.entry.Hash == s.want.hash
}

func (d *delivery) done(w wanted, c Change, now *sight) {
	c.Subject, c.Stage, c.Trust = w.Subject, w.stage, w.trust
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, before := d.changes[w.key()]; before && c.Action == Unchanged {
		return // it came before its stage
	}
	d.uids[w.key()] = now.uid
	if c.Action != Unchanged && c.Action != Left {
		d.written++
	}
	d.changes[w.key()] = c
}

func (d *delivery) joins(s Subject) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.joined[s.key()] = true
}

// leaves reports whether a difference is left: it is drift, and not to be put
// back, or not now.
func (d *delivery) leaves(s situation) bool {
	return applied(s) && (s.want.report || d.hold(s.want.Subject))
}

// takeOut deletes an edited object that is to come anew with another set. Beside an
// Apply under way it is left to the call after that.
func (d *delivery) takeOut(ctx context.Context, a attempt, s situation) *sight {
	if d.options.Meanwhile {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.deferred = append(d.deferred, a.Subject)
		return nil
	}
	if err := d.clear(ctx, a); err != nil {
		return d.fail(a.Subject, a.stage, "delete", err)
	}
	d.target.forget(a.Subject)
	d.done(s.want, Change{Action: Deleted, By: s.seen.by, At: s.seen.at, Content: true}, &sight{})
	return nil
}

// left records a difference that is left.
func (d *delivery) left(s situation) *sight {
	change, now := Change{Action: Left}, &sight{}
	if s.seen != nil {
		now = s.seen
		if s.seen.by != FieldManager {
			change.By, change.At = s.seen.by, s.seen.at
		}
	}
	d.done(s.want, change, now)
	return now
}

func (d *delivery) fail(s Subject, stage bundle.Stage, doing string, err error) *sight {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed = append(d.failed, objectError(s, stage, doing, err))
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
