package proof

import (
	"crypto/x509"
	"errors"
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
	// Roots that all replicas have workloads trust, and namespaces are given too;
	// none when that was not heard.
	Roots []*x509.Certificate
	// Some are roots that are given anywhere.
	Some []*x509.Certificate
	// Issuer is the CA that all replicas sign with; nil when they differ, or that was
	// not heard.
	Issuer *x509.Certificate
	// Foreign says that an istiod has a CA that is none of the network's: what was
	// proven before is not so any more.
	Foreign bool
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
		return Finding{Roots: a.Published, Some: a.Published,
			Why: fmt.Sprintf("which CA istiod signs with is not proven, for lack of the right to %s: isthmus member rbac gives it", a.Denied)}
	}
	if len(a.Replicas) == 0 {
		return Finding{Why: "no istiod runs"}
	}
	for _, r := range a.Replicas {
		if why := r.wrong(now); why != "" {
			return Finding{Foreign: r.Err == nil || errors.Is(r.Err, ErrForeign), Why: fmt.Sprintf("%s: %s", r.Pod, why)}
		}
	}
	return a.compare()
}

// compare puts together what replicas said that can all be believed.
func (a Answer) compare() Finding {
	first := a.Replicas[0]
	f := Finding{Roots: a.Published, Some: a.Published, Issuer: first.Chain[1]}
	if !sameRoots(a.Published, first.Roots) {
		f.Why = "the ConfigMap istio-ca-root-cert has other roots than istiod gives"
	}
	for _, r := range a.Replicas {
		if !sameRoots(r.Roots, first.Roots) {
			f.Why = fmt.Sprintf("%s gives other roots than %s", r.Pod, first.Pod)
		}
		f.Roots = slices.DeleteFunc(slices.Clone(f.Roots), func(root *x509.Certificate) bool { return !slices.ContainsFunc(r.Roots, root.Equal) })
		f.Some = append(slices.Clip(f.Some), r.Roots...)
	}
	for _, r := range a.Replicas {
		if !r.Chain[1].Equal(first.Chain[1]) {
			f.Issuer, f.Why = nil, fmt.Sprintf("%s signs with another CA than %s", r.Pod, first.Pod)
		}
	}
	return f
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
