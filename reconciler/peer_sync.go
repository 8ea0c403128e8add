package reconciler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// ReasonIstiodRestarted is the reason of the event for an istiod that is restarted so
// that it takes up a credential.
const ReasonIstiodRestarted = "IstiodRestarted"

// Reasons of pairs whose credential istiod has. Frozen once released.
const (
	// reasonIstiodUnread: istiod gave up reading the peer, and goes on trying.
	reasonIstiodUnread = "IstiodCannotRead"
	// reasonIstiodUnasked: what istiod reads could not be asked.
	reasonIstiodUnasked = "IstiodNotAsked"
	// reasonNameTaken: istiod reads the peer's name from another Secret.
	reasonNameTaken = "ClusterNameTaken"
)

const (
	// peersEvery is how often istiod is asked again that reads all peers.
	peersEvery = 10 * time.Minute
	// The pause between two looks at an istiod that does not doubles from the first to
	// the longest.
	peersFirst, peersLongest = 2 * time.Second, time.Minute
	// tryAfter is how long istiod has before its credential is tried, and tryEvery how
	// often it is.
	tryAfter, tryEvery = 30 * time.Second, 5 * time.Minute
	// refusalTimeout is how long a peer has to say whether it takes a credential.
	refusalTimeout = 3 * time.Second
	// restartPatience is how long istiod has to read a peer that can be read, before it
	// is restarted, and restartEvery how often that may be.
	restartPatience, restartEvery = 5 * time.Minute, time.Hour
	// roomPatience is how long istiods have to let go of a peer.
	roomPatience = 30 * time.Second
	// listPatience is how long istiod has to list a peer, before it is restarted: it
	// lists what it has not read yet, too, unless it has stopped looking at Secrets.
	listPatience = time.Minute
)

// peerSight is what a member's istiods have said of its peers. The zero value asks at
// once.
type peerSight struct {
	pace
	// begun: this process has asked, or put it off.
	begun bool
	peers map[string]seenPeer
}

// seenPeer is what istiods say of one peer; no state before they were asked.
type seenPeer struct {
	state           v1alpha1.PeerState
	reason, message string
	// digest of the credential that it is about, and since when it is not read.
	digest string
	unread time.Time
	// unlisted: an istiod does not even say that it tries.
	unlisted bool
	// tried is when the credential was tried; readable that it then worked.
	tried    time.Time
	readable bool
}

// changed takes what a delivery did: a change of istiod, or of what it reads its
// peers with, is to be seen soon. A kubeconfig that was edited was taken away, see
// [pairs.in], and comes back once istiod has let go of it. Labels are not in it.
func (b *peerBook) changed(changes []apply.Change) {
	s := &b.sight
	for _, change := range changes {
		ofIstiod := isIstiod(change.Subject)
		peer, ofPeer := strings.CutPrefix(change.Subject.Name, peering.SecretPrefix)
		ofPeer = ofPeer && change.Subject.Kind == "Secret"
		if change.Action == apply.Unchanged || !ofIstiod && !ofPeer {
			continue
		}
		s.pace, s.begun = pace{}, true
		if !ofPeer {
			continue
		}
		delete(s.peers, peer)
		if held, ok := b.held[peer]; ok && change.Action == apply.Deleted && change.Content {
			held.replaces, held.gone = true, time.Time{}
			b.held[peer] = held
		}
	}
}

// watchPeers asks the member's istiods what they read, when that is due, tries what
// they do not read, and restarts them as a last resort. It returns how soon to look
// again; zero for not by itself.
func (r *memberReconciler) watchPeers(ctx context.Context, c *connection, m *v1alpha1.Member, set apply.Set, p *pairs) time.Duration {
	read := slices.DeleteFunc(slices.Clone(p.all), func(one *pair) bool { return one.live == nil })
	sight, now := &c.peers.sight, r.now()
	if len(read) == 0 {
		*sight = peerSight{}
		return 0
	}
	if !sight.begun && !slices.ContainsFunc(read, func(one *pair) bool { return !one.wasSynced() }) {
		// A process that starts does not ask everybody at once what was well.
		sight.next = now.Add(rand.N(peersEvery)) //nolint:gosec // G404: no secret.
	}
	sight.begun = true
	if slices.ContainsFunc(read, func(one *pair) bool { return !one.wasSynced() && sight.peers[one.want.Name].digest != one.facts.Digest }) {
		// It may have come by a delivery that did not learn that it had brought it.
		sight.pace = pace{}
	}
	looked := sight.due(now)
	if looked {
		r.askPeers(ctx, c, read)
		now = r.now()
		r.tryPeers(ctx, c, read)
	}
	r.checkPeer(ctx, c, read, looked)
	wait := max(sight.next.Sub(now), soon)
	if c.peers.check(read, false, r.rejected) != nil {
		wait = soon
	}
	if again, restarted := r.restartIstiod(ctx, c, m, set, p, read); restarted {
		*sight = peerSight{begun: true}
		sight.slower(now, peersFirst, peersLongest)
		wait = sight.pause
	} else {
		wait = sooner(wait, again)
	}
	return wait
}

// wasSynced tells whether the hub says that the pair's credential, as it is, is read.
func (one *pair) wasSynced() bool {
	return one.known.State == v1alpha1.PeerSynced && one.known.Credential != nil && one.known.Credential.Digest == one.facts.Digest
}

// askPeers asks the istiods, and says when to ask again.
func (r *memberReconciler) askPeers(ctx context.Context, c *connection, read []*pair) {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	replicas, err := istiod.Clusters(ctx, c.member, c.mesh.SystemNamespace)
	sight, now, all, longest := &c.peers.sight, r.now(), true, peersLongest
	before := sight.peers
	sight.peers = make(map[string]seenPeer, len(read))
	for _, one := range read {
		seen := judgeRead(replicas, err, one.want.Name, c.mesh.SystemNamespace, one.live.Server)
		seen.digest = one.facts.Digest
		if seen.state != v1alpha1.PeerSynced {
			all, seen.unread = false, now
			if seen.reason == reasonIstiodUnasked {
				longest = peersEvery // it does not answer, which says nothing of peers
			}
			if last := before[one.want.Name]; last.digest == seen.digest && !last.unread.IsZero() {
				seen.unread, seen.tried, seen.readable = last.unread, last.tried, last.readable
			}
		}
		sight.peers[one.want.Name] = seen
	}
	if all {
		sight.settled(now, peersEvery)
		return
	}
	sight.slower(now, peersFirst, longest)
}

// judgeRead says what istiods make of one peer.
func judgeRead(replicas []istiod.Replica, err error, peer, namespace, server string) seenPeer {
	secret := namespace + "/" + peering.SecretPrefix + peer
	switch {
	case err != nil:
		return seenPeer{state: v1alpha1.PeerSyncing, reason: reasonIstiodUnasked, message: "what istiod reads is not known: " + err.Error()}
	case len(replicas) == 0:
		return seenPeer{state: v1alpha1.PeerSyncing, reason: reasonIstiodUnasked, message: "no istiod runs"}
	}
	out := seenPeer{state: v1alpha1.PeerSynced, reason: reasonSynced}
	for _, replica := range replicas {
		if replica.Err != nil {
			return seenPeer{state: v1alpha1.PeerSyncing, reason: reasonIstiodUnasked, message: fmt.Sprintf("%s does not say what it reads: %v", replica.Pod, replica.Err)}
		}
		at := slices.IndexFunc(replica.Clusters, func(c istiod.Cluster) bool { return c.ID == peer })
		if at < 0 {
			out = seenPeer{state: v1alpha1.PeerSyncing, reason: reasonSyncing, message: replica.Pod + " does not read it yet", unlisted: true}
			continue
		}
		switch found := replica.Clusters[at]; {
		case found.SecretName != secret:
			return seenPeer{state: v1alpha1.PeerFailed, reason: reasonNameTaken,
				message: fmt.Sprintf("%s reads %s by the Secret %q, not by %q: delete that Secret", replica.Pod, peer, found.SecretName, secret)}
		case found.SyncStatus == istiod.TimedOut:
			return seenPeer{state: v1alpha1.PeerFailed, reason: reasonIstiodUnread,
				message: fmt.Sprintf("%s cannot read its API server at %s: let the pods of istiod reach that address, or set its spec.cluster.peerEndpoint to one that they reach", replica.Pod, server)}
		case found.SyncStatus != istiod.Synced:
			out = seenPeer{state: v1alpha1.PeerSyncing, reason: reasonSyncing, message: replica.Pod + " is reading it", unlisted: out.unlisted}
		}
	}
	return out
}

// tryPeers tries the credentials of peers that istiod does not read: one that the peer
// rejects is replaced.
func (r *memberReconciler) tryPeers(ctx context.Context, c *connection, read []*pair) {
	for _, one := range read {
		name, now := one.want.Name, r.now()
		seen := c.peers.sight.peers[name]
		if seen.unread.IsZero() || now.Sub(seen.unread) < tryAfter || now.Sub(seen.tried) < tryEvery || one.verdict.Mint {
			continue
		}
		err := r.tryCredential(ctx, *one.live)
		seen.tried, seen.readable = now, err == nil
		switch {
		case member.ReasonOf(err) == member.CredentialsRejected:
			c.peers.void[name] = true
			c.peers.sight.next = now // to make another
			seen.message = "the peer does not take its token: another one is made"
		case err != nil:
			seen.message = shortenedTo(fmt.Sprintf("%s; with the same credential the reconciler: %v", seen.message, err), maxPeerWords)
		}
		c.peers.sight.peers[name] = seen
	}
}

// checkPeer tries the token of a peer that istiod reads: once it has, it says so for
// ever, also when the peer rejects its token. One that is rejected is replaced, and the
// peer's other readers try theirs.
func (r *memberReconciler) checkPeer(ctx context.Context, c *connection, read []*pair, looked bool) {
	one := c.peers.check(read, looked, r.rejected)
	if one == nil {
		return
	}
	name, asked := one.want.Name, r.now()
	c.peers.checked[name] = asked
	if r.refusal(ctx, one.peer, *one.live) != member.CredentialsRejected {
		return
	}
	c.peers.void[name] = true
	c.peers.sight.next = r.now() // to make another
	if r.endpoints.reject(client.ObjectKeyFromObject(one.peer), asked) {
		for _, reader := range r.readersOf(ctx, one.peer) {
			r.connections.wakeUp(reader.NamespacedName)
		}
	}
}

// rejected is when a pair's peer was last seen to reject a token, of any reader.
func (r *memberReconciler) rejected(one *pair) time.Time {
	return r.endpoints.rejected(client.ObjectKeyFromObject(one.peer))
}

// refusal is why a peer does not take a credential, empty where it does. It is empty,
// too, where that cannot be found out: the address is for istiods, and the reconciler
// need not reach it, nor does it ask again soon then.
func (r *memberReconciler) refusal(ctx context.Context, peer *v1alpha1.Member, credential peering.Credential) member.Reason {
	name := client.ObjectKeyFromObject(peer)
	if r.endpoints.hidden(name, r.now()) {
		return ""
	}
	trying, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	err := r.tryCredential(trying, credential)
	switch reason := member.ReasonOf(err); reason {
	case member.CredentialsRejected, member.AccessDenied:
		return reason
	case member.Unreachable, member.CertificateRejected:
		// Where networks have the same addresses, it is another's API server.
		if ctx.Err() == nil {
			r.endpoints.hide(name, r.now())
		}
	}
	return ""
}

// tryCredential reads the peer as istiod does.
func (r *memberReconciler) tryCredential(ctx context.Context, credential peering.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	config, err := member.Config(credential.Kubeconfig(), r.connections.access.options)
	if err != nil {
		return err
	}
	as, err := member.Connect(config)
	if err != nil {
		return err
	}
	defer as.Close()
	_, err = as.REST.Get().AbsPath("api", "v1", "namespaces").Param("limit", "1").DoRaw(ctx)
	return member.Wrap("read the peer", err)
}

// restartIstiod restarts the member's istiod where nothing else has had it read a
// peer. It returns how soon it may be, where it may not be now.
func (r *memberReconciler) restartIstiod(ctx context.Context, c *connection, m *v1alpha1.Member, set apply.Set, p *pairs, read []*pair) (time.Duration, bool) {
	now := r.now()
	var last time.Time
	for _, one := range p.all {
		if at := timeOf(one.known.RestartedAt); at.After(last) {
			last = at
		}
	}
	names := map[string]bool{}
	for _, one := range read {
		if one.restartDue(c.peers.sight.peers[one.want.Name], now) {
			names[one.want.Name] = true
		}
	}
	if len(names) == 0 {
		return 0, false
	}
	if until := last.Add(restartEvery).Sub(now); until > 0 && until <= restartEvery {
		return until, false
	}
	if err := apply.RestartIstiod(ctx, c.target, set, now); err != nil {
		r.events.Eventf(m, corev1.EventTypeWarning, ReasonIstiodRestarted, "istiod cannot be restarted to discover %s: %v", firstOf(sortedKeys(names)), err)
		return peersLongest, false
	}
	for _, one := range read {
		if names[one.want.Name] {
			one.restarted = stamp(now)
		}
	}
	r.events.Eventf(m, corev1.EventTypeNormal, ReasonIstiodRestarted, "istiod is restarted to discover %s", firstOf(sortedKeys(names)))
	return 0, true
}

// restartDue tells whether istiod is to be restarted for a pair: where it has not
// read a peer for long that its credential reads.
func (one *pair) restartDue(seen seenPeer, now time.Time) bool {
	if one.verdict.Mint {
		return false // another token comes first
	}
	patience := restartPatience
	if seen.unlisted {
		patience = listPatience
	}
	return seen.readable && !seen.unread.IsZero() && now.Sub(seen.unread) >= patience
}

// makeRoom has another kubeconfig for a peer delivered once istiods have let go of the
// one that went with the last delivery, and returns how soon to look again; zero for
// not by itself. One that is replaced in place may have them lose the peer's gateways.
func (r *memberReconciler) makeRoom(ctx context.Context, c *connection, p *pairs) time.Duration {
	wait, going := time.Duration(0), []*pair(nil)
	for _, one := range p.all {
		switch {
		case !c.peers.held[one.want.Name].replaces:
		case one.live != nil:
			wait = soon // the next delivery is without it
		default:
			going = append(going, one)
		}
	}
	if len(going) == 0 {
		return wait
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	replicas, err := istiod.Clusters(ctx, c.member, c.mesh.SystemNamespace)
	now := r.now()
	wait = sooner(wait, peersFirst)
	for _, one := range going {
		held := c.peers.held[one.want.Name]
		if held.gone.IsZero() {
			held.gone = now
		}
		if why, _ := stillReads(replicas, err, one.want.Name); why == "" || now.Sub(held.gone) >= roomPatience {
			held.replaces, wait = false, soon
		}
		c.peers.held[one.want.Name] = held
	}
	return wait
}
