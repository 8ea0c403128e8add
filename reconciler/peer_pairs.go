package reconciler

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// pair is a member that is being worked on and one of its peers.
type pair struct {
	want peering.Want
	// peer as the hub's cache has it: it is not to be changed.
	peer *v1alpha1.Member
	// known is what the member's status last said of the pair; the zero value for
	// nothing.
	known v1alpha1.PeerStatus
	// live is the credential that belongs into the member's set; nil for none.
	live    *peering.Credential
	facts   peering.Facts
	verdict peering.Verdict
	// trouble is why there is no credential, or no new one; nil for none.
	trouble *trouble
	// away says that the peer's API server does not answer; empty where it does.
	away string
	// restarted is when istiod was restarted for the pair just now; nil for not.
	restarted *metav1.Time
}

// trouble is what hinders a pair.
type trouble struct {
	reason, message string
	// waits: it passes without anybody doing anything.
	waits bool
}

// pairs are a member's with all its peers, and what it keeps for its readers.
type pairs struct {
	policy  peering.Policy
	all     []*pair
	anchors []*unstructured.Unstructured
	// anchorsWait is how long until one of them may go; zero for not by itself.
	anchorsWait time.Duration
	// elsewhere says that the network has members of other hubs.
	elsewhere bool
	mesh      apply.Mesh
}

// pairsOf finds out how a member is to discover its peers, by what the hub and this
// process know. Only what an earlier process left in the member is asked for, once.
func (r *memberReconciler) pairsOf(ctx context.Context, c *connection, m *v1alpha1.Member, want desired) (*pairs, *status.Failure) {
	members, err := r.roster.network(ctx, m)
	if err != nil {
		return nil, hubFailure("list Members", err)
	}
	discovery := want.network.Spec.Discovery
	p := &pairs{
		policy:    peering.PolicyOf(discovery.Credentials),
		elsewhere: want.elsewhere, mesh: c.mesh,
	}
	relation, self, seen := peering.RelationOf(&discovery), seenOf(m), make([]peering.Seen, len(members))
	byName := make(map[string]*v1alpha1.Member, len(members))
	for i, other := range members {
		seen[i], byName[other.Name] = seenOf(other), other
	}
	var readers []*v1alpha1.Member
	for _, name := range relation.Readers(self, seen) {
		readers = append(readers, byName[name])
	}
	p.anchors, p.anchorsWait = anchorsOf(m, readers, discovery.Credentials, c.mesh, r.now())
	wants := relation.Peers(self, seen)
	if len(wants) == 0 {
		c.peers.forget()
		return p, nil
	}
	if err := c.peers.load(ctx, c, m); err != nil {
		return nil, memberFailure(err)
	}
	known := map[string]v1alpha1.PeerStatus{}
	for _, one := range m.Status.Discovery.GetPeers() {
		known[one.Name] = one
	}
	for _, want := range wants {
		one := &pair{want: want, peer: byName[want.Name], known: known[want.Name]}
		r.look(ctx, c, one, p.policy, peering.Anchor(m.Name, discovery.Credentials, anchorIn(one.known), r.now()))
		p.all = append(p.all, one)
	}
	return p, nil
}

// discover makes the credentials that are due, looks whether istiod reads the peers,
// and records it. It returns how soon to look again; zero for not by itself.
func (r *memberReconciler) discover(ctx context.Context, c *connection, m *v1alpha1.Member, set apply.Set, p *pairs, outcome status.Member, report *report) time.Duration {
	wait := sooner(p.anchorsWait, r.mint(ctx, c, m, set, p, report))
	delivered := outcome.Failure == nil
	if delivered {
		wait = sooner(wait, r.makeRoom(ctx, c, p))
		wait = sooner(wait, r.watchPeers(ctx, c, m, set, p))
	}
	report.discovered(c, p, delivered, outcome.Waiting != "", r.now())
	return wait
}

// look judges one pair's credential.
func (r *memberReconciler) look(ctx context.Context, c *connection, one *pair, policy peering.Policy, anchor string) {
	now := r.now()
	peer := one.peer.Status.Discovery
	if peer == nil {
		peer = &v1alpha1.DiscoveryStatus{}
	}
	at := r.endpoints.of(ctx, r, one.peer, now)
	one.trouble, one.away = at.trouble, awayPeer(one.peer)
	held := c.peers.held[one.want.Name]
	one.facts = peering.Facts{
		Now: now.Add(-at.skew), Endpoint: at.endpoint, Namespace: c.mesh.SystemNamespace,
		AccountUID: types.UID(peer.Account), Anchor: anchor, AnchorUID: anchorUID(peer, anchor),
		Live: held.credential, Known: held.known, Digest: held.digest, Unreadable: held.unreadable,
	}
	one.verdict = peering.Judge(policy, one.facts)
	if c.peers.void[one.want.Name] && !one.verdict.Mint {
		one.verdict = peering.Verdict{Mint: true, Reason: tokenRejected, Usable: true}
	}
	if one.verdict.Usable && !held.replaces {
		one.live = held.credential
	}
	switch {
	case held.foreign != "":
		one.trouble = &trouble{reason: reasonNotOurs, message: held.foreign}
	case !one.verdict.Mint:
		one.trouble = nil
	case one.trouble != nil:
	case !one.want.Ready && held.credential == nil:
		one.trouble = &trouble{reason: one.want.Why, waits: true,
			message: fmt.Sprintf("its istiod or its gateway has not been ready yet: kubectl get member %s", one.want.Name)}
	case unreachableReason(one.peer) != "":
		delete(c.peers.tries, one.want.Name) // when it is back it is asked at once
		one.trouble = &trouble{reason: reasonPeerUnreachable,
			message: fmt.Sprintf("the reconciler does not reach it (%s): kubectl get member %s", unreachableReason(one.peer), one.want.Name)}
	case one.facts.AnchorUID == "":
		one.trouble = &trouble{reason: reasonAnchorMissing, waits: true,
			message: fmt.Sprintf("it has not been given the Secret %s yet, which its next delivery brings: kubectl get member %s", anchor, one.want.Name)}
	default:
		one.trouble = c.peers.failed(one.want.Name)
	}
}

// awayPeer says since when a peer's API server does not answer, by what its own lane
// found; empty where it does, and where it is only the reconciler that it does not let
// in.
func awayPeer(peer *v1alpha1.Member) string {
	ready := readyOf(peer)
	if ready == nil {
		return ""
	}
	switch reason := member.Reason(ready.Reason); reason {
	case member.Unreachable, member.CertificateRejected, member.ClusterGone:
		return fmt.Sprintf("its API server does not answer since %s (%s): istiod keeps what it knew of it, and learns nothing new: kubectl get member %s",
			ready.LastTransitionTime.UTC().Format(time.RFC3339), reason, peer.Name)
	}
	return ""
}

// in returns the member's set with what the pairs are about.
func (p *pairs) in(set apply.Set) apply.Set {
	secrets := slices.Clone(set.Secrets)
	var read []peering.Credential
	for _, one := range p.all {
		if one.live != nil {
			read = append(read, *one.live)
			secrets = append(secrets, p.labelled(one.live.Secret(p.mesh.SystemNamespace)))
		}
	}
	if len(read) > 0 {
		secrets = append(secrets, p.labelled(peering.Tokens(p.mesh.SystemNamespace, read)))
	}
	for _, anchor := range p.anchors {
		secrets = append(secrets, p.labelled(anchor))
	}
	set.Secrets = secrets
	// After two changes of a kubeconfig in a row, such as an edit that is put back, istiod
	// (1.30.4 and 1.31.0) loses the peer, and hangs for good when the Secret goes.
	set.Anew = func(s apply.Subject) bool {
		return s.Kind == "Secret" && s.Namespace == p.mesh.SystemNamespace && strings.HasPrefix(s.Name, peering.SecretPrefix)
	}
	return set
}

func (p *pairs) labelled(secret *unstructured.Unstructured) *unstructured.Unstructured {
	labels := secret.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[apply.LabelNetwork], labels[apply.LabelComponent] = p.mesh.Network, peering.Component
	secret.SetLabels(labels)
	return secret
}

// String tells sets apart by what in adds to them. It tells no secret.
func (p *pairs) String() string {
	sum := sha256.New()
	for _, one := range p.all {
		if one.live != nil {
			fmt.Fprintln(sum, one.want.Name, one.facts.Digest)
		}
	}
	for _, anchor := range p.anchors {
		fmt.Fprintln(sum, anchor.GetName())
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

func seenOf(m *v1alpha1.Member) peering.Seen {
	return peering.Seen{
		Name: m.Name, Labels: m.Labels, Leaving: !m.DeletionTimestamp.IsZero(),
		Announced: m.Status.Discovery.IsAnnounced(),
	}
}

func anchorUID(peer *v1alpha1.DiscoveryStatus, name string) types.UID {
	for _, anchor := range peer.Anchors {
		if anchor.Name == name {
			return types.UID(anchor.UID)
		}
	}
	return ""
}

// anchorsOf are the Secrets that a member's readers' tokens are bound to. One from
// before the fleet had tokens replaced stays until its reader reads with another; wait
// is how long that takes, where the reader has one, zero for not by itself.
func anchorsOf(m *v1alpha1.Member, readers []*v1alpha1.Member, credentials v1alpha1.PeerCredentials, mesh apply.Mesh, now time.Time) (out []*unstructured.Unstructured, wait time.Duration) {
	names := map[string]bool{}
	for _, reader := range readers {
		if reader.Status.ClusterUID == "" {
			continue // it may never get it, and has no use for one until then
		}
		known := pairOfStatus(reader, m.Name)
		current := peering.Anchor(reader.Name, credentials, anchorIn(known), now)
		names[current] = true
		if m.Status.Discovery == nil || readsWith(reader, m.Name, current, now) {
			continue
		}
		for _, old := range m.Status.Discovery.Anchors {
			if !peering.IsAnchorOf(reader.Name, old.Name) {
				continue
			}
			names[old.Name] = true
			if old.Name != current && anchorIn(known) == current {
				// Where istiod is slow to take the new token up, another look costs nothing.
				used := cmp.Or(known.Credential.AnchorInUseSince, stamp(now))
				wait = sooner(wait, max(used.Add(peering.Grace).Sub(now), peersLongest))
			}
		}
	}
	for _, name := range sortedKeys(names) {
		out = append(out, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
			"metadata": map[string]any{"name": name, "namespace": mesh.SystemNamespace},
		}})
	}
	return out, wait
}

// pairOfStatus is what a reader's status says of a peer; the zero value for nothing.
func pairOfStatus(reader *v1alpha1.Member, peer string) v1alpha1.PeerStatus {
	for _, one := range reader.Status.Discovery.GetPeers() {
		if one.Name == peer {
			return one
		}
	}
	return v1alpha1.PeerStatus{}
}

// anchorIn is what a pair's token is bound to, by the hub's record; empty for nothing.
func anchorIn(known v1alpha1.PeerStatus) string {
	if known.Credential == nil {
		return ""
	}
	return known.Credential.Anchor
}

// readsWith tells whether all istiods of a reader read a peer, and have had tokens
// that are bound to an anchor for long enough to use one. It is not the age of the
// token that counts: one that is replaced more often than that would keep old anchors
// for ever.
func readsWith(reader *v1alpha1.Member, peer, anchor string, now time.Time) bool {
	known := pairOfStatus(reader, peer)
	return known.State == v1alpha1.PeerSynced && anchorIn(known) == anchor &&
		known.Credential.AnchorInUseSince != nil && now.Sub(known.Credential.AnchorInUseSince.Time) >= peering.Grace
}

// endpointAge is how long a peer is believed to be where it was.
const endpointAge = 10 * time.Minute

// endpoints remembers where peers are, so that what changes nothing asks for nothing.
// The zero value is ready for use.
type endpoints struct {
	mu  sync.Mutex
	all map[types.NamespacedName]locatedPeer
	// hiddenAt is when a peer was last not reached where its readers reach it, and
	// rejectedAt when a token of it was last seen to be rejected.
	hiddenAt, rejectedAt map[types.NamespacedName]time.Time
}

// locatedPeer is where a peer is for the istiods of others.
type locatedPeer struct {
	endpoint *peering.Endpoint
	// skew is how far our clock is ahead of the peer's.
	skew    time.Duration
	trouble *trouble

	generation int64
	at         time.Time
}

func (e *endpoints) of(ctx context.Context, r *memberReconciler, peer *v1alpha1.Member, now time.Time) locatedPeer {
	name := client.ObjectKeyFromObject(peer)
	e.mu.Lock()
	known, ok := e.all[name]
	e.mu.Unlock()
	if ok && known.generation == peer.Generation && now.Sub(known.at).Abs() < endpointAge {
		return known
	}
	found := r.locate(ctx, peer)
	found.generation, found.at = peer.Generation, now
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[types.NamespacedName]locatedPeer{}
	}
	e.all[name] = found
	return found
}

// forget has a peer located anew.
func (e *endpoints) forget(peer types.NamespacedName) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.all, peer)
}

// hide notes that the reconciler does not reach a peer where its readers do.
func (e *endpoints) hide(peer types.NamespacedName, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hiddenAt == nil {
		e.hiddenAt = map[types.NamespacedName]time.Time{}
	}
	e.hiddenAt[peer] = now
}

// hidden tells whether that was so lately.
func (e *endpoints) hidden(peer types.NamespacedName, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	at, ok := e.hiddenAt[peer]
	return ok && now.Sub(at).Abs() < endpointAge
}

// reject notes that a peer has rejected a token, and says whether that is news: the
// readers that hear of it find the same.
func (e *endpoints) reject(peer types.NamespacedName, asked time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last, ok := e.rejectedAt[peer]; ok && asked.Sub(last).Abs() < endpointAge {
		return false
	}
	if e.rejectedAt == nil {
		e.rejectedAt = map[types.NamespacedName]time.Time{}
	}
	e.rejectedAt[peer] = asked
	return true
}

// rejected is when a token of a peer was last news; zero for never.
func (e *endpoints) rejected(peer types.NamespacedName) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rejectedAt[peer]
}

// locate finds out where a peer's API server is for the istiods of others. It makes
// no call to the peer.
func (r *memberReconciler) locate(ctx context.Context, peer *v1alpha1.Member) locatedPeer {
	said := peer.Spec.Cluster.PeerEndpoint
	if said == nil && peer.Spec.Cluster.Type == v1alpha1.ClusterHub {
		return locatedPeer{trouble: &trouble{reason: reasonEndpointUnknown,
			message: "it is the hub, whose own address is of no use to others: set its spec.cluster.peerEndpoint"}}
	}
	c, err := r.peer(ctx, peer)
	if err != nil {
		return locatedPeer{trouble: &trouble{reason: reasonPeerUnreachable, message: err.Error()}}
	}
	own := c.member.Endpoint()
	at := peering.Endpoint{Server: own.Server, TLSServerName: own.TLSServerName, CA: own.CA}
	if said != nil {
		at.Server, at.TLSServerName = said.Server, said.TLSServerName
		at.CA = []byte(cmp.Or(said.CertificateAuthority, string(own.CA)))
	}
	if len(at.CA) == 0 && own.Unverified {
		return locatedPeer{trouble: &trouble{reason: reasonEndpointUnknown,
			message: "the certificate of its API server is not verified by anything: set its spec.cluster.peerEndpoint.certificateAuthority"}}
	}
	found := locatedPeer{endpoint: &at}
	if skew, told := c.member.Skew(); told {
		found.skew = skew
	}
	return found
}
