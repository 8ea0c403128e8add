package fleet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// notOthers are fields that say what or whose an object is: whoever may change
// them owns the object.
var notOthers = []string{
	"/apiVersion", "/kind", "/metadata/name", "/metadata/namespace", "/metadata/uid",
	"/metadata/labels/isthmus.dev~1network", "/metadata/labels/isthmus.dev~1component",
}

// invalidDrift finds fields that cannot be left to others.
func invalidDrift(d *documents, report reporter) {
	for _, at := range slices.Concat(d.networks, d.members) {
		drift := at.drift()
		if drift == nil {
			continue
		}
		for i, rule := range drift.Ignore {
			path := fmt.Sprintf("spec.drift.ignore[%d]", i)
			if rule.Group == "" && rule.Kind == "Secret" {
				report(at, path+".kind", "Secrets of the CA are put back in any case", "")
			}
			for j, pointer := range rule.Fields {
				if field := hides(string(pointer)); field != "" {
					report(at, fmt.Sprintf("%s.fields[%d]", path, j), fmt.Sprintf("%s says what or whose the object is", field),
						"name the fields below that others may change")
				}
			}
		}
	}
}

// hides returns the field of notOthers that a pointer names or contains; empty
// for none.
func hides(pointer string) string {
	for _, field := range notOthers {
		if field == pointer || strings.HasPrefix(field, pointer+"/") || strings.HasPrefix(pointer, field+"/") {
			return field
		}
	}
	return ""
}

// drift is what the document's object says of drift; nil for nothing.
func (d *document) drift() *v1alpha1.Drift {
	if d.network != nil {
		return d.network.Spec.Drift
	}
	return d.member.Spec.Drift
}
