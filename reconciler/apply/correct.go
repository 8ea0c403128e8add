package apply

import (
	"context"
	"slices"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Correct puts single objects of a set back, those that [Watch] named, without
// waiting for health and without pruning. An edited object costs a dry run and
// a write, a deleted one a write. Subjects that are neither in the set and the
// inventory, nor the inventory itself, are ignored: they are for [Apply].
//
// It fails where an object needs another one to come back first (a kind whose
// CRD is gone); Apply then has the order and the patience.
func Correct(ctx context.Context, t *Target, set Set, subjects []Subject, o Options) (Result, error) {
	all, err := prepare(set, t.key)
	if err != nil {
		return Result{}, err
	}
	d := newDelivery(t, set.Mesh, o)
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	t.writes.Lock()
	defer t.writes.Unlock()
	err = d.correct(ctx, all, subjects)
	return d.outcome(), err
}

func (d *delivery) correct(ctx context.Context, all []wanted, subjects []Subject) error {
	d.inventory = d.target.lastInventory()
	if d.inventory == nil {
		read, err := d.read(ctx)
		if err != nil {
			return err
		}
		if read == nil {
			return nil // nothing was delivered yet
		}
		d.inventory = read
	}
	asked := map[Subject]bool{}
	for _, s := range subjects {
		asked[s.key()] = true
	}
	entries := d.inventory.byKey()
	all = slices.DeleteFunc(all, func(w wanted) bool { return !asked[w.key()] || entries[w.key()] == nil })
	all = slices.DeleteFunc(all, d.defers)
	if err := d.lookAll(ctx, all); err != nil {
		return err
	}
	steps := d.decideAll(all)
	if home := namespaceSubject(d.mesh.SystemNamespace).key(); !asked[home] {
		// Nothing is more urgent than what identities are signed with.
		d.all(ctx, slices.DeleteFunc(slices.Clone(all), func(w wanted) bool { return !w.trust }), steps)
		all = slices.DeleteFunc(all, func(w wanted) bool { return w.trust })
	}
	for _, stage := range bundle.Stages {
		for _, wave := range waves {
			d.all(ctx, slices.DeleteFunc(slices.Clone(all), func(w wanted) bool {
				return w.stage != stage || w.wave != wave
			}), steps)
		}
	}
	if asked[InventorySubject(d.mesh).key()] {
		if err := d.restoreInventory(ctx); err != nil {
			return err
		}
	}
	if err := d.renewUIDs(ctx); err != nil {
		return err
	}
	return d.failed.err()
}

// defers leaves an object to the Apply under way if that has not come to it: its
// turn comes after what it needs.
func (d *delivery) defers(w wanted) bool {
	if !d.options.Meanwhile {
		return false
	}
	if k := d.target.knownOf(w.Subject); k != nil && k.want == w.secretHash {
		return false
	}
	d.deferred = append(d.deferred, w.Subject)
	return true
}

// lookAll sees the objects: in the watches where they are live, else one by one.
func (d *delivery) lookAll(ctx context.Context, all []wanted) error {
	d.seen = sights{}
	for _, w := range all {
		if what, live := d.target.watched(w.Subject); live {
			if what != nil {
				d.seen[w.key()] = what
			}
			continue
		}
		_, what, err := d.look(ctx, w.Subject)
		if err != nil {
			return objectError(w.Subject, w.stage, "read", err)
		}
		if what != nil {
			d.seen[w.key()] = what
		}
	}
	return nil
}

// restoreInventory puts the inventory back as this process last wrote or read it.
func (d *delivery) restoreInventory(ctx context.Context) error {
	read, err := d.read(ctx)
	if err != nil {
		return err
	}
	content := d.inventory.Inventory
	if read != nil && read.same(content) {
		d.inventory = read
		return nil
	}
	lost := *d.inventory
	lost.resourceVersion, lost.parts = "", nil
	if _, what, err := d.look(ctx, InventorySubject(d.mesh)); err != nil {
		return err
	} else if what != nil {
		lost.resourceVersion = what.version
	}
	d.inventory = &lost
	return d.store(ctx, content)
}

// renewUIDs records objects that are new ones of the same name.
func (d *delivery) renewUIDs(ctx context.Context) error {
	next := d.inventory.Inventory
	next.Entries = slices.Clone(next.Entries)
	for i, e := range next.Entries {
		if uid := d.uids[e.key()]; uid != "" && e.UID != "" {
			next.Entries[i].UID = uid
		}
	}
	if d.inventory.same(next) {
		return nil
	}
	return d.store(ctx, next)
}
