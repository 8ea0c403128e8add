package reconciler

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

// realPeer is the peer "east" of a reader, which has a real API server.
type realPeer struct {
	*peerWorld
	client client.Client
	server *controlplane.Cluster
}

func newRealPeer(t *testing.T) *realPeer {
	t.Helper()
	cluster := controlplanetest.Cluster(t, controlplanetest.Start(t, controlplane.Options{}), "east", controlplane.ClusterOptions{APIServerOnly: true})
	c, err := client.New(cluster.RESTConfig(), client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := newPeerWorld(t, map[string]*aPeer{"east": newPeer(t)})
	w.hub.kubeconfigs, w.hub.version = map[string][]byte{"east": cluster.Kubeconfig()}, "real"
	p := &realPeer{peerWorld: w, client: c, server: cluster}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: peerMesh.SystemNamespace, Name: peering.Account}}
	p.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: peerMesh.SystemNamespace}})
	p.create(account)
	system := &corev1.Namespace{}
	if err := c.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, system); err != nil {
		t.Fatal(err)
	}
	status := &w.peer("east").Status
	status.ClusterUID, status.Discovery.Account, status.Discovery.Anchors = string(system.UID), string(account.UID), nil
	w.restart()
	return p
}

func (p *realPeer) create(object client.Object) {
	p.t.Helper()
	if err := p.client.Create(p.t.Context(), object); err != nil {
		p.t.Fatal(err)
	}
}

// anchor makes the Secret that the tokens of a reader hang on, and says so to the hub.
func (p *realPeer) anchor(reader string) *corev1.Secret {
	p.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: peerMesh.SystemNamespace, Name: peering.AnchorPrefix + reader}}
	p.create(secret)
	discovery := p.peer("east").Status.Discovery
	discovery.Anchors = append(slices.DeleteFunc(slices.Clone(discovery.Anchors), func(a v1alpha1.PeerAnchor) bool { return a.Name == secret.Name }),
		v1alpha1.PeerAnchor{Name: secret.Name, UID: string(secret.UID)})
	return secret
}

// readable lets the reader account read what is asked to try its tokens.
func (p *realPeer) readable() {
	p.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "istio-reader"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "list", "watch"}}}})
	p.create(&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "istio-reader"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "istio-reader"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: peerMesh.SystemNamespace, Name: peering.Account}}})
}

// says is what the peer says to a credential, within the time that API servers go on
// taking a token that is void.
func (p *realPeer) says(credential peering.Credential, want member.Reason) {
	p.t.Helper()
	got := member.Reason("nothing")
	err := wait.PollUntilContextTimeout(p.t.Context(), 200*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		got = member.ReasonOf(p.r.tryCredential(ctx, credential))
		return got == want, nil
	})
	if err != nil {
		p.t.Errorf("the peer says %q, want %q", got, want)
	}
}

// TestCredentialsOfARealAPIServer: a token is made in the peer as that has it, bound to
// its reader's anchor; it is not delivered until the account may read; it reads; and it
// is void when its anchor goes, also when another one of the name comes, while another
// reader's is not. That is found out, and replaced.
func TestCredentialsOfARealAPIServer(t *testing.T) {
	t.Parallel()
	p := newRealPeer(t)
	anchor := p.anchor("west")
	p.mint(20 * time.Second)
	p.record()
	if got := p.status("east"); got.Reason != reasonAccountDenied || p.look().all[0].live != nil {
		t.Fatalf("an account that may not read: %+v", got)
	}

	p.readable()
	p.r.now = func() time.Time { return time.Now().Add(mintLongest) } // it is tried again
	p.mint(20 * time.Second)
	p.r.now = time.Now
	p.deliver()
	p.record()
	first := p.look().all[0].live
	if first == nil || p.status("east").Credential == nil {
		t.Fatalf("no credential: %+v", p.status("east"))
	}
	if first.Anchor != anchor.Name || first.AnchorUID != anchor.UID || first.Account != peering.Account || first.Life() != peering.DefaultLifetime ||
		first.Server != p.server.Server() || time.Since(first.IssuedAt).Abs() > time.Minute {
		t.Errorf("claims %+v at %s", first.Claims, first.Server)
	}
	p.says(*first, "")
	c, err := p.r.peer(t.Context(), p.peer("east"))
	if err != nil {
		t.Fatal(err)
	}
	south := p.anchor("south")
	other, err := peering.Mint(t.Context(), c.member.Token, peering.Request{
		Peer: "east", Endpoint: first.Endpoint, Namespace: peerMesh.SystemNamespace, Anchor: south.Name, AnchorUID: south.UID, Lifetime: time.Hour,
	})
	if err != nil || other.Life() != time.Hour {
		t.Fatalf("a life of %s: %v", other.Life(), err)
	}

	if err := p.client.Delete(t.Context(), anchor); err != nil {
		t.Fatal(err)
	}
	p.says(*first, member.CredentialsRejected)
	p.says(other, "")
	if got := p.mint(20 * time.Second); got.all[0].verdict.Mint {
		t.Fatalf("what the hub does not know of is replaced: %+v", got.all[0].verdict)
	}
	p.c.peers.sight.peers = map[string]seenPeer{"east": {state: v1alpha1.PeerSynced, reason: reasonSynced}}
	p.r.checkPeer(t.Context(), p.c, p.look().all, true)
	p.mint(20 * time.Second)
	p.record()
	if got := p.status("east"); got.State != v1alpha1.PeerFailed || got.Reason != reasonAnchorMissing {
		t.Errorf("rejected, and its anchor is gone: %+v", got)
	}

	p.anchor("west")
	p.says(*first, member.CredentialsRejected)
	p.r.now = func() time.Time { return time.Now().Add(mintLongest) }
	p.mint(20 * time.Second)
	p.deliver()
	p.record()
	second := p.look().all[0].live
	if second == nil || second.Token.Equal(first.Token) || !second.First.Equal(first.First) {
		t.Fatalf("no other token in the same kubeconfig: %+v", p.status("east"))
	}
	p.says(*second, "")
	if p.status("east").State == v1alpha1.PeerFailed {
		t.Errorf("status %+v", p.status("east"))
	}
}
