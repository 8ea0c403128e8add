package apply

import "time"

// step is what an object needs.
type step int

const (
	// stepSkip: known to be as it should be.
	stepSkip step = iota
	// stepCompare: a dry run has to tell.
	stepCompare
	// stepWrite: known to differ, or not there.
	stepWrite
)

// known is what this process remembers of an object that it applied.
type known struct {
	want [16]byte    // secretHash of what was applied
	live fingerprint // of the object afterwards
	// applied is when, by the API server's clock.
	applied time.Time
}

// situation is one object's situation: what is wanted, what the inventory says was
// applied, what this process remembers, what is on the member. The last three
// are nil where there is nothing.
type situation struct {
	want  wanted
	entry *Entry
	known *known
	seen  *sight
}

// decide says what an object needs. First match wins; from the cheapest
// certainty to asking the API server.
func decide(s situation) step {
	switch {
	case s.seen == nil:
		return stepWrite
	case s.seen.network != s.want.object.GetLabels()[LabelNetwork]:
		// Adopted now, or its label was changed: in any case it differs.
		return stepWrite
	case s.known != nil && s.known.want != s.want.secretHash:
		return stepWrite
	case s.known != nil && s.known.live == s.seen.live:
		return stepSkip
	case s.entry != nil && s.entry.Hash != "" && s.entry.Hash != s.want.hash:
		return stepWrite
	case s.known != nil && !s.known.applied.Equal(s.seen.applied):
		// Another process wrote under our name. Within one second its write and
		// our dry run would look the same.
		return stepWrite
	}
	return stepCompare
}

// adopts reports whether applying takes over an object that was there before
// us and that others may rely on: it is kept when it leaves the set.
func adopts(s situation) bool {
	if s.entry != nil {
		return s.entry.Keep
	}
	return s.want.isShared() && s.seen != nil && (s.seen.keep || s.seen.network == "" && s.seen.applied.IsZero())
}
