package apply

import (
	"context"
	"slices"
)

// LeaveStep is one step of a member's way out. Values are frozen once released.
type LeaveStep string

// The steps.
const (
	// LeaveWorkloads: no workload of others is enrolled in the mesh.
	LeaveWorkloads LeaveStep = "Workloads"
	// LeaveExports: the namespaces that isthmus enrolled are let go, so their
	// services are no longer the mesh's, here and for peers.
	LeaveExports LeaveStep = "StopExporting"
	// LeavePeers: peers have no credentials for the member any more.
	LeavePeers LeaveStep = "PeerCredentials"
	// LeaveGateways: gateways, waypoints, policies and people's own manifests.
	LeaveGateways LeaveStep = "Gateways"
	// LeaveZtunnel, LeaveCNI and LeaveIstiod: what their names say.
	LeaveZtunnel LeaveStep = "ztunnel"
	LeaveCNI     LeaveStep = "CNI"
	LeaveIstiod  LeaveStep = "istiod"
	// LeaveCRDs: those of which others have no objects.
	LeaveCRDs LeaveStep = "CRDs"
	// LeaveNamespaces: what is left, and last the system namespace with the inventory.
	LeaveNamespaces LeaveStep = "Namespaces"
)

// LeaveSteps in their order.
var LeaveSteps = []LeaveStep{
	LeaveWorkloads, LeaveExports, LeavePeers, LeaveGateways, LeaveZtunnel, LeaveCNI, LeaveIstiod, LeaveCRDs, LeaveNamespaces,
}

// Leaving says how a member leaves.
type Leaving struct {
	// Force goes on while workloads are enrolled: they lose the mesh under them.
	Force bool
	// Peers takes the member's credentials off its peers, and says what it did or
	// could not do, for people. Nil: there are no peers.
	Peers func(context.Context) (string, error)
}

// Leave takes a member out of the mesh, step by step, each done before the next
// begins. Which steps are done is found out anew by each call, from what is on
// the member, so it can be interrupted at any point and called again.
//
//   - Workloads that others enrolled, and those with sidecars, stop it with the
//     reason [Enrolled] before anything is changed, unless it is forced.
//   - Namespaces that isthmus enrolled lose its labels while istiod, CNI and
//     ztunnel still run, and their pods are waited for until they are out of the
//     mesh: a pod whose traffic still goes to a ztunnel that is gone has no
//     network at all.
//   - Then [Leaving].Peers, then everything as [Remove] has it.
func Leave(ctx context.Context, t *Target, mesh Mesh, l Leaving, o Options) (Result, error) {
	d, err := takeOff(ctx, t, mesh, o, func(d *delivery, ctx context.Context) error { return d.leaveMesh(ctx, l) })
	result := d.outcome()
	result.Step, result.Notes = d.at, d.notes
	return result, err
}

func (d *delivery) leaveMesh(ctx context.Context, l Leaving) error {
	d.begin(LeaveWorkloads)
	if err := d.refuseEnrolled(ctx, l.Force); err != nil {
		return err
	}
	d.begin(LeaveExports)
	if err := d.unenrol(ctx, l.Force); err != nil {
		return err
	}
	d.begin(LeavePeers)
	if l.Peers != nil {
		note, err := l.Peers(ctx)
		d.note(note)
		if err != nil {
			return err
		}
	}
	return d.everything(ctx)
}

// begin tells that a step is at work and those before it are done. What is done
// once more, because something came back, is no step back.
func (d *delivery) begin(step LeaveStep) {
	if slices.Index(LeaveSteps, step) <= slices.Index(LeaveSteps, d.at) {
		return
	}
	d.at = step
	d.options.tell(Progress{Step: step, Doing: "leave"})
}

// note adds what people should know of the step at work.
func (d *delivery) note(text string) {
	if text == "" {
		return
	}
	if d.notes == nil {
		d.notes = map[LeaveStep]string{}
	}
	d.notes[d.at] = text
}
