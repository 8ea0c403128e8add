package reconciler

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// policyOf is what Git says of the CAs of a network. Loading a fleet fills in and
// checks the lifetimes; the fallbacks are for objects that were not loaded from
// Git. A leafLife other than zero is [Options.LeafLife].
func policyOf(network *v1alpha1.ApplicationNetwork, leafLife time.Duration) trust.Policy {
	spec := network.Spec.Trust
	policy := trust.Policy{
		Network:                    network.Name,
		Root:                       lifetime(spec.Root.CertificateLifetime, 8760*time.Hour),
		Intermediate:               lifetime(spec.Intermediate.CertificateLifetime, 2160*time.Hour),
		Leaf:                       lifetime(spec.Workload, 24*time.Hour),
		RootKey:                    trust.KeySpec{Algorithm: trust.KeyAlgorithm(spec.Root.Key.Algorithm), Hardware: spec.Root.Key.Hardware},
		RootKeyName:                spec.Root.Key.Name,
		External:                   spec.Root.Issuer == v1alpha1.RootExternal,
		ReplaceRootsBefore:         timeOf(spec.Root.ReplaceIssuedBefore),
		ReplaceIntermediatesBefore: timeOf(spec.Intermediate.ReplaceIssuedBefore),
		Emergency:                  spec.Root.Emergency,
		Rotation:                   trust.Rotation(spec.Root.Rotation),
		ProceedWithout:             spec.Root.ProceedWithout,
		CRL:                        spec.Revocation == v1alpha1.RevocationCRL,
		Files:                      spec.Delivery.Mode == v1alpha1.DeliverySecretProviderClass,
	}
	policy.Leaf.Validity = cmp.Or(leafLife, policy.Leaf.Validity)
	return policy
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

func timeOf(t *metav1.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

// stamp is a time as statuses have it: in whole seconds, and never before the
// time that it stands for. Zero has none.
func stamp(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	whole := t.Truncate(time.Second)
	if whole.Before(t) {
		whole = whole.Add(time.Second)
	}
	return &metav1.Time{Time: whole}
}
