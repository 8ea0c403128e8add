package reconciler

import (
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// trustRequest says which CA a member is to have. Loading a fleet fills in and
// checks the lifetimes; the fallbacks are for objects that were not loaded from
// Git.
func trustRequest(network *v1alpha1.ApplicationNetwork, member string) trust.Request {
	return trust.Request{
		Member: member,
		Policy: trust.Policy{
			Network:      network.Name,
			Root:         lifetime(network.Spec.Trust.Root.CertificateLifetime, 8760*time.Hour),
			Intermediate: lifetime(network.Spec.Trust.Intermediate.CertificateLifetime, 2160*time.Hour),
			Leaf:         lifetime(network.Spec.Trust.Workload, 24*time.Hour),
		},
	}
}

func lifetime(l v1alpha1.CertificateLifetime, validity time.Duration) trust.Lifetime {
	out := trust.Lifetime{Validity: validity, RotateAt: 0.5}
	if l.Validity != nil {
		out.Validity = l.Validity.Duration
	}
	if percent, err := strconv.Atoi(strings.TrimSuffix(l.RotateAt, "%")); err == nil {
		out.RotateAt = float64(percent) / 100
	}
	return out
}
