package reconciler

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/proof"
)

const (
	// proofEvery is how often istiod is asked again that has followed: it may have
	// been started anew with something else.
	proofEvery = 6 * time.Hour
	// The pause between two looks at an istiod that has not followed doubles from
	// the first to the longest. While a root is replaced all wait for it.
	proofFirst, proofLongest, proofRotating = 2 * time.Second, 10 * time.Minute, 30 * time.Second
	// vaultRetry is how soon a vault that could not be used is asked again.
	vaultRetry = time.Minute
	// proofTimeout of one look.
	proofTimeout = time.Minute
	// maxSkew is how far a member's clock may be from ours.
	maxSkew = 5 * time.Minute
)

// authorized is the CA that a member is to have, and where its network is.
type authorized struct {
	// chain is the zero value for a member that mounts its CA, while the vault cannot
	// be used: nobody else has it.
	chain    trust.Chain
	position position
	// unavailable is why the vault could not be used; empty when it could.
	unavailable string
	// revoked is until when CAs of the member must have been issued to be on the list of
	// what is revoked now; zero for none.
	revoked time.Time
}

// authorize gets the member's CA from its vault; or, where that cannot be used, the
// one that it has.
func (r *memberReconciler) authorize(ctx context.Context, c *connection, m *v1alpha1.Member, want desired) (authorized, *status.Failure) {
	authority, failure := r.ledger.vaults.of(ctx, want.network)
	if failure != nil {
		return authorized{}, failure
	}
	a, err := r.issue(ctx, authority, c, m, want)
	if last := (*trust.LastGoodError)(nil); errors.As(err, &last) {
		a.unavailable = err.Error()
	} else if err != nil {
		chain, kept := r.keptChain(ctx, c, m, want)
		if kept != nil {
			return authorized{}, &status.Failure{Reason: status.ReasonCAUnavailable, Message: fmt.Sprintf("%v; and the member's own cannot be taken: %v", err, kept)}
		}
		a.chain, a.unavailable = chain, err.Error()
	}
	if a.unavailable == "" {
		r.noteIssued(ctx, authority, m, want)
	}
	return a, nil
}

// issue has the vault's authority issue what the member is to have now.
func (r *memberReconciler) issue(ctx context.Context, authority *trust.Authority, c *connection, m *v1alpha1.Member, want desired) (authorized, error) {
	policy := policyOf(want.network, r.ledger.leafLife)
	issued, err := authority.Issued(ctx, policy, m.Name)
	if err != nil {
		return authorized{}, err
	}
	self := observedOf(m)
	self.Issued, self.Reachable = &issued, true
	var a authorized
	var failure *status.Failure
	if a.position, failure = r.ledger.where(ctx, want.following(m), &self); failure != nil {
		return authorized{}, errors.New(failure.Message)
	}
	request := trust.Request{Policy: policy, Member: m.Name, Clock: c.member}
	if m.Spec.Trust != nil {
		request.ReplaceIssuedBefore = timeOf(m.Spec.Trust.ReplaceIssuedBefore)
	}
	if before := revokedBefore(m); policy.CRL && !before.IsZero() {
		changed, err := authority.Revoke(ctx, policy, m.Name, before)
		if err != nil {
			return authorized{}, err
		}
		if changed {
			r.ledger.wakeAll(want.network.Name)
		}
		a.revoked = before
	}
	var known bool
	if request.Target, known = a.position.Target(m.Name); !known {
		if request.Target, err = targetNow(issued, a.position.roots); err != nil {
			return authorized{}, err
		}
	}
	if issued.Signer == "" {
		if request.Fresh, err = isFresh(ctx, c); err != nil {
			return authorized{}, err
		}
	}
	a.chain, err = authority.Issue(ctx, request)
	return a, err
}

// revokedBefore is until when CAs of a member that stays must have been issued to go
// on the list now: not before its istiods are proven to sign by one that stays off it.
// Zero for none.
func revokedBefore(m *v1alpha1.Member) time.Time {
	known := m.Status.Trust
	if m.Spec.Trust == nil || !hasFollowed(known) {
		return time.Time{}
	}
	before := timeOf(m.Spec.Trust.RevokeIssuedBefore)
	if issuedOf(known.Issued).Made().Before(before) {
		return time.Time{}
	}
	return before
}

// following is what the members of the network follow.
func (d desired) following(m *v1alpha1.Member) following {
	return following{network: d.network, fleet: fleetOf(m), elsewhere: d.elsewhere}
}

// targetNow is what a member has, for one of which nothing else is known to be
// right. A network's first members get its one root.
func targetNow(issued trust.Issued, roots []trust.Root) (trust.Target, error) {
	if issued.Signer == "" {
		if len(roots) == 1 {
			return trust.Target{}, nil
		}
		return trust.Target{}, errors.New("which of the network's roots to begin with is known once the hub has told what other members have")
	}
	var t trust.Target
	for _, root := range roots {
		if _, trusts := issued.Trusts[root.Trusts()]; trusts {
			t.Trusts = append(t.Trusts, root)
		}
		if issued.Signer == root.Signs() {
			t.Signer = root
		}
	}
	if t.Signer.Certificate == nil {
		return t, errors.New("the member's CA is signed by no root of the vault")
	}
	return t, nil
}

// isFresh says whether the cluster has no certificates of a network: no istiod has
// ever run there with a CA.
func isFresh(ctx context.Context, c *connection) (bool, error) {
	for resource, name := range map[string]string{"secrets": trust.SecretName, "configmaps": proof.RootsName} {
		_, err := c.member.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).
			Namespace(c.mesh.SystemNamespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			return false, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, fmt.Errorf("look for a CA in the member: %w", err)
		}
	}
	return true, nil
}

// noteIssued puts into the member's status what the vault has for it, for the
// decisions of others. What cannot be read stays as it is known.
func (r *memberReconciler) noteIssued(ctx context.Context, authority *trust.Authority, m *v1alpha1.Member, want desired) {
	issued, err := authority.Issued(ctx, policyOf(want.network, r.ledger.leafLife), m.Name)
	if err != nil {
		return
	}
	if m.Status.Trust == nil {
		m.Status.Trust = &v1alpha1.MemberTrustStatus{}
	}
	m.Status.Trust.Issued = issuedStatus(issued)
}

// noteUnreached does so for a member that is not worked on: nobody is to wait for
// what the vault could tell.
func (r *memberReconciler) noteUnreached(ctx context.Context, m *v1alpha1.Member, want desired) {
	if m.Status.Trust != nil && m.Status.Trust.Issued != nil {
		return
	}
	if authority, failure := r.ledger.vaults.of(ctx, want.network); failure == nil {
		r.noteIssued(ctx, authority, m, want)
	}
}

// keptChain is the CA that the member has, if it is the one that was issued last. Of
// one that is mounted there is nothing to read.
func (r *memberReconciler) keptChain(ctx context.Context, c *connection, m *v1alpha1.Member, want desired) (trust.Chain, error) {
	if m.Status.Trust == nil || m.Status.Trust.Issued == nil || m.Status.Trust.Issued.Signer == "" {
		return trust.Chain{}, errors.New("the hub does not know of any")
	}
	if want.network.Spec.Trust.Delivery.Mode == v1alpha1.DeliverySecretProviderClass {
		return trust.Chain{}, nil
	}
	secret, err := c.member.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).
		Namespace(c.mesh.SystemNamespace).Get(ctx, trust.SecretName, metav1.GetOptions{})
	if err != nil {
		return trust.Chain{}, err
	}
	chain, err := trust.ParseChain(filesOf(secret), r.now())
	if err != nil {
		return trust.Chain{}, err
	}
	issued := issuedOf(m.Status.Trust.Issued)
	if chain.Serial() != issued.Serial || chain.Signer() != issued.Signer ||
		!slices.Equal(fingerprintsOf(chain.Trusts), slices.Sorted(maps.Keys(issued.Trusts))) {
		return trust.Chain{}, errors.New("it is not the one that was issued last")
	}
	return chain, nil
}

func filesOf(secret *unstructured.Unstructured) map[string][]byte {
	text, _, _ := unstructured.NestedStringMap(secret.Object, "data")
	files := map[string][]byte{}
	for name, encoded := range text {
		files[name], _ = base64.StdEncoding.DecodeString(encoded)
	}
	return files
}

// prove asks the member's istiods what they do, when that is due, and puts what is
// proven into the member's status.
func (r *memberReconciler) prove(ctx context.Context, c *connection, m *v1alpha1.Member, a authorized) {
	known := m.Status.Trust
	if known == nil || known.Issued == nil || a.chain.Intermediate == nil || !c.proof.due(r.now(), known) {
		return
	}
	if skew, told := c.member.Skew(); told && skew.Abs() > maxSkew {
		// Waits are reckoned from proofs.
		known.Unproven = "the reconciler's clock and that of the member's API server are more than five minutes apart: set the one that is wrong"
		c.proof.took(r.now(), false, false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	question := proof.Question{Namespace: c.mesh.SystemNamespace, Roots: a.chain.Trusts}
	for _, root := range a.position.roots {
		question.Roots = append(slices.Clip(question.Roots), root.Anchor())
	}
	answer, err := proof.Ask(ctx, c.member, question)
	now := r.now()
	if err != nil {
		known.Unproven = "ask istiod what it signs with: " + err.Error()
	} else {
		known.Proven, known.Unproven = learned(known.Proven, answer.Judge(now), a.chain, a.position.roots, now)
	}
	known.Unproven = shortened(known.Unproven)
	c.proof.took(now, hasFollowed(known), len(a.position.Old) > 0)
}

// maxWords of what goes into a status.
const maxWords = 1024

func shortened(text string) string { return shortenedTo(text, maxWords) }

func shortenedTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most-len("…")] + "…"
}

// proofPace says when istiod is to be asked. The zero value asks at once, but for
// what is proven.
type proofPace struct {
	pace
	// again: something of istiod has changed since.
	again bool
}

func (p *proofPace) due(now time.Time, known *v1alpha1.MemberTrustStatus) bool {
	switch {
	case p.again:
		return p.pace.due(now)
	case hasFollowed(known):
		return now.Sub(timeOf(known.Proven.At)) >= proofEvery
	}
	return p.pace.due(now)
}

// took takes a look's result.
func (p *proofPace) took(now time.Time, followed, rotating bool) {
	if followed {
		*p = proofPace{}
		return
	}
	longest := proofLongest
	if rotating {
		longest = proofRotating
	}
	p.slower(now, proofFirst, longest)
}

// changed takes what a delivery did: a change of istiod or of its CA is to be
// proven anew, soon.
func (p *proofPace) changed(changes []apply.Change) {
	for _, change := range changes {
		istiod := isIstiod(change.Subject)
		ca := change.Subject.Kind == "Secret" && change.Subject.Name == trust.SecretName
		if (istiod || ca) && change.Action != apply.Unchanged {
			*p = proofPace{again: true}
		}
	}
}

func isIstiod(s apply.Subject) bool { return s.Kind == "Deployment" && s.Name == "istiod" }

// wait is how long until istiod is to be asked; zero for not at all.
func (p *proofPace) wait(now time.Time, known *v1alpha1.MemberTrustStatus) time.Duration {
	if !p.again && (known == nil || known.Issued == nil || hasFollowed(known)) {
		return 0
	}
	return max(p.next.Sub(now), soon)
}

// revoke puts the CAs of a member that leaves on the revocation list of its network,
// where that has one. A network that is not on the hub any more has no one left to
// read it.
func (r *memberReconciler) revoke(ctx context.Context, m *v1alpha1.Member) *status.Failure {
	var network v1alpha1.ApplicationNetwork
	err := r.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: m.Spec.ApplicationNetwork}, &network)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return hubFailure("read ApplicationNetwork "+m.Spec.ApplicationNetwork, err)
	}
	policy := policyOf(&network, r.ledger.leafLife)
	if !policy.CRL || m.Status.ClusterUID == "" {
		return nil
	}
	authority, failure := r.ledger.vaults.of(ctx, &network)
	if failure != nil {
		return failure
	}
	if _, err := authority.Revoke(ctx, policy, m.Name, r.now()); err != nil {
		return &status.Failure{Reason: status.ReasonCAUnavailable, Message: err.Error()}
	}
	r.ledger.wakeAll(network.Name)
	return nil
}
