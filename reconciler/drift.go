package reconciler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// The reasons of events about drift.
const (
	// ReasonDriftCorrected: an object was put back.
	ReasonDriftCorrected = "DriftCorrected"
	// ReasonDriftReported: an object differs and is left so, as the fleet says.
	ReasonDriftReported = "DriftReported"
	// ReasonDriftContested: somebody keeps changing an object, which is put back
	// ever more rarely from now on.
	ReasonDriftContested = "DriftContested"
	// ReasonTrustMaterialChanged: somebody changed or deleted the Secret of the
	// member's CA; it was put back. Other Secrets of the set are drift like any.
	ReasonTrustMaterialChanged = "TrustMaterialChanged"
)

// maxDrifted objects in a member's status; events name all.
const maxDrifted = 20

// driftPolicy is what the fleet says about the drift of a member.
func driftPolicy(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) apply.Drift {
	var policy apply.Drift
	for _, said := range []*v1alpha1.Drift{network.Spec.Drift, member.Spec.Drift} {
		if said == nil {
			continue
		}
		if said.Mode != "" {
			policy.Report = said.Mode == v1alpha1.DriftReport
		}
		policy.Ignore = append(policy.Ignore, said.Ignore...)
	}
	return policy
}

// fingerprintOf a policy changes when what it says does, so that drift that was
// left is looked at again.
func fingerprintOf(policy apply.Drift, adopt bool) string {
	policy.Hold = nil
	raw, err := json.Marshal(struct {
		Report, Adopt bool
		Ignore        []v1alpha1.DriftIgnore
	}{policy.Report, adopt, policy.Ignore})
	if err != nil {
		panic(err) // strings and booleans only
	}
	return string(raw)
}

// driftLog is what is known of the drift of one member.
type driftLog struct {
	contests contests
	// left are objects that differ and are left, by what the fleet says.
	left map[apply.Subject]apply.Change
}

// note is one thing to tell about drift.
type note struct {
	reason, message string
	warning         bool
}

// take takes over what a call found, and returns what is to be told. Changes of
// a set that had not been applied before are delivery, not drift; what was left
// is drift in any case.
func (l *driftLog) take(result apply.Result, repeat bool, now time.Time) []note {
	if l.left == nil {
		l.left = map[apply.Subject]apply.Change{}
	}
	var notes []note
	for _, change := range result.Changes {
		before, known := l.left[change.Subject]
		delete(l.left, change.Subject)
		switch {
		case change.Action == apply.Left && l.contests.held(change.Subject, now):
		case change.Action == apply.Left:
			l.left[change.Subject] = change
			if !known || before.By != change.By || !before.At.Equal(change.At) {
				notes = append(notes, note{reason: ReasonDriftReported, message: fmt.Sprintf("%s %s; left so, as the fleet says", change.Subject, whatOthersDid(change)), warning: true})
			}
		case repeat && change.Corrected():
			notes = append(notes, l.corrected(change, now)...)
		}
	}
	return notes
}

func (l *driftLog) corrected(change apply.Change, now time.Time) []note {
	told := note{reason: ReasonDriftCorrected, message: fmt.Sprintf("put back %s: %s", change.Subject, whatOthersDid(change))}
	if change.Trust && change.Subject.Name == trust.SecretName {
		told.reason, told.warning = ReasonTrustMaterialChanged, true
	}
	if !l.contests.corrected(change, now) {
		return []note{told}
	}
	by := cmp.Or(change.By, "somebody")
	return []note{told, {reason: ReasonDriftContested, warning: true, message: fmt.Sprintf(
		"%s keeps changing %s: it is put back ever more rarely now; stop that, or name its fields in spec.drift.ignore", by, change.Subject)}}
}

// whatOthersDid says it in words, with who and when.
func whatOthersDid(change apply.Change) string {
	what := "edited"
	if change.Action == apply.Created || change.Action == apply.Left && change.By == "" {
		what = "deleted"
	}
	if change.By != "" {
		what += fmt.Sprintf(" by %s at %s", change.By, change.At.UTC().Format(time.RFC3339))
	}
	return what
}

// reported and contested are the lists of a member's status.
func (l *driftLog) reported() []v1alpha1.DriftedObject {
	out := map[apply.Subject]string{}
	for s, change := range l.left {
		out[s] = change.By
	}
	return drifted(out)
}

func (l *driftLog) contested() []v1alpha1.DriftedObject { return drifted(l.contests.contested()) }

func drifted(objects map[apply.Subject]string) []v1alpha1.DriftedObject {
	var out []v1alpha1.DriftedObject
	for s, by := range objects {
		out = append(out, v1alpha1.DriftedObject{Object: s.String(), By: by})
	}
	slices.SortFunc(out, func(a, b v1alpha1.DriftedObject) int { return strings.Compare(a.Object, b.Object) })
	return out[:min(len(out), maxDrifted)]
}

// drifted takes over what a call found on the member, for the status and events.
func (r *report) drifted(c *connection, result apply.Result, w work) {
	now := time.Now()
	notes, reported, contested := c.found(result, w.repeat, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.member.Status.Drift
	if was == nil {
		was = &v1alpha1.DriftStatus{}
	}
	drift := was.DeepCopy()
	drift.Reported, drift.Contested = reported, contested
	for _, change := range result.Changes {
		if w.repeat && change.Corrected() {
			at := metav1.NewTime(now)
			drift.Corrected++
			drift.LastCorrected, drift.LastObject = &at, change.Subject.String()
			observeDrift(r.member.Name, w, now)
		}
	}
	if drift.Corrected > 0 || len(reported)+len(contested) > 0 || r.member.Status.Drift != nil {
		r.member.Status.Drift = drift
	}
	for _, n := range notes {
		kind := corev1.EventTypeNormal
		if n.warning {
			kind = corev1.EventTypeWarning
		}
		countDrift(r.member.Name, n.reason)
		r.events.Event(r.member, kind, n.reason, n.message)
	}
}

// underWay is a delivery that a correction can run beside.
type underWay struct {
	ctx    context.Context //nolint:containedctx // of the reconcile whose delivery it is: a correction must not outlive its right to write.
	set    apply.Set
	report *report
}

// meanwhile corrects what has drifted while a delivery waits for health, and
// says whether there was one.
func (c *connection) meanwhile(now time.Time) bool {
	under, subjects := c.takeUnderWay(now)
	if under == nil {
		return false
	}
	if len(subjects) == 0 {
		return true
	}
	w := work{step: stepCorrect, subjects: subjects, seen: now, repeat: true, now: now}
	result, err := apply.Correct(under.ctx, c.target, under.set, subjects, apply.Options{Meanwhile: true})
	under.report.drifted(c, result, w)
	if err != nil {
		c.redo(w)
	}
	c.drift(result.Deferred, now)
	return true
}
