package member

import (
	"net/http"
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	date := func(at time.Time) string { return at.Format(http.TimeFormat) }
	for _, tt := range []struct {
		reason   string
		answered time.Time
		date     string
		known    bool
		want     time.Duration
	}{
		{"no date", now, "", false, 0},
		{"not a date", now, "yesterday", false, 0},
		{"the same second", now, date(now), true, 0},
		{"a date is cut to the second", now.Add(900 * time.Millisecond), date(now), true, 0},
		{"an answer that took long", now.Add(20 * time.Second), date(now.Add(11 * time.Second)), true, 0},
		{"we are ahead", now.Add(time.Second), date(now.Add(-11 * time.Minute)), true, 11*time.Minute - time.Second},
		{"we are behind", now.Add(time.Second), date(now.Add(6 * time.Minute)), true, -6*time.Minute + time.Second},
	} {
		m := &Member{}
		m.clock.read(now, tt.answered, tt.date)
		if skew, known := m.Skew(); skew != tt.want || known != tt.known {
			t.Errorf("%s: skew %s, %v, want %s, %v", tt.reason, skew, known, tt.want, tt.known)
		}
	}
}
