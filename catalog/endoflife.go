package catalog

import "time"

// Ends returns the last day on which Istio supports the release, at midnight in
// UTC, and false while it is not announced. Of a month that is only expected it is
// the last day.
func (r Release) Ends() (time.Time, bool) {
	if day, err := time.Parse(time.DateOnly, r.EndOfLife); err == nil {
		return day, true
	}
	if month, err := time.Parse("2006-01", r.EndOfLife); err == nil {
		return month.AddDate(0, 1, -1), true
	}
	return time.Time{}, false
}

// Ended tells whether the release's last day is before that of now.
func (r Release) Ended(now time.Time) bool { return r.endsBefore(now, 0) }

// EndsWithin tells whether the release's last day is over, or will be in a number of
// days.
func (r Release) EndsWithin(now time.Time, days int) bool { return r.endsBefore(now, days) }

func (r Release) endsBefore(now time.Time, days int) bool {
	last, known := r.Ends()
	today := now.UTC().Truncate(24 * time.Hour)
	return known && last.Before(today.AddDate(0, 0, days))
}
