package source

// Limits make the limits of a copy small: zero leaves one as it is.
type Limits struct {
	References, Transfer, Objects, ObjectSize, Unpacked int64
	History                                             int
}

// SetLimits is for tests.
func (r *Repository) SetLimits(l Limits) {
	for _, each := range []struct{ to, from *int64 }{
		{&r.limits.references, &l.References}, {&r.limits.transfer, &l.Transfer}, {&r.limits.objects, &l.Objects},
		{&r.limits.objectSize, &l.ObjectSize}, {&r.limits.unpacked, &l.Unpacked},
	} {
		if *each.from != 0 {
			*each.to = *each.from
		}
	}
	if l.History != 0 {
		r.limits.history = l.History
	}
}
