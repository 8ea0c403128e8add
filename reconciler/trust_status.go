package reconciler

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
)

// ReasonTrustStep is the reason of the events that tell where a network's root is.
const ReasonTrustStep = "TrustStep"

// issuedStatus is what a member's status says of what the vault has for it.
func issuedStatus(i trust.Issued) *v1alpha1.IssuedTrust {
	return &v1alpha1.IssuedTrust{
		Trusts: trustedStatus(i.Trusts), TrustsSince: stamp(i.ListSince), Signer: string(i.Signer), SignerSince: stamp(i.SignerSince), Joined: stamp(i.Joined),
		Serial: i.Serial, NotBefore: stamp(i.NotBefore), NotAfter: stamp(i.NotAfter),
	}
}

// issuedOf reads it back; nil for what is not known.
func issuedOf(i *v1alpha1.IssuedTrust) *trust.Issued {
	if i == nil {
		return nil
	}
	return &trust.Issued{
		Trusts: trustedOf(i.Trusts), ListSince: timeOf(i.TrustsSince), Signer: trust.Fingerprint(i.Signer), SignerSince: timeOf(i.SignerSince), Joined: timeOf(i.Joined),
		Serial: i.Serial, NotBefore: timeOf(i.NotBefore), NotAfter: timeOf(i.NotAfter),
	}
}

func trustedStatus(all map[trust.Fingerprint]time.Time) []v1alpha1.TrustedRoot {
	var out []v1alpha1.TrustedRoot
	for _, fingerprint := range slices.Sorted(maps.Keys(all)) {
		out = append(out, v1alpha1.TrustedRoot{Fingerprint: string(fingerprint), Since: *cmp.Or(stamp(all[fingerprint]), &metav1.Time{})})
	}
	return out
}

func trustedOf(all []v1alpha1.TrustedRoot) map[trust.Fingerprint]time.Time {
	out := map[trust.Fingerprint]time.Time{}
	for _, root := range all {
		out[trust.Fingerprint(root.Fingerprint)] = root.Since.Time
	}
	return out
}

// observedOf is a member as its status has it.
func observedOf(m *v1alpha1.Member) trust.Observed {
	o := trust.Observed{Member: m.Name, Reachable: reachable(m), RootsAtStart: rootsAtStart(m.Status.Release)}
	known := m.Status.Trust
	if known == nil {
		return o
	}
	o.Issued, o.Restarted = issuedOf(known.Issued), timeOf(known.RestartedAfter)
	if p := known.Proven; p != nil {
		o.Trusts, o.TrustsSince, o.ProvenAt = trustedOf(p.Trusts), timeOf(p.TrustsSince), timeOf(p.At)
		o.Signer, o.SignerSince = trust.Fingerprint(p.Signer), timeOf(p.SignerSince)
	}
	return o
}

// rootsAtStart says whether a release's node proxies read the roots by which they
// know the CA only when they start. Those of which no release is known yet are
// restarted rather than cut off.
func rootsAtStart(release string) bool {
	return release == "" || catalog.Release{Version: release}.RestartsForRoots()
}

// reachable says whether the member's API answered when it was last asked.
func reachable(m *v1alpha1.Member) bool {
	return readyOf(m) != nil && !m.Spec.Suspend && unreachableReason(m) == ""
}

// unreachableReason is why the member's API did not answer when it was last asked;
// empty where it did, or was not asked.
func unreachableReason(m *v1alpha1.Member) string {
	ready := readyOf(m)
	if ready == nil {
		return ""
	}
	switch member.Reason(ready.Reason) {
	case member.Unreachable, member.CertificateRejected, member.CredentialsRejected, member.KubeconfigRefused,
		member.AccessDenied, member.AzureLoginRefused, member.ClusterGone, status.ReasonSecretNotFound, status.ReasonClusterChanged:
		return ready.Reason
	}
	return ""
}

// learned is what a look at a member's istiods makes of what was known: what is
// proven now, and why that is not all that could be. Chain is what was delivered,
// roots are those of the network.
//
// A look that heard nothing leaves what is known. A root is proven from when on
// everybody gives it, and is gone when nobody does.
func learned(before *v1alpha1.ProvenTrust, f proof.Finding, chain trust.Chain, roots []trust.Root, at time.Time) (*v1alpha1.ProvenTrust, string) {
	switch {
	case f.Foreign:
		return nil, f.Why
	case len(f.Some) == 0:
		return before, f.Why
	case before == nil:
		before = &v1alpha1.ProvenTrust{}
	}
	now := stamp(at)
	out := &v1alpha1.ProvenTrust{At: now, TrustsSince: now}
	since, trusts := trustedOf(before.Trusts), map[trust.Fingerprint]time.Time{}
	for _, fingerprint := range fingerprintsOf(f.Some) {
		if _, had := since[fingerprint]; had {
			trusts[fingerprint] = since[fingerprint]
		}
	}
	for _, fingerprint := range fingerprintsOf(f.Roots) {
		if _, had := since[fingerprint]; !had {
			trusts[fingerprint] = now.Time
		}
	}
	out.Trusts = trustedStatus(trusts)
	if maps.EqualFunc(trusts, since, time.Time.Equal) {
		out.TrustsSince = before.TrustsSince
	}
	if f.Issuer == nil {
		return out, f.Why
	}
	signer := signerOf(f.Issuer, chain, roots)
	if signer == "" {
		return out, "istiod signs with a CA that is not from a root of the network"
	}
	out.Signer, out.SignerSince, out.Serial = string(signer), now, f.Issuer.SerialNumber.Text(16)
	if before.Signer == out.Signer {
		out.SignerSince = before.SignerSince
	}
	return out, cmp.Or(f.Why, behind(f, chain))
}

func signerOf(issuer *x509.Certificate, chain trust.Chain, roots []trust.Root) trust.Fingerprint {
	if issuer.Equal(chain.Intermediate) {
		return chain.Signer()
	}
	root, ok := trust.SignerOf(roots, issuer)
	if !ok {
		return ""
	}
	return root.Signs()
}

// behind says what a member has not followed yet of what was delivered; empty when
// it has.
func behind(f proof.Finding, chain trust.Chain) string {
	if !f.Issuer.Equal(chain.Intermediate) {
		return fmt.Sprintf("istiod signs with the CA of serial number %s, not yet with %s", f.Issuer.SerialNumber.Text(16), chain.Serial())
	}
	want, have := fingerprintsOf(chain.Trusts), fingerprintsOf(f.Roots)
	if !slices.Equal(want, have) {
		return "istiod has workloads trust other roots than it was given"
	}
	return ""
}

func fingerprintsOf(all []*x509.Certificate) []trust.Fingerprint {
	var out []trust.Fingerprint
	for _, c := range all {
		out = append(out, trust.FingerprintOf(c))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hasFollowed says whether what is issued is also proven, by a look that is not
// older than it: what was issued may look the same as what was before.
func hasFollowed(t *v1alpha1.MemberTrustStatus) bool {
	if t == nil || t.Issued == nil || t.Proven == nil {
		return false
	}
	same := slices.EqualFunc(t.Issued.Trusts, t.Proven.Trusts, func(a, b v1alpha1.TrustedRoot) bool { return a.Fingerprint == b.Fingerprint })
	at := timeOf(t.Proven.At)
	newer := !at.Before(timeOf(t.Issued.TrustsSince)) && !at.Before(timeOf(t.Issued.SignerSince))
	return same && newer && t.Issued.Serial == t.Proven.Serial && t.Issued.Signer == t.Proven.Signer
}

// networkStatus is what a network's status says of a decision.
func networkStatus(d trust.Decision, roots []trust.Root) *v1alpha1.NetworkTrustStatus {
	out := &v1alpha1.NetworkTrustStatus{Step: string(d.Step), Why: d.Why, NextAt: stamp(d.NextAt)}
	for _, b := range d.Blockers {
		if len(out.Blockers) == maxBlockers {
			break
		}
		out.Blockers = append(out.Blockers, v1alpha1.TrustBlocker{Member: b.Member, Reason: string(b.Reason), Message: b.Message, Until: stamp(b.Until)})
	}
	for _, root := range roots[max(0, len(roots)-maxRoots):] {
		c := root.Certificate
		out.Roots = append(out.Roots, v1alpha1.RootStatus{
			Generation: int32(root.Generation), Fingerprint: string(root.Trusts()), Signer: string(root.Signs()), //nolint:gosec // G115: a count.
			Subject: c.Subject.String(), Serial: c.SerialNumber.Text(16),
			NotBefore: metav1.NewTime(c.NotBefore), NotAfter: metav1.NewTime(c.NotAfter), State: rootState(d, root),
		})
	}
	return out
}

// turned puts into a network's status since when its rotation goes the way that it
// does. Only this record says that nobody decides by the way before any more.
//
// Where there is no record yet, as of a new network or on a hub that was made anew, and
// all members are known to have one root, there was no way before that could have given
// somebody something else: it has always gone this way, and no time says so. Until they
// are known nothing is recorded, for as long as no root is replaced.
func turned(before, after *v1alpha1.NetworkTrustStatus, policy trust.Policy, d trust.Decision, now time.Time) {
	after.Rotation, after.RotationSince = string(rotationOf(policy)), stamp(now)
	recorded := before != nil && before.Rotation != ""
	switch {
	case recorded && before.Rotation == after.Rotation:
		after.RotationSince = before.RotationSince
	case recorded || len(d.Old) > 0:
	case d.Known:
		after.RotationSince = nil
	case d.Step == trust.StepSettled:
		after.Rotation, after.RotationSince = "", nil
	}
}

func rotationOf(policy trust.Policy) trust.Rotation {
	return cmp.Or(policy.Rotation, trust.RotationProceed)
}

// maxBlockers and maxRoots bound a network's status.
const maxBlockers, maxRoots = 20, 64

func rootState(d trust.Decision, root trust.Root) string {
	switch {
	case slices.ContainsFunc(d.Old, func(old trust.Root) bool { return old.Generation == root.Generation }):
		return "Old"
	case d.New.Generation != root.Generation:
		return "Retired"
	case len(d.Old) > 0:
		return "New"
	}
	return "Current"
}

// trustOutcome is what a member's status says of its CA.
func trustOutcome(m *v1alpha1.Member, unavailable string) status.Trust {
	known := m.Status.Trust
	if known == nil || known.Issued == nil {
		return status.Trust{}
	}
	return status.Trust{
		Serial: known.Issued.Serial, NotAfter: timeOf(known.Issued.NotAfter),
		Proven: hasFollowed(known), Unproven: known.Unproven, Unavailable: unavailable,
	}
}

// announceTrust emits an event when what is known of a member's CA has changed its
// meaning, or another one was proven.
func announceTrust(events record.EventRecorder, before, after *v1alpha1.Member) {
	was, is := apimeta.FindStatusCondition(before.Status.Conditions, status.TrustReady), apimeta.FindStatusCondition(after.Status.Conditions, status.TrustReady)
	switch {
	case is == nil || is.Status == metav1.ConditionUnknown:
	case is.Status == metav1.ConditionTrue && (was == nil || was.Reason != is.Reason || was.Message != is.Message || provenNames(before) != provenNames(after)):
		events.Eventf(after, corev1.EventTypeNormal, is.Reason, "%s; workloads trust %s", is.Message, provenNames(after))
	case is.Status == metav1.ConditionFalse && (was == nil || was.Reason != is.Reason):
		events.Event(after, corev1.EventTypeWarning, is.Reason, is.Message)
	}
}

// provenNames are the beginnings of the fingerprints of what is proven.
func provenNames(m *v1alpha1.Member) string {
	if m.Status.Trust == nil || m.Status.Trust.Proven == nil {
		return ""
	}
	var out []string
	for _, root := range m.Status.Trust.Proven.Trusts {
		out = append(out, root.Fingerprint[:min(16, len(root.Fingerprint))])
	}
	return strings.Join(out, ", ")
}
