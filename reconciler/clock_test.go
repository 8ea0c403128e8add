package reconciler

import (
	"testing"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

// jumpingClock is a clock whose wall time somebody sets, by hours and back. Its
// monotonic readings go on, as those of a real one do.
type jumpingClock struct {
	at time.Time
	by time.Duration
}

func (c *jumpingClock) advance(d time.Duration) { c.at = c.at.Add(d) }

// now has the wall time moved and the monotonic reading kept: time.Time keeps
// seconds since 1885 above 30 bits of nanoseconds, beside the reading.
func (c *jumpingClock) now() time.Time {
	out := c.at
	wall := (*uint64)(unsafe.Pointer(&out))
	*wall += uint64(c.by/time.Second) << 30
	return out
}

func TestJumpingClock(t *testing.T) {
	c := &jumpingClock{at: time.Now()}
	before := c.now()
	c.by = -time.Hour
	c.advance(time.Second)
	if got := c.now().Sub(before); got != time.Second {
		t.Fatalf("the monotonic clock moved by %s", got)
	}
	if got := c.now().Round(0).Sub(before.Round(0)); got != time.Second-time.Hour {
		t.Fatalf("the wall clock moved by %s", got)
	}
}

// TestClockJumps: whoever sets the clock of the reconciler an hour forward or back
// changes nothing of when a repository is looked at and a member compared.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		clock := &jumpingClock{at: time.Now()}
		r := &fleetReconciler{now: clock.now, next: map[types.NamespacedName]time.Time{}, last: map[types.NamespacedName]lastLook{}}
		f := &v1alpha1.Fleet{Spec: v1alpha1.FleetSpec{Interval: metav1.Duration{Duration: 10 * time.Minute}}}
		r.looked(f, look{})
		c := &connection{drifted: map[apply.Subject]time.Time{}, done: "same", compared: clock.now()}
		due := func() bool {
			return c.due(demand{fingerprint: "same", now: clock.now(), fullCompare: 10 * time.Minute}).full
		}
		clock.by = jump
		clock.advance(5 * time.Minute)
		if r.due(f) || due() {
			t.Errorf("clock set by %s: looked at %t, compared %t before it is due", jump, r.due(f), due())
		}
		clock.advance(15 * time.Minute)
		if !r.due(f) || !due() {
			t.Errorf("clock set by %s: looked at %t, compared %t when it is due", jump, r.due(f), due())
		}
	}
}
