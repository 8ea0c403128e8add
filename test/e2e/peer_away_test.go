package e2e

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestPeerAway stops the API server of a member that another one's istiod has read. That
// one says so, though its istiod does not, in a status that is written once; what it
// knew of the member stays; and it says that all is well when the API server is back.
func TestPeerAway(t *testing.T) {
	t.Parallel()
	p := newPeers(t, map[string]string{east: oneRelease, west: oneRelease})
	check(t, install(t.Context(), p.clients[east], "cart", global, 2))
	two := reaches(hostname("cart"), p.behind(t, 2))
	p.wait(t, west, two)

	stopped := time.Now()
	p.rig.Members[east].StopAPIServer()
	check(t, p.rig.WaitMember(t.Context(), west, time.Minute, "PeersReady", metav1.ConditionFalse, "PeerUnreachable"))
	t.Logf("%s says after %s that %s is away: %s", west, time.Since(stopped).Round(100*time.Millisecond), east, p.says(t, west))
	check(t, p.rig.WaitMember(t.Context(), west, time.Minute, "Ready", metav1.ConditionTrue, "Applied"))
	p.wait(t, west, two)
	before, err := p.rig.Member(t.Context(), west)
	check(t, err)
	time.Sleep(10 * time.Second)
	after, err := p.rig.Member(t.Context(), west)
	check(t, err)
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("%s was written again while nothing changed: %s", west, p.says(t, west))
	}

	started := time.Now()
	check(t, p.rig.Members[east].StartAPIServer(t.Context()))
	p.allFound(t, 2*time.Minute)
	t.Logf("%s after the start of %s's API server: %s", time.Since(started).Round(100*time.Millisecond), east, p.says(t, west))
	check(t, scale(t.Context(), p.clients[east], "cart", 1))
	p.wait(t, west, reaches(hostname("cart"), p.behind(t, 1)))
}

// says is the condition of a member about its peers.
func (p *peers) says(t *testing.T, name string) string {
	t.Helper()
	m, err := p.rig.Member(t.Context(), name)
	check(t, err)
	return rig.Condition(m.Status.Conditions, "PeersReady")
}
