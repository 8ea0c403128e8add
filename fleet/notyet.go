package fleet

import (
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// later is a field that isthmus takes and does not act on yet, with what
// happens instead. A field is acted on, or is in here, or is refused. A field
// that says what happens anyway needs no warning.
type later[T any] struct {
	path, instead string
	// same reports whether what happens instead is what the field says.
	same func(*T) bool
}

var laterInNetworks = []later[v1alpha1.ApplicationNetworkSpec]{
	{"spec.rollout.rings", "every member receives a change at once", nil},
}

var laterInMembers = []later[v1alpha1.MemberSpec]{
	{"spec.maintenanceWindows", "the member changes at any time", nil},
	{"spec.controlPlane.placement", "a control plane in another member is rendered, but the reconciler refuses the commit", func(s *v1alpha1.MemberSpec) bool {
		return s.ControlPlane.Placement != v1alpha1.PlacementHosted
	}},
}

// notYetActedOn warns once for each such field that is in a file.
func notYetActedOn(d *documents, report reporter) {
	for _, at := range d.networks {
		warnLater(at, &at.network.Spec, laterInNetworks, report)
	}
	for _, at := range d.members {
		warnLater(at, &at.member.Spec, laterInMembers, report)
	}
}

func warnLater[T any](at *document, spec *T, fields []later[T], report reporter) {
	for _, field := range fields {
		if at.written(field.path) && (field.same == nil || !field.same(spec)) {
			report(at, field.path, "accepted, not yet acted on", field.instead)
		}
	}
}
