package catalog_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/catalog"
)

func TestEndOfLife(t *testing.T) {
	for _, tt := range []struct {
		reason, endOfLife, today string
		ended, soon              bool
	}{
		{"the last day is supported", "2026-07-01", "2026-07-01T23:59:59Z", false, true},
		{"the day after is not", "2026-07-01", "2026-07-02T00:00:00Z", true, true},
		{"days are those of UTC", "2026-07-01", "2026-07-02T01:00:00+02:00", false, true},
		{"a month is over with its last day", "2026-11", "2026-11-30T12:00:00Z", false, true},
		{"and with that of a leap year", "2028-02", "2028-02-29T12:00:00Z", false, true},
		{"then it has ended", "2026-11", "2026-12-01T00:00:00Z", true, true},
		{"thirty days before is not within thirty days", "2026-07-31", "2026-07-01T08:00:00Z", false, false},
		{"twenty-nine are", "2026-07-30", "2026-07-01T08:00:00Z", false, true},
		{"what is not announced never ends", "", "2040-01-01T00:00:00Z", false, false},
		{"nor does what is no day", "soon", "2040-01-01T00:00:00Z", false, false},
	} {
		now, err := time.Parse(time.RFC3339, tt.today)
		if err != nil {
			t.Fatal(err)
		}
		r := catalog.Release{EndOfLife: tt.endOfLife}
		if got := r.Ended(now); got != tt.ended {
			t.Errorf("%s: ended %t", tt.reason, got)
		}
		if got := r.EndsWithin(now, 30); got != tt.soon {
			t.Errorf("%s: ends within 30 days %t", tt.reason, got)
		}
	}
}

// TestBuiltinEnds: each day of the catalog is one that Ends reads.
func TestBuiltinEnds(t *testing.T) {
	for _, r := range catalog.Builtin().Releases() {
		if _, known := r.Ends(); known != (r.EndOfLife != "") {
			t.Errorf("release %s: %q is no day", r.Version, r.EndOfLife)
		}
	}
}
