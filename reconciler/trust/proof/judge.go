package proof

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Replica is what one istiod answered.
type Replica struct {
	Pod string
	// Chain of the certificate that it signed: that certificate, its issuer, and
	// those above, up to the roots.
	Chain []*x509.Certificate
	// Roots that it has workloads trust.
	Roots []*x509.Certificate
	// Err is why it did not answer.
	Err error
}

// Answer is what was found on a member.
type Answer struct {
	// Replicas of istiod that run, sorted by pod.
	Replicas []Replica
	// Published are the roots in the ConfigMap istio-ca-root-cert.
	Published []*x509.Certificate
	// PublishedErr is why that is not known.
	PublishedErr error
	// Denied is which right is missing to ask istiod; empty when none is.
	Denied string
}

// Finding is what is proven of a member.
type Finding struct {
	// Roots that all of its replicas have workloads trust; none when that is not
	// proven.
	Roots []*x509.Certificate
	// Issuer is the CA that all of its replicas sign with; nil when that is not
	// proven.
	Issuer *x509.Certificate
	// Why not all is proven; empty when it is. Without times and counts, so that it
	// does not change from one look to the next.
	Why string
}

// Judge says what is proven at a time.
func (a Answer) Judge(now time.Time) Finding {
	if a.PublishedErr != nil {
		return Finding{Why: fmt.Sprintf("read the roots that istiod publishes: %v", a.PublishedErr)}
	}
	if a.Denied != "" {
		return Finding{Roots: a.Published, Why: fmt.Sprintf("which CA istiod signs with is not proven, for lack of the right to %s: isthmus member rbac gives it", a.Denied)}
	}
	if len(a.Replicas) == 0 {
		return Finding{Why: "no istiod runs"}
	}
	for _, r := range a.Replicas {
		if why := r.wrong(now); why != "" {
			return Finding{Why: fmt.Sprintf("%s: %s", r.Pod, why)}
		}
	}
	first := a.Replicas[0]
	for _, r := range a.Replicas[1:] {
		switch {
		case !r.Chain[1].Equal(first.Chain[1]):
			return Finding{Why: fmt.Sprintf("%s signs with another CA than %s", r.Pod, first.Pod)}
		case !sameRoots(r.Roots, first.Roots):
			return Finding{Why: fmt.Sprintf("%s gives other roots than %s", r.Pod, first.Pod)}
		}
	}
	if !sameRoots(a.Published, first.Roots) {
		return Finding{Why: "the ConfigMap istio-ca-root-cert has other roots than istiod gives"}
	}
	return Finding{Roots: first.Roots, Issuer: first.Chain[1]}
}

// wrong is why a replica proves nothing; empty when it does.
func (r Replica) wrong(now time.Time) string {
	switch {
	case r.Err != nil:
		return r.Err.Error()
	case len(r.Chain) < 2:
		return "its certificate comes without that of its issuer"
	case r.Chain[0].IsCA:
		return "it signed a CA"
	case len(r.Roots) == 0:
		return "it gives no roots"
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range r.Roots {
		roots.AddCert(root)
	}
	for _, certificate := range r.Chain[1:] {
		above.AddCert(certificate)
	}
	if err := r.Chain[0].CheckSignatureFrom(r.Chain[1]); err != nil {
		return "the certificate that comes with its own did not sign that"
	}
	_, err := r.Chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: above, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "its certificate does not lead to the roots that it gives: " + err.Error()
	}
	return ""
}

// sameRoots tells whether two lists have the same certificates, in any order.
func sameRoots(a, b []*x509.Certificate) bool {
	return slices.Equal(identities(a), identities(b))
}

func identities(certificates []*x509.Certificate) []string {
	out := make([]string, 0, len(certificates))
	for _, c := range certificates {
		out = append(out, string(c.Raw))
	}
	slices.SortFunc(out, strings.Compare)
	return slices.Compact(out)
}
