package reconciler

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// aPeer is an API server that knows just enough to make tokens.
type aPeer struct {
	server *httptest.Server
	over   chan struct{} // of the test
	// refuse is the status that it answers requests for tokens with; 0 for a token,
	// -1 for no answer at all. Missing is what it does not find.
	refuse  int
	missing string
	// ahead is how far its clock is ahead of ours, life what it gives to a token.
	ahead, life time.Duration

	mu            sync.Mutex
	tokens, calls int
	secrets       []corev1.Secret
	// reads are those with a reader's token; refused says by which status it answers
	// one, 0 for what is there.
	reads   int
	refused func(token string) int
}

func newPeer(t *testing.T) *aPeer {
	t.Helper()
	p := &aPeer{life: 168 * time.Hour}
	p.server = httptest.NewTLSServer(p)
	t.Cleanup(p.server.Close)
	p.over = make(chan struct{})
	t.Cleanup(func() { close(p.over) })
	return p
}

func (p *aPeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", time.Now().Add(p.ahead).UTC().Format(http.TimeFormat))
	switch {
	case strings.HasSuffix(r.URL.Path, "/namespaces/kube-system"):
		answer(w, http.StatusOK, &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
			ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID(p.server.URL)}})
	case strings.HasSuffix(r.URL.Path, "/secrets"):
		var labelled []corev1.Secret
		for _, secret := range p.secrets {
			if secret.Labels[peering.LabelMultiCluster] != "" {
				labelled = append(labelled, secret)
			}
		}
		answer(w, http.StatusOK, &corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}, Items: labelled})
	case strings.HasSuffix(r.URL.Path, "/secrets/"+v1alpha1.PeerTokens):
		for _, secret := range p.secrets {
			if secret.Name == v1alpha1.PeerTokens {
				answer(w, http.StatusOK, &secret)
				return
			}
		}
		status := apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, v1alpha1.PeerTokens).Status()
		answer(w, http.StatusNotFound, &status)
	case strings.HasSuffix(r.URL.Path, "/token"):
		p.token(w, r)
	case strings.HasSuffix(r.URL.Path, "/namespaces"):
		p.read(w, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	default:
		http.NotFound(w, r)
	}
}

func (p *aPeer) token(w http.ResponseWriter, r *http.Request) {
	switch {
	case p.refuse < 0:
		<-p.over
		return
	case p.missing != "":
		status := apierrors.NewNotFound(schema.GroupResource{Resource: p.missing}, "x").Status()
		status.APIVersion, status.Kind = "v1", "Status"
		answer(w, http.StatusNotFound, &status)
		return
	case p.refuse > 0:
		answer(w, p.refuse, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(p.refuse)}) //nolint:gosec // G115: a status.
		return
	}
	var asked authenticationv1.TokenRequest
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.tokens++
	nonce := p.tokens
	p.mu.Unlock()
	asked.Status.Token = boundToken(time.Now().Add(p.ahead), p.life, asked.Spec.BoundObjectRef, nonce)
	answer(w, http.StatusCreated, &asked)
}

// read answers who reads with a token.
func (p *aPeer) read(w http.ResponseWriter, token string) {
	p.mu.Lock()
	p.reads++
	code := 0
	if p.refused != nil {
		code = p.refused(token)
	}
	p.mu.Unlock()
	if code != 0 {
		answer(w, code, &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(code)}) //nolint:gosec // G115: a status.
		return
	}
	answer(w, http.StatusOK, &corev1.NamespaceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NamespaceList"}})
}

func answer(w http.ResponseWriter, status int, what any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what)
}

func boundToken(at time.Time, life time.Duration, to *authenticationv1.BoundObjectReference, nonce int) string {
	claims, err := json.Marshal(map[string]any{
		"iat": at.Unix(), "exp": at.Add(life).Unix(), "jti": nonce,
		"kubernetes.io": map[string]any{
			"namespace": peerMesh.SystemNamespace, "serviceaccount": map[string]any{"name": peering.Account, "uid": "account"},
			"secret": map[string]any{"name": to.Name, "uid": to.UID},
		}})
	if err != nil {
		panic(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".canary-signature"
}

// peerHub is a hub with members, and the credentials to reach them.
type peerHub struct {
	client.Client
	network v1alpha1.ApplicationNetwork
	members []v1alpha1.Member
	peers   map[string]*aPeer
	// version of the Secrets with the credentials, and kubeconfigs in place of those of
	// the peers.
	version     string
	kubeconfigs map[string][]byte
}

func (h *peerHub) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	switch into := object.(type) {
	case *v1alpha1.ApplicationNetwork:
		*into = h.network
	case *v1alpha1.Member:
		for i := range h.members {
			if h.members[i].Name == key.Name {
				h.members[i].DeepCopyInto(into)
			}
		}
		return nil
	case *corev1.Secret:
		if kubeconfig, ok := h.kubeconfigs[key.Name]; ok {
			into.Data = map[string][]byte{"value": kubeconfig}
			break
		}
		server := h.peers[key.Name].server
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		into.Data = map[string][]byte{"value": fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
"users":[{"name":"u","user":{"token":"canary-admin"}}]}`, server.URL, base64.StdEncoding.EncodeToString(ca))}
	}
	object.SetName(key.Name)
	object.SetUID("uid")
	object.SetResourceVersion("1" + h.version)
	return nil
}

func (h *peerHub) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.MemberList).Items = h.members
	return nil
}

// peerWorld is a reader "west", with peers.
type peerWorld struct {
	t      *testing.T
	hub    *peerHub
	reader *aPeer
	r      *memberReconciler
	c      *connection
	m      *v1alpha1.Member
	want   desired
}

func newPeerWorld(t *testing.T, peers map[string]*aPeer) *peerWorld {
	t.Helper()
	w := &peerWorld{t: t, reader: newPeer(t), hub: &peerHub{peers: peers}}
	w.hub.network.Name, w.hub.network.Spec.DataPlane.Namespace = peerMesh.Network, peerMesh.SystemNamespace
	peers["west"] = w.reader
	for name, peer := range peers {
		m := aMember(peerMesh.Network, name)
		m.Namespace = "isthmus-system"
		m.Spec.Cluster = v1alpha1.Cluster{Type: v1alpha1.ClusterKubernetes, KubeconfigRef: &v1alpha1.SecretKeyReference{Name: name}}
		m.Status.ClusterUID = peer.server.URL
		m.Status.Discovery = &v1alpha1.DiscoveryStatus{Announced: stamp(peerNow), Account: "account", Anchors: []v1alpha1.PeerAnchor{{Name: "isthmus-peer-west", UID: "anchor"}}}
		w.hub.members = append(w.hub.members, m)
	}
	members := &roster{}
	for i := range w.hub.members {
		members.replace(nil, &w.hub.members[i], false)
	}
	w.m = w.member("west")
	w.want = desired{network: &w.hub.network, bundle: bundle.Bundle{Release: "1.31.0"}}
	access := &access{hub: w.hub, seen: w.hub, options: member.Options{Timeout: 5 * time.Second}}
	w.r = &memberReconciler{
		Client: w.hub, events: record.NewFakeRecorder(100), now: time.Now, live: w.hub, roster: members,
		connections: newConnections(t.Context(), access, Options{}, make(chan event.GenericEvent, 100)),
	}
	w.restart()
	return w
}

func (w *peerWorld) member(name string) *v1alpha1.Member {
	for i := range w.hub.members {
		if w.hub.members[i].Name == name {
			return w.hub.members[i].DeepCopy()
		}
	}
	w.t.Fatalf("no member %s", name)
	return nil
}

// peer is a member as the hub has it, to be changed.
func (w *peerWorld) peer(name string) *v1alpha1.Member {
	for i := range w.hub.members {
		if w.hub.members[i].Name == name {
			return &w.hub.members[i]
		}
	}
	w.t.Fatalf("no member %s", name)
	return nil
}

// restart is what a process that dies leaves: what is in the member, and on the hub.
func (w *peerWorld) restart() {
	w.t.Helper()
	for i := range w.hub.members {
		w.r.connections.drop(client.ObjectKeyFromObject(&w.hub.members[i]))
	}
	w.r.endpoints = endpoints{}
	c, failure := w.r.connections.get(w.t.Context(), w.m, peerMesh)
	if failure != nil {
		w.t.Fatal(failure)
	}
	w.c = c
}

// look works out the pairs.
func (w *peerWorld) look() *pairs {
	w.t.Helper()
	p, failure := w.r.pairsOf(w.t.Context(), w.c, w.m, w.want)
	if failure != nil {
		w.t.Fatal(failure)
	}
	return p
}

// mint looks and makes what is due, within a time.
func (w *peerWorld) mint(within time.Duration) *pairs {
	w.t.Helper()
	p := w.look()
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	w.r.mint(ctx, w.c, w.m, apply.Set{Mesh: peerMesh}, p, newReport(nil, w.r.events, w.m))
	return p
}

// deliver puts the pairs' credentials into the reader.
func (w *peerWorld) deliver() {
	set := w.look().in(apply.Set{})
	w.reader.secrets = nil
	for _, secret := range set.Secrets {
		if !strings.HasPrefix(secret.GetName(), peering.AnchorPrefix) {
			w.reader.secrets = append(w.reader.secrets, corev1.Secret{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
				ObjectMeta: metav1.ObjectMeta{Name: secret.GetName(), Namespace: secret.GetNamespace(), Labels: secret.GetLabels()},
				Data:       filesOf(secret),
			})
		}
	}
}

// has is a file of a Secret in the reader, empty if there is none.
func (w *peerWorld) has(secret, file string) string {
	for _, one := range w.reader.secrets {
		if one.Name == secret {
			return string(one.Data[file])
		}
	}
	return ""
}

// record writes the status.
func (w *peerWorld) record() {
	report := newReport(nil, w.r.events, w.m)
	report.discovered(w.c, w.look(), true, false, time.Now())
}

func (w *peerWorld) status(peer string) v1alpha1.PeerStatus {
	for _, one := range w.m.Status.Discovery.Peers {
		if one.Name == peer {
			return one
		}
	}
	return v1alpha1.PeerStatus{}
}

// settled is a reader that has a credential for the one peer "east".
func settledWorld(t *testing.T) (*peerWorld, *aPeer) {
	t.Helper()
	east := newPeer(t)
	w := newPeerWorld(t, map[string]*aPeer{"east": east})
	w.mint(5 * time.Second)
	w.deliver()
	w.record()
	if east.tokens != 1 || w.status("east").Credential == nil {
		t.Fatalf("%d tokens, status %+v", east.tokens, w.status("east"))
	}
	return w, east
}

// TestPeersThatFailHoldUpNobody: one that is slow, one that is down, one that rejects,
// and one without its account; the fifth gets its credential at once, and each pair
// says what is wrong with it.
func TestPeersThatFailHoldUpNobody(t *testing.T) {
	t.Parallel()
	peers := map[string]*aPeer{"fine": newPeer(t), "slow": newPeer(t), "down": newPeer(t), "rejects": newPeer(t), "bare": newPeer(t), "unbound": newPeer(t), "forbids": newPeer(t)}
	peers["slow"].refuse, peers["rejects"].refuse, peers["forbids"].refuse = -1, http.StatusUnauthorized, http.StatusForbidden
	peers["bare"].missing, peers["unbound"].missing = "serviceaccounts", "secrets"
	peers["down"].server.Close()
	w := newPeerWorld(t, peers)
	began := time.Now()
	w.mint(2 * time.Second)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("one turn took %s", took)
	}
	w.deliver()
	w.record()
	if len(w.reader.secrets) != 2 || w.has("istio-remote-secret-fine", "fine") == "" || w.has(v1alpha1.PeerTokens, "fine") == "" {
		t.Errorf("delivered %d secrets", len(w.reader.secrets))
	}
	for name, want := range map[string]string{
		"fine": reasonSyncing, "slow": string(member.Unreachable), "down": string(member.Unreachable), "rejects": string(member.CredentialsRejected),
		"bare": reasonAccountMissing, "unbound": reasonAnchorMissing, "forbids": string(member.AccessDenied),
	} {
		if got := w.status(name); got.Reason != want || got.Message == "" {
			t.Errorf("%s: %+v, want the reason %s", name, got, want)
		}
	}
	raw, err := json.Marshal(w.m.Status)
	if err != nil || strings.Contains(string(raw), "canary") {
		t.Errorf("a secret in the status: %s %v", raw, err)
	}
	before := peers["fine"].tokens
	w.mint(2 * time.Second)
	if peers["fine"].tokens != before {
		t.Error("the pair that is well was given another token")
	}
}

// TestPeersAreNotAskedInVain: a pair that is well costs no request of anybody.
func TestPeersAreNotAskedInVain(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	read, asked := w.reader.calls, east.calls
	for range 5 {
		w.mint(time.Second)
	}
	if w.reader.calls != read || east.calls != asked {
		t.Errorf("%d requests of the reader, %d of the peer", w.reader.calls-read, east.calls-asked)
	}
}

// TestPeerTokensAfterAKill: killed between making a token and delivering it, and
// between delivering and recording, each costs one more token and no more.
func TestPeerTokensAfterAKill(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	w.restart()
	w.mint(5 * time.Second)
	if east.tokens != 1 {
		t.Errorf("a start that finds all well made %d tokens", east.tokens-1)
	}
	w.m.Status.Discovery.Peers = nil // killed before it was recorded
	w.restart()
	if p := w.look(); p.all[0].verdict.Reason != peering.Edited || p.all[0].live == nil {
		t.Errorf("what is there does not stay until there is another: %+v", p.all[0].verdict)
	}
	w.mint(5 * time.Second)
	w.restart() // killed before it was delivered
	w.mint(5 * time.Second)
	w.deliver()
	w.record()
	w.mint(5 * time.Second)
	if east.tokens != 3 {
		t.Errorf("%d tokens, want one for each kill and the first", east.tokens)
	}
}

// TestPeerTokenExpiredWhileAway: it is replaced at the start.
func TestPeerTokenExpiredWhileAway(t *testing.T) {
	t.Parallel()
	east := newPeer(t)
	east.ahead = -200 * time.Hour // it is made so long ago
	w := newPeerWorld(t, map[string]*aPeer{"east": east})
	w.mint(5 * time.Second)
	w.deliver()
	w.record()
	east.ahead = 0
	w.restart()
	if p := w.look(); p.all[0].verdict.Reason != peering.Expired {
		t.Errorf("verdict %+v", p.all[0].verdict)
	}
	w.mint(5 * time.Second)
	p := w.look()
	if east.tokens != 2 || p.all[0].verdict.Mint {
		t.Errorf("%d tokens, verdict %+v", east.tokens, p.all[0].verdict)
	}
}

// TestReplacedTokensAreInTheFileOnly: whatever has a token replaced, or the process
// die over it, the kubeconfig stays as long as it leads to the peer.
func TestReplacedTokensAreInTheFileOnly(t *testing.T) {
	t.Parallel()
	for reason, change := range map[string]func(*peerWorld, *aPeer){
		"it is due": func(w *peerWorld, east *aPeer) {
			east.ahead = 80 * time.Hour
			w.r.now = func() time.Time { return time.Now().Add(80 * time.Hour) }
			w.restart()
		},
		"another anchor":       func(w *peerWorld, _ *aPeer) { w.peer("east").Status.Discovery.Anchors[0].UID = "other" },
		"another account":      func(w *peerWorld, _ *aPeer) { w.peer("east").Status.Discovery.Account = "other" },
		"the peer rejects it":  func(w *peerWorld, _ *aPeer) { w.c.peers.void["east"] = true },
		"killed before record": func(w *peerWorld, _ *aPeer) { w.m.Status.Discovery.Peers = nil; w.restart() },
		"tokens that somebody has deleted": func(w *peerWorld, _ *aPeer) {
			w.reader.secrets = w.reader.secrets[:1]
			w.restart()
		},
	} {
		w, east := settledWorld(t)
		kubeconfig, token := w.has("istio-remote-secret-east", "east"), w.has(v1alpha1.PeerTokens, "east")
		change(w, east)
		w.mint(5 * time.Second)
		w.deliver()
		if w.has("istio-remote-secret-east", "east") != kubeconfig {
			t.Errorf("%s: another kubeconfig", reason)
		}
		if now := w.has(v1alpha1.PeerTokens, "east"); now == token || now == "" || east.tokens != 2 {
			t.Errorf("%s: %d tokens, another in the file: %t", reason, east.tokens, now != token)
		}
	}
}

// TestReplacedKubeconfigGoesFirst: a peer that has moved is let go by istiod before
// another kubeconfig comes, and a pair that does not answer holds that up for so long
// only.
func TestReplacedKubeconfigGoesFirst(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	moved := w.peer("east")
	moved.Spec.Cluster.PeerEndpoint, moved.Generation = &v1alpha1.PeerEndpoint{Server: "https://10.0.0.1"}, 2
	w.mint(5 * time.Second)
	w.deliver()
	if w.has("istio-remote-secret-east", "east") != "" || east.tokens != 2 {
		t.Fatalf("%d tokens, and another kubeconfig in place of the first", east.tokens)
	}
	now := time.Now() // the reader has no istiod that could be asked
	w.r.now = func() time.Time { return now }
	if wait := w.r.makeRoom(t.Context(), w.c, w.look()); wait != peersFirst {
		t.Errorf("looks again after %s", wait)
	}
	w.mint(time.Second)
	w.deliver()
	if w.has("istio-remote-secret-east", "east") != "" {
		t.Error("it comes at once")
	}
	now = now.Add(roomPatience)
	w.r.makeRoom(t.Context(), w.c, w.look())
	w.mint(time.Second)
	w.deliver()
	if got := w.has("istio-remote-secret-east", "east"); !strings.Contains(got, "https://10.0.0.1") || east.tokens != 2 {
		t.Errorf("%d tokens, the kubeconfig is there: %t", east.tokens, got != "")
	}
	if wait := w.r.makeRoom(t.Context(), w.c, w.look()); wait != 0 {
		t.Errorf("looks again after %s", wait)
	}
}

// TestEditedKubeconfigComesAnew: it was taken away for its edit, and comes back when
// istiod has let go of it, or had the time to. What is not an edit of it does nothing.
func TestEditedKubeconfigComesAnew(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	of := func(name string, action apply.Action, content bool) []apply.Change {
		return []apply.Change{{Subject: apply.Subject{Version: "v1", Kind: "Secret", Name: name}, Action: action, Content: content}}
	}
	for reason, changes := range map[string][]apply.Change{
		"one that was deleted":            of("istio-remote-secret-east", apply.Created, false),
		"one whose labels were edited":    of("istio-remote-secret-east", apply.Configured, false),
		"one that left the set":           of("istio-remote-secret-east", apply.Deleted, false),
		"tokens that somebody has edited": of(v1alpha1.PeerTokens, apply.Configured, true),
	} {
		w.c.peers.changed(changes)
		if p := w.look(); p.all[0].live == nil {
			t.Errorf("%s goes", reason)
		}
	}
	set := w.look().in(apply.Set{Mesh: peerMesh})
	for name, want := range map[string]bool{"istio-remote-secret-east": true, v1alpha1.PeerTokens: false, "isthmus-peer-east": false} {
		if got := set.Anew(apply.Subject{Version: "v1", Kind: "Secret", Namespace: peerMesh.SystemNamespace, Name: name}); got != want {
			t.Errorf("%s comes anew when it was edited: %t", name, got)
		}
	}
	w.c.peers.changed(of("istio-remote-secret-east", apply.Deleted, true))
	if p := w.look(); p.all[0].live != nil || p.all[0].verdict.Mint || w.r.makeRoom(t.Context(), w.c, p) != peersFirst {
		t.Error("it comes back before istiod has let go of it")
	}
	now := time.Now().Add(roomPatience)
	w.r.now = func() time.Time { return now }
	w.r.makeRoom(t.Context(), w.c, w.look())
	if p := w.look(); p.all[0].live == nil || east.tokens != 1 {
		t.Errorf("it does not come back; %d tokens", east.tokens)
	}
}

// TestCredentialThatCameUnnoticed: a delivery may have written a credential, and fail
// without an answer to that. Istiod is asked then though all was well a minute ago, and
// once.
func TestCredentialThatCameUnnoticed(t *testing.T) {
	t.Parallel()
	w, _ := settledWorld(t)
	asked := func() bool {
		before := w.c.peers.sight.next
		w.r.watchPeers(t.Context(), w.c, w.m, apply.Set{Mesh: peerMesh}, w.look())
		return !w.c.peers.sight.next.Equal(before)
	}
	w.c.peers.sight.begun = true
	w.c.peers.sight.next = time.Now().Add(peersEvery) // of the other peers
	if !asked() {
		t.Error("istiod is not asked about it")
	}
	if asked() {
		t.Error("istiod is asked again at once")
	}
	known := &w.m.Status.Discovery.Peers[0]
	known.State, w.c.peers.sight.peers = v1alpha1.PeerSynced, nil
	w.c.peers.sight.next = time.Now().Add(peersEvery)
	if asked() {
		t.Error("istiod is asked about what the hub says it reads")
	}
}

// TestPeerTokensWhenTheClockJumps: the peer's clock counts, and a reconciler whose own
// has jumped replaces nothing.
func TestPeerTokensWhenTheClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{8760 * time.Hour, -8760 * time.Hour} {
		w, east := settledWorld(t)
		w.r.now = func() time.Time { return time.Now().Add(jump) }
		east.ahead = -jump // the answers' dates are compared with the machine's clock
		w.restart()
		for range 3 {
			w.mint(5 * time.Second)
		}
		if east.tokens != 1 {
			t.Errorf("a jump of %s cost %d tokens", jump, east.tokens-1)
		}
	}
}

// TestReplaceIssuedBefore has tokens replaced once, by other anchors; that the fleet
// does not say so any more replaces nothing, neither in the reader nor in the peer.
func TestReplaceIssuedBefore(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	say := func(before *metav1.Time) { w.hub.network.Spec.Discovery.Credentials.ReplaceIssuedBefore = before }
	anchors := func() []string {
		var names []string
		readers := []*v1alpha1.Member{w.m}
		all, _ := anchorsOf(w.peer("east"), readers, w.hub.network.Spec.Discovery.Credentials, peerMesh, time.Now())
		for _, o := range all {
			names = append(names, o.GetName())
		}
		return names
	}
	deliver := func() {
		w.mint(5 * time.Second)
		w.deliver()
		w.record()
		w.peer("west").Status = w.m.Status
	}
	before := metav1.NewTime(time.Now().Truncate(time.Second))
	next := fmt.Sprintf("isthmus-peer-west.%d", before.Unix())
	say(&before)
	if got := anchors(); !slices.Equal(got, []string{"isthmus-peer-west", next}) {
		t.Fatalf("anchors %q", got)
	}
	w.peer("east").Status.Discovery.Anchors = append(w.peer("east").Status.Discovery.Anchors, v1alpha1.PeerAnchor{Name: next, UID: "next"})
	deliver()
	if got := w.status("east").Credential; east.tokens != 2 || got.Anchor != next {
		t.Fatalf("%d tokens, bound to %s", east.tokens, got.Anchor)
	}
	for _, said := range []*metav1.Time{nil, {Time: before.Add(-time.Hour)}, {Time: before.Add(time.Hour)}} {
		say(said)
		deliver()
		w.restart()
		deliver()
		if got := anchors(); east.tokens != 2 || !slices.Contains(got, next) {
			t.Errorf("%v: %d tokens, anchors %q", said, east.tokens, got)
		}
	}
}

// TestEditedPeerCredential: another one is made, and what leads elsewhere does not
// stay until then.
func TestEditedPeerCredential(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	w.reader.secrets[0].Data["east"] = []byte(strings.ReplaceAll(string(w.reader.secrets[0].Data["east"]), "https://", "https://elsewhere."))
	w.restart()
	if p := w.look(); p.all[0].verdict.Reason != peering.Edited || p.all[0].live != nil {
		t.Errorf("verdict %+v, in the set %t", p.all[0].verdict, p.all[0].live != nil)
	}
	w.mint(5 * time.Second)
	one := w.c.peers.held["east"]
	one.replaces = false // what was there has gone
	w.c.peers.held["east"] = one
	if p := w.look(); east.tokens != 2 || p.all[0].live == nil || p.all[0].live.Server != east.server.URL {
		t.Errorf("%d tokens, %+v", east.tokens, p.all[0].verdict)
	}
}

// TestPeerThatIsGone: what the reader has stays, whatever cannot be found out.
func TestPeerThatIsGone(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	east.server.Close()
	w.r.now = func() time.Time { return time.Now().Add(80 * time.Hour) } // due, and alive
	w.restart()
	w.mint(5 * time.Second)
	w.deliver()
	w.record()
	if got := w.status("east"); len(w.reader.secrets) != 2 || got.Credential == nil || got.Reason != reasonSyncing {
		t.Errorf("%d secrets, status %+v", len(w.reader.secrets), got)
	}
}

// TestPeerThatGoesAway: istiod goes on saying that it has read it; the pair and
// PeersReady say since when its API server does not answer, in the same words however
// often they are asked, and all is well again when it is back.
func TestPeerThatGoesAway(t *testing.T) {
	t.Parallel()
	w, _ := settledWorld(t)
	w.c.peers.sight.peers = map[string]seenPeer{"east": {state: v1alpha1.PeerSynced, reason: reasonSynced}}
	ready := func() metav1.Condition {
		w.record()
		for _, c := range (status.Member{Peers: peersOutcome(w.m, false)}).Conditions() {
			if c.Type == status.PeersReady {
				return c
			}
		}
		return metav1.Condition{}
	}
	if got := ready(); got.Status != metav1.ConditionTrue {
		t.Fatalf("PeersReady %+v", got)
	}
	east, calls := w.peer("east"), w.reader.calls
	for _, words := range []string{"connection refused", "it does not answer"} {
		// Its own lane finds it away, for ever new reasons.
		failure := &status.Failure{Reason: string(member.Unreachable), Message: words}
		setConditions(east, status.Member{Failure: failure}.Conditions(), 1)
		for i := range east.Status.Conditions {
			if words == "connection refused" {
				east.Status.Conditions[i].LastTransitionTime = metav1.NewTime(peerNow)
			}
		}
		got := ready()
		if got.Status != metav1.ConditionFalse || got.Reason != reasonPeerUnreachable || !strings.Contains(got.Message, "east: its API server does not answer since 2026-11-27T12:00:00Z") {
			t.Errorf("%s: PeersReady %+v", words, got)
		}
	}
	before := w.m.Status.DeepCopy()
	if ready(); !equality.Semantic.DeepEqual(*before, w.m.Status) {
		t.Error("another status at each look")
	}
	setConditions(east, status.Member{Failure: &status.Failure{Reason: string(member.CredentialsRejected)}}.Conditions(), 1)
	if got := ready(); got.Status != metav1.ConditionTrue {
		t.Errorf("PeersReady %+v, while only the reconciler is not let in", got)
	}
	setConditions(east, status.Member{Attempted: "1", Applied: "1"}.Conditions(), 1)
	if got := ready(); got.Status != metav1.ConditionTrue || w.reader.calls != calls {
		t.Errorf("PeersReady %+v, %d requests", got, w.reader.calls-calls)
	}
}

// TestTokenRejectedAfterIstiodHasRead: istiod goes on saying that it reads the peer. A
// look finds out, the token is replaced, the other readers of the peer are woken, and
// none of this comes again while nothing is rejected.
func TestTokenRejectedAfterIstiodHasRead(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	w.c.peers.sight.peers = map[string]seenPeer{"east": {state: v1alpha1.PeerSynced, reason: reasonSynced}}
	check := func(looked bool) { w.r.checkPeer(t.Context(), w.c, w.look().all, looked) }
	first := w.has(v1alpha1.PeerTokens, "east")
	reads := east.reads
	check(false)
	if check(true); east.reads != reads+1 || w.look().all[0].verdict.Mint {
		t.Fatalf("%d requests, verdict %+v", east.reads-reads, w.look().all[0].verdict)
	}
	east.refused = func(token string) int {
		if token == first {
			return http.StatusUnauthorized
		}
		return 0
	}
	check(true)
	if got := w.look().all[0].verdict; got.Reason != tokenRejected || len(w.r.connections.wake) != 1 {
		t.Errorf("verdict %+v, %d woken", got, len(w.r.connections.wake))
	}
	w.mint(5 * time.Second)
	w.deliver()
	w.record()
	if now := w.has(v1alpha1.PeerTokens, "east"); now == first || east.tokens != 2 || w.status("east").State != v1alpha1.PeerSynced {
		t.Errorf("%d tokens, another: %t, status %+v", east.tokens, now != first, w.status("east"))
	}
	reads = east.reads
	if check(false); east.reads != reads || w.look().all[0].verdict.Mint {
		t.Errorf("%d requests more, verdict %+v", east.reads-reads, w.look().all[0].verdict)
	}
}

// TestFreshTokenIsTried: what a peer makes and does not take is not delivered. What the
// reader has stays, the pair and the condition say why, and it is tried again. Where the
// reconciler does not reach the address for istiods, it is delivered all the same.
func TestFreshTokenIsTried(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{http.StatusUnauthorized: tokenRejected, http.StatusForbidden: reasonAccountDenied} {
		w, east := settledWorld(t)
		first, now := w.has(v1alpha1.PeerTokens, "east"), time.Now().Add(80*time.Hour)
		east.ahead = 80 * time.Hour // it is due
		w.r.now = func() time.Time { return now }
		w.restart()
		w.c.peers.sight.peers = map[string]seenPeer{"east": {state: v1alpha1.PeerSynced, reason: reasonSynced}}
		east.refused = func(token string) int {
			if token == first {
				return 0
			}
			return code
		}
		w.mint(5 * time.Second)
		w.deliver()
		w.record()
		got, ready := w.status("east"), peersOutcome(w.m, false).Noted
		if w.has(v1alpha1.PeerTokens, "east") != first || east.tokens != 2 || got.State != v1alpha1.PeerSynced || got.Reason != want || !strings.Contains(got.Message, "works still") || ready == nil {
			t.Errorf("%d: delivered: %t, %d tokens, status %+v, noted %+v", code, w.has(v1alpha1.PeerTokens, "east") != first, east.tokens, got, ready)
		}
		reads := east.reads
		w.mint(5 * time.Second)
		east.refused, now = nil, now.Add(time.Minute)
		w.mint(5 * time.Second)
		w.deliver()
		w.record()
		if got := w.status("east"); w.has(v1alpha1.PeerTokens, "east") == first || east.tokens != 3 || east.reads != reads+1 || got.Message != "" {
			t.Errorf("%d: %d tokens, %d requests, status %+v", code, east.tokens, east.reads-reads, got)
		}
	}
	w, east := settledWorld(t)
	moved := w.peer("east")
	moved.Spec.Cluster.PeerEndpoint, moved.Generation = &v1alpha1.PeerEndpoint{Server: "https://127.0.0.1:1"}, 2
	reads := east.reads
	w.mint(5 * time.Second)
	if got := w.look().all[0]; got.verdict.Mint || got.facts.Live.Server != "https://127.0.0.1:1" || east.reads != reads || !w.r.endpoints.hidden(client.ObjectKeyFromObject(moved), time.Now()) {
		t.Errorf("an address that the reconciler does not reach: %+v, %d requests", got.verdict, east.reads-reads)
	}
}

// TestForeignRemoteSecret: one that people made is left, and named.
func TestForeignRemoteSecret(t *testing.T) {
	t.Parallel()
	w, east := settledWorld(t)
	delete(w.reader.secrets[0].Labels, apply.LabelNetwork)
	w.restart()
	w.mint(5 * time.Second)
	w.record()
	if got := w.status("east"); got.Reason != reasonNotOurs || got.State != v1alpha1.PeerFailed || east.tokens != 1 {
		t.Errorf("status %+v, %d tokens", got, east.tokens-1)
	}
	w.m.Annotations = map[string]string{apply.AdoptAnnotation: apply.AdoptExisting}
	w.restart()
	if p := w.look(); p.all[0].trouble != nil {
		t.Errorf("it is not adopted: %+v", p.all[0].trouble)
	}
}

// TestKubeconfigOfAPeerChanges: its readers are woken, and find the other address and CA
// at once.
func TestKubeconfigOfAPeerChanges(t *testing.T) {
	t.Parallel()
	w, _ := settledWorld(t)
	if p := w.look(); p.all[0].verdict.Mint {
		t.Fatalf("verdict %+v", p.all[0].verdict)
	}
	w.hub.peers["east"], w.hub.version = newPeer(t), "2"
	old, secret := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "east", Namespace: "isthmus-system", ResourceVersion: "2"}}
	if !accessChanged.Update(event.UpdateEvent{ObjectOld: old, ObjectNew: secret}) || accessChanged.Update(event.UpdateEvent{ObjectOld: secret, ObjectNew: secret}) ||
		!accessChanged.Create(event.CreateEvent{Object: secret}) || accessChanged.Create(event.CreateEvent{Object: secret, IsInInitialList: true}) {
		t.Error("a start wakes the readers of all members, or a change does not")
	}
	var woken []string
	for _, request := range w.r.readersOfKubeconfig(t.Context(), secret) {
		woken = append(woken, request.Name)
	}
	if !slices.Equal(woken, []string{"west"}) {
		t.Errorf("woken: %q", woken)
	}
	if p := w.look(); p.all[0].verdict.Reason != peering.EndpointChanged {
		t.Errorf("verdict %+v", p.all[0].verdict)
	}
}

// TestMovedPeer: another address, anchor or account has a token replaced; a hub
// without an address for others is said so.
func TestMovedPeer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		reason string
		change func(*v1alpha1.Member)
		why    string
		said   string
	}{
		{"another address", func(m *v1alpha1.Member) {
			m.Spec.Cluster.PeerEndpoint, m.Generation = &v1alpha1.PeerEndpoint{Server: "https://10.0.0.1"}, 2
		}, peering.EndpointChanged, ""},
		{"an anchor that was deleted and came back", func(m *v1alpha1.Member) { m.Status.Discovery.Anchors[0].UID = "other" }, peering.AnchorChanged, ""},
		{"an account that was", func(m *v1alpha1.Member) { m.Status.Discovery.Account = "other" }, peering.AccountChanged, ""},
		{"the hub", func(m *v1alpha1.Member) { m.Spec.Cluster.Type, m.Generation = v1alpha1.ClusterHub, 2 }, "", ""},
		{"the hub, with no credential yet", func(m *v1alpha1.Member) {
			m.Spec.Cluster.Type, m.Generation, m.Status.Discovery.Account = v1alpha1.ClusterHub, 2, "other"
		}, peering.AccountChanged, reasonEndpointUnknown},
	} {
		w, _ := settledWorld(t)
		for i := range w.hub.members {
			if w.hub.members[i].Name == "east" {
				tt.change(&w.hub.members[i])
			}
		}
		p := w.look()
		if p.all[0].verdict.Reason != tt.why || p.all[0].live == nil {
			t.Errorf("%s: verdict %+v, in the set %t", tt.reason, p.all[0].verdict, p.all[0].live != nil)
		}
		if (p.all[0].trouble == nil) != (tt.said == "") || tt.said != "" && p.all[0].trouble.reason != tt.said {
			t.Errorf("%s: trouble %+v", tt.reason, p.all[0].trouble)
		}
	}
}
