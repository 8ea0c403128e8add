package reconciler

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

const (
	// restartLook is how soon proxies that roll out are looked at again.
	restartLook = 5 * time.Second
	// restartTimeout of one look.
	restartTimeout = time.Minute
)

// restart has the member's proxies restarted where its network's rotation asks for
// it, or where CAs of the member have been revoked, and puts into the member's status how far that is: the record and what is on
// the member are all that a restart is, so another process goes on with it. It
// returns how soon to look again; zero when there is nothing to look at.
func (r *memberReconciler) restart(ctx context.Context, c *connection, m *v1alpha1.Member, set apply.Set, a authorized) time.Duration {
	after := restartAfter(a, m)
	if after.IsZero() {
		if m.Status.Trust != nil {
			m.Status.Trust.Restarting = ""
		}
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	waiting, err := apply.Restart(ctx, c.target, set, after)
	restarted(m.Status.Trust, after, waiting, err)
	return restartLook
}

// restartAfter is from when on the member's proxies have to be, in whole seconds as
// its status has times; zero for no restart, or one that is complete.
//
// Workloads whose CA is revoked are refused until they have another certificate, which
// they have from a proxy that starts. The time in Git says which restart that is, so
// that it is one: the CAs that are on the list were issued before it, and istiod signs
// by another one.
func restartAfter(a authorized, m *v1alpha1.Member) time.Time {
	after := timeOf(stamp(a.revoked))
	if target, known := a.position.Target(m.Name); known && target.RestartAfter.After(after) {
		after = timeOf(stamp(target.RestartAfter))
	}
	if m.Status.Trust == nil || !timeOf(m.Status.Trust.RestartedAfter).Before(after) {
		return time.Time{}
	}
	return after
}

// restarted takes what a look at a restart found into a member's status.
func restarted(known *v1alpha1.MemberTrustStatus, after time.Time, waiting []apply.Waiting, err error) {
	switch {
	case err != nil:
		known.Restarting = shortened("restart proxies: " + err.Error())
	case len(waiting) > 0:
		known.Restarting = shortened(waiting[0].Subject.String() + ": " + waiting[0].Why)
	default:
		known.Restarting, known.RestartedAfter = "", stamp(after)
	}
}

// The reasons of events about restarts.
const (
	// ReasonProxiesRestarting: the proxies of a member are being restarted, for a root
	// that is replaced or for CAs of the member that are revoked.
	ReasonProxiesRestarting = "ProxiesRestarting"
	// ReasonProxiesRestarted: all of them have been.
	ReasonProxiesRestarted = "ProxiesRestarted"
)

// announceRestart emits an event when a restart of a member's proxies begins, and
// when it is complete.
func announceRestart(events record.EventRecorder, before, after *v1alpha1.Member) {
	was, is := restartOf(before), restartOf(after)
	if is.Restarting != "" && was.Restarting == "" {
		events.Eventf(after, corev1.EventTypeNormal, ReasonProxiesRestarting, "restart node proxies, gateways and waypoints, for certificates that they are not to have any more; waiting for %s", is.Restarting)
	}
	if at := timeOf(is.RestartedAfter); at.After(timeOf(was.RestartedAfter)) {
		events.Eventf(after, corev1.EventTypeNormal, ReasonProxiesRestarted, "all node proxies, gateways and waypoints have started after %s", at.UTC().Format(time.RFC3339))
	}
}

func restartOf(m *v1alpha1.Member) v1alpha1.MemberTrustStatus {
	if m.Status.Trust == nil {
		return v1alpha1.MemberTrustStatus{}
	}
	return *m.Status.Trust
}
