package conformity

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/catalog"
)

// accepted is a finding that is as it should be. Nothing else is, and one that
// is not found any more must go from the list.
type accepted struct {
	reason string
	// before is the first release without the finding; empty for none.
	before string
	// contains are parts of the finding's line.
	contains []string
}

var acceptedWarnings = []accepted{
	{
		reason: "the charts before 1.30 have no other way, and Kubernetes 1.29 needs it; API servers that know the field fill it in from the annotation",
		before: "1.30", contains: []string{"DaemonSet ", "/istio-cni-node ", "deprecated since v1.30; use the \"appArmorProfile\" field"},
	},
	{
		reason: "Istio's own CRD: an API server ignores a format that it does not know",
		before: "1.29", contains: []string{"CustomResourceDefinition /virtualservices.networking.istio.io ", `unrecognized format "binary"`},
	},
}

func (a accepted) matches(line string) bool {
	for _, part := range a.contains {
		if !strings.Contains(line, part) {
			return false
		}
	}
	return true
}

// faults returns the lines that are not accepted on a release, and the reasons
// of what is accepted and was not found.
func faults(lines []string, list []accepted, release catalog.Release) []string {
	var out []string
	found := make([]bool, len(list))
	for _, line := range lines {
		known := false
		for i, a := range list {
			if a.applies(release) && a.matches(line) {
				known, found[i] = true, true
			}
		}
		if !known {
			out = append(out, line)
		}
	}
	for i, a := range list {
		if a.applies(release) && !found[i] {
			out = append(out, "accepted, but not found any more: "+a.reason)
		}
	}
	return out
}

func (a accepted) applies(release catalog.Release) bool {
	return a.before == "" || !release.AtLeast(a.before)
}
