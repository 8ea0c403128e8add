package fleet

import "github.com/isthmus-mesh/isthmus/fleet/v1alpha1"

// PatternWords says in words what a pattern of the published schemas wants, such
// as "a time of day"; empty for a pattern that no schema has.
func PatternWords(pattern string) string { return patternWords[pattern] }

// NotYetActedOn returns the fields of a kind that Load takes and nothing acts on
// yet: by path, what happens instead.
func NotYetActedOn(kind string) map[string]string {
	out := map[string]string{}
	switch kind {
	case v1alpha1.ApplicationNetworkKind:
		addLater(out, laterInNetworks)
	case v1alpha1.MemberKind:
		addLater(out, laterInMembers)
	}
	return out
}

func addLater[T any](out map[string]string, fields []later[T]) {
	for _, field := range fields {
		out[field.path] = field.instead
	}
}
