package reconciler

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

var (
	peerNow  = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	peerMesh = apply.Mesh{Network: "prod", SystemNamespace: "applink-system"}
)

// credentialFor a peer, as its API server would have made it.
func credentialFor(t *testing.T, peer string, at time.Time) *peering.Credential {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iat": at.Unix(), "exp": at.Add(100 * time.Hour).Unix(),
		"kubernetes.io": map[string]any{
			"namespace": peerMesh.SystemNamespace, "serviceaccount": map[string]any{"name": peering.Account, "uid": "account"},
			"secret": map[string]any{"name": "isthmus-peer-west", "uid": "anchor"},
		}})
	if err != nil {
		t.Fatal(err)
	}
	c := peering.Credential{Peer: peer, Endpoint: peering.Endpoint{Server: "https://" + peer}, Token: peering.NewToken("e30." + base64.RawURLEncoding.EncodeToString(claims) + ".canary-signature")}
	c.First = c.Token
	parsed, err := peering.Parse(peer, c.Data(), []byte(c.Token.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	return &parsed
}

func pairOf(t *testing.T, change func(*pair)) *pair {
	t.Helper()
	live := credentialFor(t, "east", peerNow.Add(-time.Hour))
	one := &pair{
		want: peering.Want{Name: "east", Ready: true}, live: live, verdict: peering.Verdict{Usable: true},
		facts: peering.Facts{Digest: live.Status().Digest, Live: live, Known: live.Status()},
		known: v1alpha1.PeerStatus{Name: "east", State: v1alpha1.PeerSynced, Reason: reasonSynced, Credential: live.Status()},
	}
	change(one)
	return one
}

func TestPairStatus(t *testing.T) {
	t.Parallel()
	away := &trouble{reason: reasonPeerUnreachable, message: "it is away"}
	for _, tt := range []struct {
		reason    string
		change    func(*pair)
		undone    bool // the set was not delivered
		seen      seenPeer
		state     v1alpha1.PeerState
		why       string
		says      string
		none, old bool // no credential, or another than the live one
	}{
		{reason: "as it was, until istiod is asked", change: func(*pair) {}, state: v1alpha1.PeerSynced, why: reasonSynced},
		{reason: "a peer that was never ready", change: func(one *pair) {
			one.live, one.trouble = nil, &trouble{reason: peering.NotAnnounced, message: "not ready", waits: true}
		}, state: v1alpha1.PeerWaiting, why: peering.NotAnnounced, none: true},
		{reason: "a peer that is away, at first", change: func(one *pair) { one.live, one.trouble = nil, away },
			state: v1alpha1.PeerFailed, why: reasonPeerUnreachable, none: true},
		{reason: "about to be made", change: func(one *pair) { one.live = nil }, state: v1alpha1.PeerWaiting, why: reasonMinting, none: true},
		{reason: "made and not delivered", change: func(one *pair) { one.known = v1alpha1.PeerStatus{} }, undone: true,
			state: v1alpha1.PeerWaiting, why: reasonMinting, none: true},
		{reason: "a delivery that failed leaves what is known", change: func(one *pair) {
			one.live = credentialFor(t, "east", peerNow)
			one.facts.Digest = one.live.Status().Digest
		}, undone: true, state: v1alpha1.PeerSynced, why: reasonSynced, old: true},
		{reason: "new, and not asked", change: func(one *pair) { one.known = v1alpha1.PeerStatus{} }, state: v1alpha1.PeerSyncing, why: reasonSyncing},
		{reason: "istiod says so", change: func(*pair) {}, seen: seenPeer{state: v1alpha1.PeerFailed, reason: reasonIstiodUnread, message: "cannot"},
			state: v1alpha1.PeerFailed, why: reasonIstiodUnread, says: "cannot"},
		{reason: "a peer that is away while its token works", change: func(one *pair) {
			one.trouble, one.verdict = away, peering.Verdict{Mint: true, Reason: peering.RotationDue, Usable: true}
		}, seen: seenPeer{state: v1alpha1.PeerSynced, reason: reasonSynced}, state: v1alpha1.PeerSynced, why: reasonPeerUnreachable, says: "works still"},
		{reason: "a peer that is away while its token does not", change: func(one *pair) {
			one.trouble, one.verdict = away, peering.Verdict{Mint: true, Reason: peering.Expired, Usable: true}
		}, seen: seenPeer{state: v1alpha1.PeerSynced, reason: reasonSynced}, state: v1alpha1.PeerFailed, why: reasonPeerUnreachable, says: "Expired"},
		{reason: "a peer that went away after istiod had read it", change: func(one *pair) { one.away = "since noon" },
			seen: seenPeer{state: v1alpha1.PeerSynced, reason: reasonSynced}, state: v1alpha1.PeerFailed, why: reasonPeerUnreachable, says: "since noon"},
		{reason: "one that is away, and istiod has not read it", change: func(one *pair) { one.away = "since noon" },
			seen: seenPeer{state: v1alpha1.PeerFailed, reason: reasonIstiodUnread, message: "let it"}, state: v1alpha1.PeerFailed, why: reasonPeerUnreachable, says: "since noon"},
		{reason: "istiod was restarted for it", change: func(one *pair) { one.restarted = stamp(peerNow) },
			state: v1alpha1.PeerSyncing, why: reasonSyncing, says: "restarted"},
		{reason: "another token, which istiod has not to do with", change: func(one *pair) {
			one.known.Credential = credentialFor(t, "east", peerNow.Add(-time.Minute)).Status()
		}, seen: seenPeer{state: v1alpha1.PeerSynced, reason: reasonSynced}, state: v1alpha1.PeerSynced, why: reasonSynced},
	} {
		one := pairOf(t, tt.change)
		got := one.status(!tt.undone, tt.seen)
		if got.Name != "east" || got.State != tt.state || got.Reason != tt.why || !strings.Contains(got.Message, tt.says) {
			t.Errorf("%s: %+v", tt.reason, got)
		}
		switch {
		case tt.none != (got.Credential == nil):
			t.Errorf("%s: credential %+v", tt.reason, got.Credential)
		case !tt.none && tt.old == (got.Credential.Digest == one.live.Status().Digest):
			t.Errorf("%s: digest %s", tt.reason, got.Credential.Digest)
		}
		if raw, _ := json.Marshal(got); strings.Contains(string(raw), "canary") {
			t.Errorf("%s: the status shows the token", tt.reason)
		}
	}
}

// TestAnchorInUseSince: from when istiod first read the peer by it, however often its
// tokens are replaced.
func TestAnchorInUseSince(t *testing.T) {
	t.Parallel()
	at := func(state v1alpha1.PeerState, anchor string, since *metav1.Time) v1alpha1.PeerStatus {
		return v1alpha1.PeerStatus{Name: "east", State: state, Credential: &v1alpha1.PeerCredentialStatus{Anchor: anchor, AnchorInUseSince: since}}
	}
	const first, second = "isthmus-peer-west", "isthmus-peer-west.1000"
	long, now := stamp(peerNow.Add(-time.Hour)), stamp(peerNow)
	for _, tt := range []struct {
		reason  string
		is, was v1alpha1.PeerStatus
		want    *metav1.Time
	}{
		{"it was not read yet", at(v1alpha1.PeerSyncing, first, nil), v1alpha1.PeerStatus{}, nil},
		{"it is read", at(v1alpha1.PeerSynced, first, nil), at(v1alpha1.PeerSyncing, first, nil), now},
		{"another token by it", at(v1alpha1.PeerSynced, first, nil), at(v1alpha1.PeerSynced, first, long), long},
		{"it is not read just now", at(v1alpha1.PeerFailed, first, nil), at(v1alpha1.PeerSynced, first, long), long},
		{"another anchor", at(v1alpha1.PeerSynced, second, nil), at(v1alpha1.PeerSynced, first, long), now},
		{"another anchor, not read yet", at(v1alpha1.PeerSyncing, second, nil), at(v1alpha1.PeerSynced, first, long), nil},
	} {
		if got := withAnchorInUse(tt.is, tt.was, peerNow); !got.AnchorInUseSince.Equal(tt.want) {
			t.Errorf("%s: %v", tt.reason, got.AnchorInUseSince)
		}
	}
	if got := withAnchorInUse(v1alpha1.PeerStatus{}, at(v1alpha1.PeerSynced, first, long), peerNow); got != nil {
		t.Errorf("no credential: %+v", got)
	}
}

func TestJudgeRead(t *testing.T) {
	t.Parallel()
	own := istiod.Cluster{ID: "west", SyncStatus: istiod.Synced}
	read := func(state string) istiod.Cluster {
		return istiod.Cluster{ID: "east", SecretName: "applink-system/istio-remote-secret-east", SyncStatus: state}
	}
	for _, tt := range []struct {
		reason   string
		replicas []istiod.Replica
		err      error
		state    v1alpha1.PeerState
		why      string
	}{
		{"all read it", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{own, read(istiod.Synced)}}, {Pod: "b", Clusters: []istiod.Cluster{read(istiod.Synced)}}}, nil, v1alpha1.PeerSynced, reasonSynced},
		{"one is not there yet", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{own}}, {Pod: "b", Clusters: []istiod.Cluster{read(istiod.Synced)}}}, nil, v1alpha1.PeerSyncing, reasonSyncing},
		{"one has begun", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{read(istiod.Synced)}}, {Pod: "b", Clusters: []istiod.Cluster{read(istiod.Syncing)}}}, nil, v1alpha1.PeerSyncing, reasonSyncing},
		{"one does not reach it", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{read(istiod.Synced)}}, {Pod: "b", Clusters: []istiod.Cluster{read(istiod.TimedOut)}}}, nil, v1alpha1.PeerFailed, reasonIstiodUnread},
		{"another Secret has its name", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{{ID: "east", SecretName: "applink-system/by-hand", SyncStatus: istiod.Synced}}}}, nil, v1alpha1.PeerFailed, reasonNameTaken},
		{"one does not answer", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{read(istiod.Synced)}}, {Pod: "b", Err: errors.New("no")}}, nil, v1alpha1.PeerSyncing, reasonIstiodUnasked},
		{"there is none", nil, nil, v1alpha1.PeerSyncing, reasonIstiodUnasked},
		{"the member does not answer", nil, errors.New("no"), v1alpha1.PeerSyncing, reasonIstiodUnasked},
	} {
		got := judgeRead(tt.replicas, tt.err, "east", "applink-system", "https://east")
		if got.state != tt.state || got.reason != tt.why {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}

func TestRestartDue(t *testing.T) {
	t.Parallel()
	stuck := seenPeer{state: v1alpha1.PeerSyncing, unread: peerNow.Add(-restartPatience), readable: true}
	for _, tt := range []struct {
		reason string
		change func(*pair)
		seen   seenPeer
		want   bool
	}{
		{"all is well", func(*pair) {}, seenPeer{state: v1alpha1.PeerSynced}, false},
		{"another token", func(one *pair) { one.known.Credential = credentialFor(t, "east", peerNow).Status() }, seenPeer{state: v1alpha1.PeerSynced}, false},
		{"not read for long, though it can be", func(*pair) {}, stuck, true},
		{"not for so long", func(*pair) {}, seenPeer{unread: stuck.unread.Add(time.Second), readable: true}, false},
		{"it does not even try", func(*pair) {}, seenPeer{unread: peerNow.Add(-listPatience), readable: true, unlisted: true}, true},
		{"it does not try yet", func(*pair) {}, seenPeer{unread: peerNow.Add(time.Second - listPatience), readable: true, unlisted: true}, false},
		{"it cannot be read", func(*pair) {}, seenPeer{unread: stuck.unread}, false},
		{"another token comes first", func(one *pair) { one.verdict.Mint = true }, stuck, false},
	} {
		if got := pairOf(t, tt.change).restartDue(tt.seen, peerNow); got != tt.want {
			t.Errorf("%s: %t", tt.reason, got)
		}
	}
}

func TestPeersReady(t *testing.T) {
	t.Parallel()
	synced := v1alpha1.PeerStatus{Name: "a", State: v1alpha1.PeerSynced}
	waits := v1alpha1.PeerStatus{Name: "b", State: v1alpha1.PeerWaiting, Reason: "NotAnnounced", Message: "not ready"}
	failed := v1alpha1.PeerStatus{Name: "c", State: v1alpha1.PeerFailed, Reason: "AccessDenied", Message: "may not"}
	for _, tt := range []struct {
		reason    string
		peers     []v1alpha1.PeerStatus
		elsewhere bool
		want      []metav1.Condition
	}{
		{"no peers", nil, false, nil},
		{"all on other hubs", nil, true, []metav1.Condition{{Type: status.PeersReady, Status: metav1.ConditionUnknown, Reason: "PeersElsewhere",
			Message: "the other members of its network are on other hubs: credentials for them are not made here"}}},
		{"all read", []v1alpha1.PeerStatus{synced}, true, []metav1.Condition{{Type: status.PeersReady, Status: metav1.ConditionTrue, Reason: "PeersSynced", Message: "1 of 1 peers are discovered"}}},
		{"all read, and one is to be replaced", []v1alpha1.PeerStatus{synced, {Name: "b", State: v1alpha1.PeerSynced, Reason: "AccessDenied", Message: "may not"}}, false,
			[]metav1.Condition{{Type: status.PeersReady, Status: metav1.ConditionTrue, Reason: "PeersSynced", Message: "2 of 2 peers are discovered; b: may not"}}},
		{"one waited for", []v1alpha1.PeerStatus{synced, waits}, false, []metav1.Condition{{Type: status.PeersReady, Status: metav1.ConditionUnknown, Reason: "NotAnnounced",
			Message: "1 of 2 peers are discovered; waiting for b: not ready"}}},
		{"what failed goes first", []v1alpha1.PeerStatus{synced, waits, failed}, false, []metav1.Condition{{Type: status.PeersReady, Status: metav1.ConditionFalse, Reason: "AccessDenied",
			Message: "1 of 3 peers are discovered; c: may not"}}},
	} {
		m := &v1alpha1.Member{Status: v1alpha1.MemberStatus{Discovery: &v1alpha1.DiscoveryStatus{Peers: tt.peers}}}
		var got []metav1.Condition
		for _, c := range (status.Member{Peers: peersOutcome(m, tt.elsewhere)}).Conditions() {
			if c.Type == status.PeersReady {
				got = append(got, c)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestAnchorsOf(t *testing.T) {
	t.Parallel()
	before := metav1.NewTime(time.Unix(1000, 0)) // long ago
	since := func(name string, state v1alpha1.PeerState, anchor string, age time.Duration) *v1alpha1.Member {
		m := aMember("prod", name)
		m.Status.ClusterUID = name
		m.Status.Discovery = &v1alpha1.DiscoveryStatus{Peers: []v1alpha1.PeerStatus{{Name: "east", State: state,
			Credential: &v1alpha1.PeerCredentialStatus{Anchor: anchor, IssuedAt: metav1.NewTime(peerNow.Add(-time.Minute)), AnchorInUseSince: stamp(peerNow.Add(-age))}}}}
		return &m
	}
	unread := since("west", v1alpha1.PeerSynced, "isthmus-peer-west.1000", 0)
	unread.Status.Discovery.Peers[0].Credential.AnchorInUseSince = nil
	reader := func(name string, state v1alpha1.PeerState, anchor string) *v1alpha1.Member {
		return since(name, state, anchor, peering.Grace)
	}
	const left = 3 * time.Minute
	fresh, twin := aMember("prod", "new"), aMember("prod", "twin")
	fresh.Status.ClusterUID = "new"
	for _, tt := range []struct {
		reason  string
		readers []*v1alpha1.Member
		before  *metav1.Time
		has     []string
		want    []string
		wait    time.Duration
	}{
		{"one for each reader", []*v1alpha1.Member{&fresh, reader("west", v1alpha1.PeerSynced, "isthmus-peer-west")}, nil, nil, []string{"isthmus-peer-new", "isthmus-peer-west"}, 0},
		{"not for one that was refused its cluster", []*v1alpha1.Member{&fresh, &twin}, nil, nil, []string{"isthmus-peer-new"}, 0},
		{"of readers that are gone nothing stays", []*v1alpha1.Member{&fresh}, nil, []string{"isthmus-peer-gone", "isthmus-peer-new"}, []string{"isthmus-peer-new"}, 0},
		{"an old one is used still", []*v1alpha1.Member{reader("west", v1alpha1.PeerSynced, "isthmus-peer-west")}, &before,
			[]string{"isthmus-peer-west"}, []string{"isthmus-peer-west", "isthmus-peer-west.1000"}, 0},
		{"and while istiod has not gone over", []*v1alpha1.Member{reader("west", v1alpha1.PeerSyncing, "isthmus-peer-west.1000")}, &before,
			[]string{"isthmus-peer-west", "isthmus-peer-west.1000"}, []string{"isthmus-peer-west", "isthmus-peer-west.1000"}, peersLongest},
		{"and until the new token is in use", []*v1alpha1.Member{since("west", v1alpha1.PeerSynced, "isthmus-peer-west.1000", peering.Grace-left)}, &before,
			[]string{"isthmus-peer-west", "isthmus-peer-west.1000"}, []string{"isthmus-peer-west", "isthmus-peer-west.1000"}, left},
		{"of which nobody says since when", []*v1alpha1.Member{unread}, &before,
			[]string{"isthmus-peer-west", "isthmus-peer-west.1000"}, []string{"isthmus-peer-west", "isthmus-peer-west.1000"}, peering.Grace},
		{"then it is revoked, though that token is replaced every other minute", []*v1alpha1.Member{reader("west", v1alpha1.PeerSynced, "isthmus-peer-west.1000")}, &before,
			[]string{"isthmus-peer-west", "isthmus-peer-west.1000"}, []string{"isthmus-peer-west.1000"}, 0},
		{"the fleet does not say so any more", []*v1alpha1.Member{reader("west", v1alpha1.PeerSynced, "isthmus-peer-west.1000")}, nil,
			[]string{"isthmus-peer-west.1000"}, []string{"isthmus-peer-west.1000"}, 0},
		{"another reader's name that begins alike", []*v1alpha1.Member{reader("west", v1alpha1.PeerSyncing, "")}, nil,
			[]string{"isthmus-peer-west-2"}, []string{"isthmus-peer-west"}, 0},
	} {
		m := aMember("prod", "east")
		m.Status.Discovery = &v1alpha1.DiscoveryStatus{}
		for _, name := range tt.has {
			m.Status.Discovery.Anchors = append(m.Status.Discovery.Anchors, v1alpha1.PeerAnchor{Name: name, UID: "1"})
		}
		var got []string
		anchors, wait := anchorsOf(&m, tt.readers, v1alpha1.PeerCredentials{ReplaceIssuedBefore: tt.before}, peerMesh, peerNow)
		if wait != tt.wait {
			t.Errorf("%s: looks again after %s", tt.reason, wait)
		}
		for _, o := range anchors {
			got = append(got, o.GetName())
			if _, has := o.Object["data"]; has || o.GetNamespace() != peerMesh.SystemNamespace {
				t.Errorf("%s: %v", tt.reason, o.Object)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestKeptFor(t *testing.T) {
	t.Parallel()
	entry := func(kind, namespace, name, uid string) apply.Entry {
		return apply.Entry{Subject: apply.Subject{Version: "v1", Kind: kind, Namespace: namespace, Name: name}, Stage: bundle.StageControlPlane, UID: types.UID(uid)}
	}
	account, anchors := keptFor(apply.Inventory{Entries: []apply.Entry{
		entry("Secret", "applink-system", "isthmus-peer-b", "2"), entry("Secret", "applink-system", "isthmus-peer-a", "1"),
		entry("Secret", "applink-system", "isthmus-peer-intended", ""), entry("Secret", "applink-system", "cacerts", "3"),
		entry("ServiceAccount", "applink-system", peering.Account, "4"), entry("ServiceAccount", "shop", peering.Account, "5"),
	}}, peerMesh)
	want := []v1alpha1.PeerAnchor{{Name: "isthmus-peer-a", UID: "1"}, {Name: "isthmus-peer-b", UID: "2"}}
	if diff := cmp.Diff(want, anchors); diff != "" || account != "4" {
		t.Errorf("account %q, anchors (-want +got):\n%s", account, diff)
	}
}

// TestPeersAreWokenByWhatConcernsThem: and by nothing else, so that a commit that
// changes no member's place in the mesh costs the others nothing.
func TestPeersAreWokenByWhatConcernsThem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason string
		change func(*v1alpha1.Member)
		want   bool
	}{
		{"nothing", func(*v1alpha1.Member) {}, false},
		{"a commit was applied", func(m *v1alpha1.Member) { m.Status.AppliedRevision, m.Status.Objects = "main@sha1:1", 5 }, false},
		{"what it reads itself", func(m *v1alpha1.Member) { m.Status.Discovery.Peers = []v1alpha1.PeerStatus{{Name: "a"}} }, false},
		{"its first token for another", func(m *v1alpha1.Member) {
			m.Status.Discovery.Peers = append(m.Status.Discovery.Peers, v1alpha1.PeerStatus{Name: "c", Credential: &v1alpha1.PeerCredentialStatus{Anchor: "isthmus-peer-east"}})
		}, false},
		{"a new token by the same anchor", func(m *v1alpha1.Member) { m.Status.Discovery.Peers[0].Credential.Digest = "2" }, false},
		{"its token hangs on another anchor", func(m *v1alpha1.Member) { m.Status.Discovery.Peers[0].Credential.Anchor = "isthmus-peer-east.5" }, true},
		{"its services", func(m *v1alpha1.Member) { m.Status.Discovery.Services = 4 }, false},
		{"it is announced", func(m *v1alpha1.Member) { m.Status.Discovery.Announced = stamp(peerNow) }, true},
		{"its labels", func(m *v1alpha1.Member) { m.Labels = map[string]string{"region": "east"} }, true},
		{"it leaves", func(m *v1alpha1.Member) { m.DeletionTimestamp = stamp(peerNow) }, true},
		{"another address", func(m *v1alpha1.Member) { m.Spec.Cluster.PeerEndpoint = &v1alpha1.PeerEndpoint{Server: "https://a"} }, true},
		{"another network", func(m *v1alpha1.Member) { m.Spec.ApplicationNetwork = "dev" }, true},
		{"an anchor", func(m *v1alpha1.Member) {
			m.Status.Discovery.Anchors = []v1alpha1.PeerAnchor{{Name: "isthmus-peer-a", UID: "2"}}
		}, true},
		{"its account", func(m *v1alpha1.Member) { m.Status.Discovery.Account = "2" }, true},
		{"it is away", func(m *v1alpha1.Member) {
			m.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionFalse, Reason: string(member.Unreachable)}}
		}, true},
	} {
		before := aMember("prod", "east")
		before.Status.Discovery = &v1alpha1.DiscoveryStatus{Account: "1", Peers: []v1alpha1.PeerStatus{
			{Name: "b", Credential: &v1alpha1.PeerCredentialStatus{Anchor: "isthmus-peer-east"}}}}
		after := before.DeepCopy()
		tt.change(after)
		if got := concernsPeers(&before, after); got != tt.want {
			t.Errorf("%s: %t", tt.reason, got)
		}
	}
}

func TestMintTrouble(t *testing.T) {
	t.Parallel()
	missing := func(resource string) error {
		return fmt.Errorf("make a token: %w", apierrors.NewNotFound(schema.GroupResource{Resource: resource}, "x"))
	}
	for _, tt := range []struct {
		reason string
		err    error
		why    string
		says   string
		waits  bool
	}{
		{"the account was deleted", missing("serviceaccounts"), reasonAccountMissing, peering.Account, false},
		{"the anchor was deleted", missing("secrets"), reasonAnchorMissing, "isthmus-peer-west", true},
		{"the anchor was made anew", apierrors.NewConflict(schema.GroupResource{Resource: "serviceaccounts/token"}, "x", errors.New("uid")), reasonAnchorMissing, "isthmus-peer-west", true},
		{"it may not be made", apierrors.NewForbidden(schema.GroupResource{Resource: "serviceaccounts/token"}, "x", errors.New("no")), string(member.AccessDenied), "member rbac east", false},
		{"the peer does not know us", apierrors.NewUnauthorized("no"), string(member.CredentialsRejected), "", false},
		{"the peer fails", apierrors.NewInternalError(errors.New("no")), string(member.ServerFailing), "", false},
	} {
		one := pairOf(t, func(one *pair) { one.facts.Anchor = "isthmus-peer-west" })
		got := mintTrouble(minted{pair: one, err: tt.err})
		if got.reason != tt.why || !strings.Contains(got.message, tt.says) || got.waits != tt.waits {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}

// TestTriesBackOff: a pair that fails is tried ever more rarely, and the others as
// they are due.
func TestTriesBackOff(t *testing.T) {
	t.Parallel()
	book := &peerBook{held: map[string]held{}, tries: map[string]try{}}
	one := pairOf(t, func(one *pair) { one.verdict = peering.Verdict{Mint: true, Reason: peering.Missing} })
	other := pairOf(t, func(one *pair) { one.want.Name, one.verdict = "south", peering.Verdict{Mint: true} })
	now, pauses := peerNow, []time.Duration(nil)
	for range 9 {
		one.trouble = book.failed("east")
		if due, _ := book.due(one, now); !due {
			t.Fatal("not due")
		}
		book.fail("east", trouble{reason: "AccessDenied"}, now)
		one.trouble = book.failed("east")
		due, next := book.due(one, now)
		if due {
			t.Fatal("due at once again")
		}
		pauses, now = append(pauses, next.Sub(now)), next
		if due, _ := book.due(other, now); !due {
			t.Fatal("another pair is held up")
		}
	}
	if pauses[0] != mintFirst || pauses[1] != 2*mintFirst || pauses[8] != mintLongest {
		t.Errorf("pauses %v", pauses)
	}
	book.made(*credentialFor(t, "east", peerNow), false, peerNow)
	if book.failed("east") != nil {
		t.Error("a success leaves the trouble")
	}
}

// TestWhichTokenIsTried: one at a look, the one that was not for longest, and at once
// where another token of the peer was rejected since.
func TestWhichTokenIsTried(t *testing.T) {
	t.Parallel()
	ago := func(minutes int) time.Time { return peerNow.Add(-time.Duration(minutes) * time.Minute) }
	for _, tt := range []struct {
		reason   string
		change   func(map[string]*pair, *peerBook)
		looked   bool
		rejected map[string]time.Time
		want     string
	}{
		{"not between looks", func(map[string]*pair, *peerBook) {}, false, nil, ""},
		{"the one that was not for longest", func(map[string]*pair, *peerBook) {}, true, nil, "b"},
		{"one that never was", func(_ map[string]*pair, b *peerBook) { delete(b.checked, "c") }, true, nil, "c"},
		{"not what istiod does not read", func(_ map[string]*pair, b *peerBook) { delete(b.sight.peers, "b") }, true, nil, "a"},
		{"not what is to be replaced", func(all map[string]*pair, _ *peerBook) { all["b"].verdict.Mint = true }, true, nil, "a"},
		{"not what is away", func(all map[string]*pair, _ *peerBook) { all["b"].away = "since noon" }, true, nil, "a"},
		{"another reader's token was rejected", func(map[string]*pair, *peerBook) {}, false, map[string]time.Time{"c": ago(1)}, "c"},
		{"its own was tried since", func(map[string]*pair, *peerBook) {}, false, map[string]time.Time{"c": ago(11)}, ""},
	} {
		all, read := map[string]*pair{}, []*pair(nil)
		book := &peerBook{checked: map[string]time.Time{"a": ago(20), "b": ago(30), "c": ago(10)}, sight: peerSight{peers: map[string]seenPeer{}}}
		for _, name := range []string{"a", "b", "c"} {
			all[name] = pairOf(t, func(one *pair) { one.want.Name = name })
			read = append(read, all[name])
			book.sight.peers[name] = seenPeer{state: v1alpha1.PeerSynced}
		}
		tt.change(all, book)
		got := ""
		if one := book.check(read, tt.looked, func(one *pair) time.Time { return tt.rejected[one.want.Name] }); one != nil {
			got = one.want.Name
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}

// TestPeersInTheSet: the set has the credentials and anchors with our labels, tells
// itself apart by them, and shows no token by its name.
func TestPeersInTheSet(t *testing.T) {
	t.Parallel()
	one := pairOf(t, func(*pair) {})
	p := &pairs{mesh: peerMesh, all: []*pair{one, {want: peering.Want{Name: "none"}}}, anchors: []*unstructured.Unstructured{
		{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "isthmus-peer-east", "namespace": "applink-system"}}},
	}}
	set := p.in(apply.Set{})
	if len(set.Secrets) != 3 || set.Secrets[0].GetName() != "istio-remote-secret-east" || set.Secrets[1].GetName() != v1alpha1.PeerTokens || set.Secrets[2].GetName() != "isthmus-peer-east" {
		t.Fatalf("secrets %v", set.Secrets)
	}
	for _, secret := range set.Secrets {
		if secret.GetLabels()[apply.LabelNetwork] != "prod" || secret.GetLabels()[apply.LabelComponent] != "peers" {
			t.Errorf("%s: labels %v", secret.GetName(), secret.GetLabels())
		}
	}
	before := p.String()
	one.facts.Digest = "another"
	if p.String() == before || strings.Contains(before, "canary") {
		t.Errorf("fingerprint %q", before)
	}
}

// TestMintedIsAnnouncedOnce: one event for all that were made, and no token in it.
func TestMintedIsAnnounced(t *testing.T) {
	t.Parallel()
	events := record.NewFakeRecorder(10)
	r := &memberReconciler{events: events}
	var results []minted
	for i := range 12 {
		one := pairOf(t, func(one *pair) {
			one.want.Name, one.verdict = fmt.Sprintf("m%02d", i), peering.Verdict{Mint: true, Reason: peering.Missing}
		})
		results = append(results, minted{pair: one, credential: one.live})
	}
	replaced := pairOf(t, func(one *pair) { one.verdict = peering.Verdict{Mint: true, Reason: peering.RotationDue} })
	failed := pairOf(t, func(one *pair) { one.trouble = &trouble{reason: "AccessDenied", message: "may not"} })
	again := pairOf(t, func(one *pair) { one.trouble, one.known.Reason = &trouble{reason: "AccessDenied"}, "AccessDenied" })
	r.announceMinted(&v1alpha1.Member{}, append(results, minted{pair: replaced, credential: replaced.live},
		minted{pair: failed, err: errors.New("x")}, minted{pair: again, err: errors.New("x")}))
	close(events.Events)
	var got []string
	for text := range events.Events {
		got = append(got, text)
	}
	want := []string{
		"Warning PeerCredentialFailed no credential to discover east: AccessDenied: may not",
		"Normal PeerCredentialMade made credentials to discover m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more",
		"Normal PeerCredentialReplaced replaced credentials to discover east (RotationDue)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestStillReads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason   string
		replicas []istiod.Replica
		err      error
		reads    bool
		answered bool
	}{
		{"all have let go", []istiod.Replica{{Pod: "a", Clusters: []istiod.Cluster{{ID: "west"}}}}, nil, false, true},
		{"no istiod runs", nil, nil, false, true},
		{"one has not", []istiod.Replica{{Pod: "a"}, {Pod: "b", Clusters: []istiod.Cluster{{ID: "east"}}}}, nil, true, true},
		{"one does not answer", []istiod.Replica{{Pod: "a", Err: errors.New("no")}}, nil, true, false},
		{"nobody does", nil, errors.New("no"), true, false},
	} {
		why, answered := stillReads(tt.replicas, tt.err, "east")
		if (why != "") != tt.reads || answered != tt.answered {
			t.Errorf("%s: %q, answered %t", tt.reason, why, answered)
		}
	}
}
