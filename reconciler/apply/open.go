package apply

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// open reads the inventory and sees what is there. An inventory that this
// process wrote itself is not read again while its fingerprint stays.
func (d *delivery) open(ctx context.Context, all []wanted) error {
	last := d.target.lastInventory()
	if last == nil {
		read, err := d.read(ctx)
		if err != nil {
			return err
		}
		last = read
	}
	kinds := map[schema.GroupVersionKind]bool{InventorySubject(d.mesh).kind(): true}
	adopting := false
	for _, w := range all {
		kinds[w.kind()] = true
		adopting = adopting || w.isShared() && (last == nil || last.find(w.Subject) == nil)
	}
	seen, err := d.target.observe(ctx, d.mesh, kinds, adopting)
	if err != nil {
		return err
	}
	d.target.trustViews()
	d.inventory, d.seen = last, seen
	return d.confirm(ctx)
}

// read reads the inventory; nil where there is none, or none that can be read:
// then the labels of the objects tell what it held.
func (d *delivery) read(ctx context.Context) (*stored, error) {
	read, err := d.target.readInventory(ctx, d.mesh)
	if err == nil && read.Network == d.mesh.Network {
		d.target.setInventory(read)
	}
	switch {
	case errors.As(err, new(*member.Error)):
		return nil, err
	case err != nil:
		if !errors.Is(err, errNoInventory) {
			d.options.tell(Progress{Doing: "make the inventory anew: " + err.Error()})
		}
		return nil, nil
	case read.Network != d.mesh.Network:
		return nil, invalidSet("the member belongs to the network %q; let it leave that first", read.Network)
	}
	return read, nil
}

// confirm brings what is known of the inventory together with what was seen.
func (d *delivery) confirm(ctx context.Context) error {
	there := d.seen[InventorySubject(d.mesh).key()]
	switch {
	case there == nil && d.inventory != nil:
		// Somebody deleted it, or its namespace; its content is still known.
		lost := *d.inventory
		lost.resourceVersion, lost.parts = "", nil
		d.inventory = &lost
		return nil
	case there == nil && !d.anyOfOurs():
		return nil // a new member
	case there != nil && d.inventory != nil && there.live == d.inventory.live:
		return nil
	case there != nil:
		read, err := d.read(ctx)
		if err != nil {
			return err
		}
		if read != nil {
			d.inventory = read
			return nil
		}
	}
	return d.recover(ctx)
}

func (d *delivery) anyOfOurs() bool {
	for _, what := range d.seen {
		if what.network == d.mesh.Network {
			return true
		}
	}
	return false
}

// recover makes an inventory from the labels on the member's objects.
func (d *delivery) recover(ctx context.Context) error {
	found, err := d.target.sweep(ctx, d.mesh)
	if err != nil {
		return err
	}
	next := &stored{Inventory: Inventory{Network: d.mesh.Network}}
	for _, f := range found {
		if f.Subject.key() == InventorySubject(d.mesh).key() {
			next.resourceVersion = f.resourceVersion
			continue
		}
		next.Entries = append(next.Entries, Entry{Subject: f.Subject, Stage: f.stage, UID: f.uid, Keep: f.keep})
	}
	next.sort()
	d.inventory = next
	return nil
}

// ensureHome applies the system namespace, where the inventory lives, if it or
// the inventory is not there.
func (d *delivery) ensureHome(ctx context.Context, all []wanted) error {
	home := namespaceSubject(d.mesh.SystemNamespace).key()
	if d.seen[home] != nil && d.inventory != nil && d.inventory.resourceVersion != "" {
		return nil // an ordinary object of its stage
	}
	at := slices.IndexFunc(all, func(w wanted) bool { return w.key() == home })
	after := d.one(ctx, all[at], stepWrite)
	if after != nil {
		d.seen[home] = after
	}
	return d.failed.err()
}

// writeAhead stores previous and intended entries together, before the first
// of the intended objects is created.
func (d *delivery) writeAhead(ctx context.Context, all []wanted) error {
	var previous Inventory
	if d.inventory != nil {
		previous = d.inventory.Inventory
	}
	entries := previous.byKey()
	intended := make([]Entry, 0, len(all))
	for _, w := range all {
		s := situation{want: w, entry: entries[w.key()], seen: d.seen[w.key()]}
		intended = append(intended, Entry{Subject: w.Subject, Stage: w.stage, Keep: adopts(s)})
	}
	ahead := previous.with(intended)
	if d.inventory != nil && d.inventory.resourceVersion != "" && previous.same(ahead) {
		return nil
	}
	return d.store(ctx, ahead)
}

// finish stores the inventory of a set that was applied whole: what is wanted,
// and what was to go but is not gone.
func (d *delivery) finish(ctx context.Context, set Set, all []wanted, gone map[Subject]bool) error {
	next := Inventory{Network: set.Network, Release: set.Release, Commit: set.Commit, Digest: set.Digest}
	entries := d.inventory.byKey()
	for _, w := range all {
		entry := Entry{Subject: w.Subject, Stage: w.stage, UID: d.uids[w.key()], Hash: w.hash}
		if have := entries[w.key()]; have != nil {
			entry.Keep = have.Keep
		}
		// What somebody else made is theirs when we go.
		entry.Keep = entry.Keep || d.joined[w.key()]
		next.Entries = append(next.Entries, entry)
	}
	for _, e := range d.inventory.stale(all) {
		if !gone[e.key()] {
			next.Entries = append(next.Entries, e)
		}
	}
	next.sort()
	if d.inventory.same(next) {
		return nil
	}
	return d.store(ctx, next)
}

func (d *delivery) store(ctx context.Context, next Inventory) error {
	written, err := d.target.writeInventory(ctx, d.mesh, d.inventory, next)
	if written != nil {
		d.inventory = written
	}
	if member.ReasonOf(err) == Conflict {
		d.target.setInventory(nil) // another process wrote it: read it next time
	}
	return err
}

// stageOf guesses the stage of an object that only its label tells about.
func stageOf(component string, s Subject) bundle.Stage {
	switch {
	case s.isShared():
		return bundle.StageFoundation
	case component == "cni":
		return bundle.StageCNI
	case component == "ztunnel":
		return bundle.StageZtunnel
	case component == "gateway" || component == "policy" || component == "resources":
		return bundle.StageGateways
	}
	return bundle.StageControlPlane
}
