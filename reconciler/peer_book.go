package reconciler

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// Reasons of pairs beside those of package peering and of members. They are frozen
// once released.
const (
	// reasonEndpointUnknown: where the peer is for others' istiods is not known.
	reasonEndpointUnknown = "PeerEndpointUnknown"
	// reasonPeerUnreachable: the reconciler cannot make a token in the peer.
	reasonPeerUnreachable = "PeerUnreachable"
	// reasonAnchorMissing: the peer lacks the Secret that the token is bound to.
	reasonAnchorMissing = "AnchorMissing"
	// reasonAccountMissing: the peer lacks the reader account.
	reasonAccountMissing = "ReaderAccountMissing"
	// reasonAccountDenied: the reader account may not read the peer.
	reasonAccountDenied = "ReaderAccountDenied"
	// reasonNotOurs: somebody else's Secret is where the credential belongs.
	reasonNotOurs = "RemoteSecretNotOurs"
	// tokenRejected: the peer does not take the token.
	tokenRejected = "TokenRejected"
)

const (
	// The pause between two tries of a pair doubles from the first to the longest.
	mintFirst, mintLongest = 5 * time.Second, 5 * time.Minute
)

// peerBook is what this process knows of a member's credentials for its peers. Only
// the member's own reconcile uses it. The zero value knows nothing.
type peerBook struct {
	loaded bool
	held   map[string]held
	// void are those whose token the peer was seen to reject, and checked when a token
	// that istiod reads with was last tried.
	void    map[string]bool
	checked map[string]time.Time
	tries   map[string]try
	sight   peerSight
}

// held is a credential in the member, or one that comes into it next.
type held struct {
	credential *peering.Credential
	digest     string
	unreadable error
	// known is the hub's record of it.
	known *v1alpha1.PeerCredentialStatus
	// foreign says whose Secret is in its place; empty for nobody's.
	foreign string
	// replaces says that another kubeconfig has to go from the member first, and gone
	// when it had: istiod may lose a peer's gateways by one that is replaced in place.
	replaces bool
	gone     time.Time
}

// try is when to try again to make a credential, and why it failed.
type try struct {
	pace
	trouble trouble
}

// forget drops everything; what is in the member is then no more known.
func (b *peerBook) forget() { *b = peerBook{} }

// load reads what the member has, unless this process knows.
func (b *peerBook) load(ctx context.Context, c *connection, m *v1alpha1.Member) error {
	if b.loaded {
		return nil
	}
	inNamespace := c.member.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(c.mesh.SystemNamespace)
	secrets, err := inNamespace.List(ctx, metav1.ListOptions{LabelSelector: peering.LabelMultiCluster + "=true"})
	if err != nil {
		return member.Wrap("read the credentials for peers", err)
	}
	tokens := map[string][]byte{}
	switch found, err := inNamespace.Get(ctx, v1alpha1.PeerTokens, metav1.GetOptions{}); {
	case err == nil:
		tokens = filesOf(found)
	case !apierrors.IsNotFound(err):
		return member.Wrap("read the tokens for peers", err)
	}
	b.held, b.void, b.checked, b.tries = map[string]held{}, map[string]bool{}, map[string]time.Time{}, map[string]try{}
	for i := range secrets.Items {
		secret := &secrets.Items[i]
		peer, ok := strings.CutPrefix(secret.GetName(), peering.SecretPrefix)
		if !ok {
			continue
		}
		data := filesOf(secret)
		one := held{digest: peering.Digest(data, tokens[peer]), known: recordOf(m, peer)}
		credential, err := peering.Parse(peer, data, tokens[peer])
		switch {
		case secret.GetLabels()[apply.LabelNetwork] != c.mesh.Network && m.Annotations[apply.AdoptAnnotation] != apply.AdoptExisting:
			one.foreign = fmt.Sprintf("the Secret %s there is not isthmus's: delete it, or annotate the member with %s=%s to have it replaced", secret.GetName(), apply.AdoptAnnotation, apply.AdoptExisting)
		case err != nil:
			one.unreadable = err
		default:
			one.credential = &credential
		}
		b.held[peer] = one
	}
	b.loaded = true
	return nil
}

// recordOf is the hub's record of a member's credential for a peer; nil for none.
func recordOf(m *v1alpha1.Member, peer string) *v1alpha1.PeerCredentialStatus {
	return pairOfStatus(m, peer).Credential
}

// made takes a new credential; void says that what was there may not stay until then.
func (b *peerBook) made(c peering.Credential, void bool, now time.Time) {
	record := c.Status()
	before, had := b.held[c.Peer]
	b.held[c.Peer] = held{
		credential: &c, digest: record.Digest, known: record,
		replaces: had && (void || before.replaces || before.credential == nil || !before.credential.First.Equal(c.First)),
	}
	delete(b.tries, c.Peer)
	delete(b.void, c.Peer)
	if b.checked == nil {
		b.checked = map[string]time.Time{}
	}
	b.checked[c.Peer] = now
}

// fail takes why one could not be made.
func (b *peerBook) fail(peer string, why trouble, now time.Time) {
	last := b.tries[peer]
	last.slower(now, mintFirst, mintLongest)
	last.trouble = why
	b.tries[peer] = last
}

// check is the pair whose token is to be tried, of those that istiod reads, if any:
// one of whose peer another token was rejected since it was last; and where looked is
// set, because istiod was just asked, the one that was not for longest. Rejected says
// when a token of a peer last was. One at each look costs a member next to nothing, and
// all readers of a peer together soon find out.
func (b *peerBook) check(read []*pair, looked bool, rejected func(*pair) time.Time) *pair {
	var next *pair
	for _, one := range read {
		name := one.want.Name
		if one.verdict.Mint || one.away != "" || b.sight.peers[name].state != v1alpha1.PeerSynced {
			continue
		}
		if rejected(one).After(b.checked[name]) {
			return one
		}
		if looked && (next == nil || b.checked[name].Before(b.checked[next.want.Name])) {
			next = one
		}
	}
	return next
}

// failed is why the last try failed; nil when there was none since it succeeded.
func (b *peerBook) failed(peer string) *trouble {
	if last, ok := b.tries[peer]; ok {
		return &last.trouble
	}
	return nil
}

// due tells whether a credential is to be made now, and else when; zero for not by
// itself.
func (b *peerBook) due(one *pair, now time.Time) (bool, time.Time) {
	last, tried := b.tries[one.want.Name]
	switch {
	case !one.verdict.Mint:
		return false, time.Time{}
	case tried && one.trouble != nil && *one.trouble == last.trouble:
		return last.pace.due(now), last.next
	}
	return one.trouble == nil, time.Time{}
}
