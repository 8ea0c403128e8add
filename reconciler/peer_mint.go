package reconciler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// Reasons of events about peers.
const (
	// ReasonPeerCredentialMade: a member got its first credential for a peer.
	ReasonPeerCredentialMade = "PeerCredentialMade"
	// ReasonPeerCredentialReplaced: it got another one.
	ReasonPeerCredentialReplaced = "PeerCredentialReplaced"
	// ReasonPeerCredentialFailed: none could be made.
	ReasonPeerCredentialFailed = "PeerCredentialFailed"
)

const (
	// mintTimeout bounds what all peers together may take of one turn of a member.
	mintTimeout = 20 * time.Second
	// mintAtOnce is how many peers are asked side by side, and tryAtOnce how many
	// whether they take what they have made.
	mintAtOnce, tryAtOnce = 8, 32
)

// minted is what came of one pair.
type minted struct {
	pair       *pair
	credential *peering.Credential
	// kept says that the peer's own clock finds nothing to replace.
	kept bool
	err  error
}

// mint makes the credentials that are due, and returns how soon to look again; zero
// for not by itself. It comes after the delivery, which so waits for no peer, and
// drift is corrected beside it. What it made comes into the next set.
func (r *memberReconciler) mint(ctx context.Context, c *connection, m *v1alpha1.Member, set apply.Set, p *pairs, report *report) time.Duration {
	now, wait := r.now(), time.Duration(0)
	var due []*pair
	for _, one := range p.all {
		is, next := c.peers.due(one, now)
		switch {
		case is:
			due = append(due, one)
		case !next.IsZero():
			wait = sooner(wait, max(next.Sub(now), soon))
		case !one.verdict.Mint:
			wait = sooner(wait, max(p.policy.DueAt(one.facts.Live.Claims).Sub(one.facts.Now), soon))
		}
	}
	if len(due) == 0 {
		return wait
	}
	ctx, cancel := context.WithTimeout(ctx, mintTimeout)
	defer cancel()
	c.setUnderWay(&underWay{ctx: ctx, set: p.in(set), report: report})
	results := r.mintAll(ctx, p, due)
	c.setUnderWay(nil)
	for _, result := range results {
		name := result.pair.want.Name
		switch {
		case result.credential != nil:
			c.peers.made(*result.credential, !result.pair.verdict.Usable, r.now())
			wait = soon
		case result.kept:
			r.endpoints.forget(client.ObjectKeyFromObject(result.pair.peer)) // with the clock
			result.pair.verdict = peering.Verdict{Usable: true}
			wait = sooner(wait, time.Minute)
		default:
			why := mintTrouble(result)
			c.peers.fail(name, why, r.now())
			result.pair.trouble = &why
			wait = sooner(wait, max(c.peers.tries[name].next.Sub(now), soon))
		}
	}
	r.announceMinted(m, results)
	return wait
}

func (r *memberReconciler) mintAll(ctx context.Context, p *pairs, due []*pair) []minted {
	var (
		mu      sync.Mutex
		results = make([]minted, 0, len(due))
		work    errgroup.Group
	)
	work.SetLimit(mintAtOnce)
	for _, one := range due {
		work.Go(func() error {
			result := r.mintOne(ctx, p, one)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, result)
			return nil
		})
	}
	_ = work.Wait() // nobody returns one
	r.tryAll(ctx, results)
	return results
}

// tryAll takes back the credentials that their peers refuse, for all in the time of
// one. What could not be tried in it is delivered all the same.
func (r *memberReconciler) tryAll(ctx context.Context, results []minted) {
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	var work errgroup.Group
	work.SetLimit(tryAtOnce)
	for i := range results {
		if result := &results[i]; result.credential != nil {
			work.Go(func() error {
				if reason := r.refusal(ctx, result.pair.peer, *result.credential); reason != "" {
					result.credential, result.err = nil, refused(reason)
				}
				return nil
			})
		}
	}
	_ = work.Wait() // nobody returns one
}

// refused is the error of a credential that the peer does not take, though it has just
// made it.
func refused(reason member.Reason) error {
	if reason == member.AccessDenied {
		return &member.Error{Reason: reasonAccountDenied, Doing: fmt.Sprintf(
			"its ServiceAccount %s may not read it: isthmus puts its ClusterRole and the binding back unless spec.drift says otherwise; who takes them away?", peering.Account)}
	}
	return &member.Error{Reason: tokenRejected, Doing: "its API server rejects the token that it has just made: do all of its servers verify tokens of service accounts by the same keys and issuer?"}
}

// mintOne makes one credential in the peer, after a look at whether it is the right
// cluster, which also tells the peer's time.
func (r *memberReconciler) mintOne(ctx context.Context, p *pairs, one *pair) minted {
	result := minted{pair: one}
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	name := client.ObjectKeyFromObject(one.peer)
	r.endpoints.forget(name)
	c, err := r.peer(ctx, one.peer)
	if err != nil {
		result.err = &member.Error{Reason: reasonPeerUnreachable, Doing: err.Error()}
		return result
	}
	uid, err := c.member.ClusterUID(ctx)
	if err != nil {
		result.err = err
		return result
	}
	if string(uid) != one.peer.Status.ClusterUID {
		result.err = &member.Error{Reason: status.ReasonClusterChanged, Doing: "its credentials on the hub lead to another cluster than before"}
		return result
	}
	at := r.endpoints.of(ctx, r, one.peer, r.now())
	if at.endpoint == nil {
		result.err = &member.Error{Reason: member.Reason(at.trouble.reason), Doing: at.trouble.message}
		return result
	}
	if one.verdict.Timed {
		facts := one.facts
		facts.Now = r.now().Add(-at.skew)
		if result.kept = !peering.Judge(p.policy, facts).Mint; result.kept {
			return result
		}
	}
	made, err := peering.Mint(ctx, c.member.Token, peering.Request{
		Peer: one.want.Name, Endpoint: *at.endpoint, Namespace: p.mesh.SystemNamespace,
		Anchor: one.facts.Anchor, AnchorUID: one.facts.AnchorUID, Lifetime: p.policy.Lifetime,
		Before: one.facts.Live,
	})
	if err != nil {
		result.err = err
		return result
	}
	result.credential = &made
	return result
}

// mintTrouble says what an error of a peer means for the pair, and what to do.
func mintTrouble(result minted) trouble {
	err, peer := result.err, result.pair.want.Name
	reason := member.ReasonOf(err)
	switch {
	case apierrors.IsNotFound(err) && missingKind(err) == "secrets", apierrors.IsConflict(err):
		return trouble{reason: reasonAnchorMissing, waits: true,
			message: fmt.Sprintf("it lacks the Secret %s that tokens are bound to, which its next delivery brings: kubectl get member %s", result.pair.facts.Anchor, peer)}
	case apierrors.IsNotFound(err):
		return trouble{reason: reasonAccountMissing,
			message: fmt.Sprintf("it lacks the ServiceAccount %s that it is read as: isthmus puts it back unless spec.drift says otherwise; who deletes it?", peering.Account)}
	case reason == member.AccessDenied:
		return trouble{reason: string(reason),
			message: fmt.Sprintf("isthmus may not make tokens of the account %s in it: apply there what isthmus member rbac %s writes", peering.Account, peer)}
	}
	return trouble{reason: string(reason), message: shortenedTo(err.Error(), maxPeerWords)}
}

// missingKind is the resource that an API server did not find; empty if it does not
// say.
func missingKind(err error) string {
	if details := apierrors.APIStatus(nil); errors.As(err, &details) && details.Status().Details != nil {
		return details.Status().Details.Kind
	}
	return ""
}

// announceMinted emits one event for all that were made first, one for all that were
// replaced, and one for each new trouble.
func (r *memberReconciler) announceMinted(m *v1alpha1.Member, results []minted) {
	made, replaced := map[string]bool{}, map[string]bool{}
	for _, result := range results {
		one := result.pair
		switch {
		case result.credential != nil && one.verdict.Reason == peering.Missing:
			made[one.want.Name] = true
		case result.credential != nil:
			replaced[one.want.Name+" ("+one.verdict.Reason+")"] = true
		case result.err != nil && one.known.Reason != one.trouble.reason:
			r.events.Eventf(m, corev1.EventTypeWarning, ReasonPeerCredentialFailed, "no credential to discover %s: %s: %s", one.want.Name, one.trouble.reason, one.trouble.message)
		}
	}
	if len(made) > 0 {
		r.events.Eventf(m, corev1.EventTypeNormal, ReasonPeerCredentialMade, "made credentials to discover %s", firstOf(sortedKeys(made)))
	}
	if len(replaced) > 0 {
		r.events.Eventf(m, corev1.EventTypeNormal, ReasonPeerCredentialReplaced, "replaced credentials to discover %s", firstOf(sortedKeys(replaced)))
	}
}
