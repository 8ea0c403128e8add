package main

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// running is what the hub knows of a fleet; the zero value is of no hub.
type running struct {
	// commit that was accepted last.
	commit   string
	members  []v1alpha1.Member
	observed plan.Observed
}

// readRunning reads the only fleet of a namespace on the hub, and its members.
func readRunning(ctx context.Context, flags hubFlags) (running, error) {
	hub, err := flags.connect()
	if err != nil {
		return running{}, err
	}
	fleets, err := list[v1alpha1.Fleet](ctx, hub, flags.namespace, "fleets")
	if err != nil {
		return running{}, err
	}
	if len(fleets) != 1 {
		return running{}, withHint(fmt.Errorf("namespace %q of the hub has %s, not 1", flags.namespace, counted(len(fleets), "fleet")), "name the fleet's namespace with -n")
	}
	now := running{commit: source.CommitOf(fleets[0].Status.AcceptedRevision)}
	if now.commit == "" {
		return running{}, withHint(fmt.Errorf("the hub has accepted no commit of fleet %q yet", fleets[0].Name), "isthmus status says why")
	}
	if now.members, err = list[v1alpha1.Member](ctx, hub, flags.namespace, "members"); err != nil {
		return running{}, err
	}
	now.observed = plan.Observed{Members: map[string]plan.Seen{}}
	for _, m := range now.members {
		now.observed.Members[m.Name] = plan.Seen{Release: m.Status.Release, Kubernetes: m.Status.KubernetesVersion}
	}
	return now, nil
}

// over puts what the hub has seen over what the base says.
func (r running) over(base plan.Observed) plan.Observed {
	for name, seen := range r.observed.Members {
		base.Members[name] = seen
	}
	return base
}

// nodes that the agents of members are on.
func (r running) nodes() map[string]int {
	out := map[string]int{}
	for _, m := range r.members {
		out[m.Name] = int(m.Status.Nodes)
	}
	return out
}

// behind are the members of the base that do not run it, or not well.
func (r running) behind(base diff.Side) []diff.Behind {
	digests := map[string]string{}
	for _, b := range base.Bundles {
		digests[b.Member] = b.Digest
	}
	var out []diff.Behind
	for _, m := range r.members {
		digest, known := digests[m.Name]
		ready := meta.FindStatusCondition(m.Status.Conditions, "Ready")
		switch {
		case !known:
			out = append(out, diff.Behind{Member: m.Name, Why: "it is leaving"})
		case m.Spec.Suspend:
			out = append(out, diff.Behind{Member: m.Name, Why: "it is suspended"})
		case m.Status.Digest != digest:
			out = append(out, diff.Behind{Member: m.Name, Why: fmt.Sprintf("it has %s", appliedOf(m))})
		case ready == nil || ready.Status != "True":
			why := "it is not ready"
			if ready != nil {
				why = ready.Message
			}
			out = append(out, diff.Behind{Member: m.Name, Why: why})
		case m.Status.Drift != nil && len(m.Status.Drift.Reported) > 0:
			out = append(out, diff.Behind{Member: m.Name, Why: counted(len(m.Status.Drift.Reported), "object") + " of it drifted, and drift is left there"})
		}
	}
	return out
}

// appliedOf is the commit that a member has applied last.
func appliedOf(m v1alpha1.Member) string {
	if commit := source.CommitOf(m.Status.AppliedRevision); len(commit) > 8 {
		return "the bundle of commit " + commit[:8]
	}
	return "nothing of it yet"
}
