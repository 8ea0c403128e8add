package validation

import (
	"cmp"
	"slices"
)

// Finding is one thing wrong with an object.
type Finding struct {
	// Path of the field, such as "spec.rules[0].to".
	Path string
	// Message says what is wrong, Hint what to do; the hint may be empty.
	Message, Hint string
	// Warning is true for what is delivered all the same.
	Warning bool
}

// sorted returns the findings, each once, in order.
func sorted(findings []Finding) []Finding {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(findings)
}

// failed reports whether one of the findings is more than a warning.
func failed(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return !f.Warning })
}
