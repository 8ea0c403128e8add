package apply

import (
	"context"
	"fmt"
	"path"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Remove takes everything of isthmus off a member, whatever is enrolled in the
// mesh, in the reverse order of delivery: gateways and policies and what istiod
// made for them, ztunnel, CNI, the webhooks and then istiod, its RBAC, its secrets and what it left in other
// namespaces, CRDs, namespaces, and last the system namespace with the
// inventory. Each step is waited for; then the whole member is searched for
// our label. Objects marked or recorded to be kept stay without our fields, and
// so do CRDs that have objects of others.
//
// It can be called again at any point and goes on; on a member with nothing of
// ours it succeeds. What does not go in time is an error of reason [NotGone],
// and what comes after it is not touched.
func Remove(ctx context.Context, t *Target, mesh Mesh, o Options) (Result, error) {
	d, err := takeOff(ctx, t, mesh, o, (*delivery).everything)
	return d.outcome(), err
}

// takeOff does the work of a removal with the inventory open, alone on the member.
func takeOff(ctx context.Context, t *Target, mesh Mesh, o Options, work func(*delivery, context.Context) error) (*delivery, error) {
	d := newDelivery(t, mesh, o)
	d.leaving = true
	if mesh.Network == "" || mesh.SystemNamespace == "" {
		return d, invalidSet("it names no network or no system namespace")
	}
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	t.calls.Lock()
	defer t.calls.Unlock()
	t.writes.Lock()
	defer t.writes.Unlock()
	if err := d.openToRemove(ctx); err != nil {
		return d, err
	}
	return d, work(d, ctx)
}

// openToRemove reads the inventory, or makes it anew from labels.
func (d *delivery) openToRemove(ctx context.Context) error {
	read, err := d.read(ctx)
	if err != nil {
		return err
	}
	d.inventory = read
	if read == nil {
		return d.recover(ctx)
	}
	return nil
}

// everything takes all away that the inventory lists, and proves that it is.
func (d *delivery) everything(ctx context.Context) error {
	if err := d.removeEntries(ctx, d.inventory.Entries); err != nil {
		return err
	}
	if err := d.removeUnlisted(ctx); err != nil {
		return err
	}
	if err := d.removeHome(ctx); err != nil {
		return err
	}
	d.inventory = nil
	d.target.Forget()
	return nil
}

// removeEntries takes stage after stage away, the home aside.
func (d *delivery) removeEntries(ctx context.Context, entries []Entry) error {
	home := namespaceSubject(d.mesh.SystemNamespace).key()
	for _, stage := range slices.Backward(bundle.Stages) {
		now := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool {
			return e.Stage != stage || e.key() == home
		})
		gateways := d.gatewayUIDs(ctx, now)
		if err := d.removeStage(ctx, stage, now); err != nil {
			return err
		}
		switch stage {
		case bundle.StageGateways:
			if err := d.removeGatewayChildren(ctx, gateways); err != nil {
				return err
			}
		case bundle.StageControlPlane:
			if err := d.removeLeftovers(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveSteps are the steps of stages; the foundation's CRDs are a step before it.
var leaveSteps = map[bundle.Stage]LeaveStep{
	bundle.StageGateways: LeaveGateways, bundle.StageZtunnel: LeaveZtunnel, bundle.StageCNI: LeaveCNI,
	bundle.StageControlPlane: LeaveIstiod, bundle.StageFoundation: LeaveNamespaces,
}

func (d *delivery) removeStage(ctx context.Context, stage bundle.Stage, entries []Entry) error {
	if stage == bundle.StageFoundation {
		d.begin(LeaveCRDs)
		// What guards CRDs goes before them.
		first := func(e Entry) bool { return e.isCRD() || waveOf(e.Subject) == waveWebhooks }
		definitions := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return !first(e) })
		if err := d.removeNow(ctx, definitions); err != nil {
			return err
		}
		d.noteKept()
		entries = slices.DeleteFunc(slices.Clone(entries), first)
	}
	d.begin(leaveSteps[stage])
	return d.removeNow(ctx, entries)
}

// removeNow takes entries away; what is not gone in time is an error.
func (d *delivery) removeNow(ctx context.Context, entries []Entry) error {
	d.takeAway(ctx, entries)
	for _, w := range d.waiting {
		d.failed = append(d.failed, waitedFor(w, NotGone, "remove"))
	}
	return d.failed.err()
}

// noteKept says how many CRDs stay.
func (d *delivery) noteKept() {
	kept := 0
	for _, c := range d.changes {
		if c.Subject.isCRD() && c.Action == Released {
			kept++
		}
	}
	if kept > 0 {
		d.note(fmt.Sprintf("%d CRDs stay: they are others', or others have objects of them", kept))
	}
}

// removeUnlisted proves that nothing carries our label but the home. What still
// does, because somebody copied the label, goes too.
func (d *delivery) removeUnlisted(ctx context.Context) error {
	for round := 0; ; round++ {
		found, err := d.target.sweep(ctx, d.mesh)
		if err != nil {
			return err
		}
		var entries []Entry
		for _, f := range found {
			if f.Namespace == d.mesh.SystemNamespace || f.key() == namespaceSubject(d.mesh.SystemNamespace).key() {
				continue // the home and what goes with it
			}
			entries = append(entries, Entry{Subject: f.Subject, Stage: f.stage, UID: f.uid, Keep: f.keep})
		}
		if len(entries) == 0 {
			return nil
		}
		if round == 2 {
			return waitedFor(Waiting{Subject: entries[0].Subject, Stage: entries[0].Stage, Why: "it comes back"}, NotGone, "remove")
		}
		if err := d.removeEntries(ctx, entries); err != nil {
			return err
		}
	}
}

// removeHome removes the system namespace and with it the inventory, or, where
// the namespace was there before us, what is ours in it.
func (d *delivery) removeHome(ctx context.Context) error {
	home := Entry{Subject: namespaceSubject(d.mesh.SystemNamespace), Stage: bundle.StageFoundation}
	if e := d.inventory.find(home.Subject); e != nil {
		home = *e
	}
	_, seen, err := d.look(ctx, home.Subject)
	if err != nil {
		return objectError(home.Subject, home.Stage, "read", err)
	}
	switch judge(home, seen, d.mesh.Network) {
	case verdictGone:
		return nil
	case verdictForeign:
		return d.removeInventory(ctx)
	case verdictRelease:
		if err := d.emptyHome(ctx); err != nil {
			return err
		}
		d.takeAway(ctx, []Entry{home})
		if err := d.failed.err(); err != nil {
			return err
		}
		return d.removeInventory(ctx)
	}
	return d.removeNow(ctx, []Entry{home})
}

// removeInventory deletes the inventory itself, its parts first.
func (d *delivery) removeInventory(ctx context.Context) error {
	for _, name := range append(slices.Clone(d.inventory.parts), inventoryName) {
		at := path.Join(configMaps(d.mesh), name)
		part, err := d.target.wire.get(ctx, at)
		if err == nil {
			err = d.target.wire.delete(ctx, at, part.UID)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return objectError(InventorySubject(d.mesh), "", "remove", err)
		}
	}
	return nil
}

// gatewayUIDs are the uids of the Gateways among entries, from the inventory
// and from the member: what istiod made for them is found by these, also after
// an interruption.
func (d *delivery) gatewayUIDs(ctx context.Context, entries []Entry) map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, e := range entries {
		if !e.isGateway() {
			continue
		}
		if e.UID != "" {
			uids[e.UID] = true
		}
		if _, seen, err := d.look(ctx, e.Subject); err == nil && seen != nil {
			uids[seen.uid] = true
		}
	}
	return uids
}
