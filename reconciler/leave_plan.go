package reconciler

import (
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// leavePlan tells people how far a leave is. It decides nothing: each try finds
// out anew which steps are done.
type leavePlan struct {
	before []v1alpha1.LeaveStep
	force  bool

	mu      sync.Mutex
	at      apply.LeaveStep
	notes   map[apply.LeaveStep]string
	waiting string
	failure *status.Failure
}

// newLeavePlan starts from what an earlier try reported, which is shown until
// this one has seen the member.
func newLeavePlan(before []v1alpha1.LeaveStep, force bool) *leavePlan {
	return &leavePlan{before: slices.Clone(before), force: force}
}

// progress takes what the call tells.
func (p *leavePlan) progress(now apply.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = ""
	if now.Step != "" {
		p.at = now.Step
	}
	if len(now.Waiting) > 0 {
		p.waiting = "waiting for " + now.Waiting[0].Subject.String() + ": " + now.Waiting[0].Why
	}
}

// end takes how the call ended.
func (p *leavePlan) end(at apply.LeaveStep, notes map[apply.LeaveStep]string, failure *status.Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at != "" {
		p.at = at
	}
	p.notes, p.failure, p.waiting = notes, failure, ""
}

// steps for the status, all of them, in order.
func (p *leavePlan) steps() []v1alpha1.LeaveStep {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == "" && len(p.before) == len(apply.LeaveSteps) {
		return p.unseen()
	}
	at := max(slices.Index(apply.LeaveSteps, p.at), 0)
	out := make([]v1alpha1.LeaveStep, 0, len(apply.LeaveSteps))
	for i, name := range apply.LeaveSteps {
		step := v1alpha1.LeaveStep{Name: string(name), State: v1alpha1.LeavePending, Message: p.notes[name]}
		switch {
		case i < at && p.force && name == apply.LeaveWorkloads:
			step.State = v1alpha1.LeaveSkipped
		case i < at:
			step.State = v1alpha1.LeaveDone
		case i == at && p.failure != nil:
			step.State, step.Message = v1alpha1.LeaveBlocked, p.failure.Message
		case i == at:
			step.State, step.Message = v1alpha1.LeaveRunning, p.waiting
		}
		out = append(out, step)
	}
	return out
}

// unseen are the steps of a member that was not reached this time.
func (p *leavePlan) unseen() []v1alpha1.LeaveStep {
	out := slices.Clone(p.before)
	at := slices.IndexFunc(out, func(s v1alpha1.LeaveStep) bool {
		return s.State != v1alpha1.LeaveDone && s.State != v1alpha1.LeaveSkipped
	})
	if at >= 0 && p.failure != nil {
		out[at].State, out[at].Message = v1alpha1.LeaveBlocked, p.failure.Message
	}
	return out
}

// stuck reports whether an earlier try ended at a step.
func stuck(steps []v1alpha1.LeaveStep) bool {
	return slices.ContainsFunc(steps, func(s v1alpha1.LeaveStep) bool { return s.State == v1alpha1.LeaveBlocked })
}

// begun reports whether a leave may have changed its cluster.
func begun(m *v1alpha1.Member) bool { return !m.DeletionTimestamp.IsZero() && len(m.Status.Leave) > 0 }
