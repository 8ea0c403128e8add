package fleet

import "github.com/isthmus-mesh/isthmus/fleet/v1alpha1"

// later is a field that isthmus takes and does not act on yet, with what
// happens instead. A field is acted on, or is in here, or is refused.
type later struct{ path, instead string }

var laterInNetworks = []later{
	{"spec.rollout.rings", "every member receives a change at once"},
	{"spec.deletionGuard", "no commit is stopped for what it deletes"},
	{"spec.patches", "objects are applied as rendered"},
}

var laterInMembers = []later{
	{"spec.maintenanceWindows", "the member changes at any time"},
}

// notYetActedOn warns once for each such field that is in a file.
func notYetActedOn(d *documents, report reporter) {
	const message = "accepted, not yet acted on"
	warn := func(at *document, fields []later) {
		for _, field := range fields {
			if at.written(field.path) {
				report(at, field.path, message, field.instead)
			}
		}
	}
	for _, at := range d.networks {
		warn(at, laterInNetworks)
		for _, tier := range tiers(at.network.Spec.Trust) {
			if tier.lifetime.RotateAt != defaultRotateAt {
				report(at, "spec.trust."+tier.name+".rotateAt", message, "the default of "+defaultRotateAt+" applies")
			}
		}
	}
	for _, at := range d.members {
		warn(at, laterInMembers)
		if at.member.Spec.Cluster.Type == v1alpha1.ClusterAKS {
			report(at, "spec.cluster.type", message, "an AKS member is rendered, but the reconciler cannot reach it yet; with type Kubernetes it can")
		}
	}
}
