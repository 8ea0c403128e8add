package reconciler

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// TestMemberThatGoesAwayIsLookedAt: a member of which nothing is to be done is looked at
// soon after its API server has stopped, and again when that is back, by its watches.
func TestMemberThatGoesAwayIsLookedAt(t *testing.T) {
	t.Parallel()
	cluster := controlplanetest.Cluster(t, controlplanetest.Start(t, controlplane.Options{}), "east", controlplane.ClusterOptions{APIServerOnly: true})
	w := newPeerWorld(t, map[string]*aPeer{"east": newPeer(t)})
	wake := make(chan event.GenericEvent, 100)
	w.hub.kubeconfigs, w.r.connections.wake = map[string][]byte{"east": cluster.Kubeconfig()}, wake
	c, err := w.r.peer(t.Context(), w.peer("east"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	home := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": peerMesh.SystemNamespace, "labels": map[string]any{apply.LabelNetwork: peerMesh.Network, apply.LabelComponent: "base"}}}}
	set := apply.Set{Mesh: peerMesh, Release: "1.31.0", Commit: "1", Digest: "1", Objects: []bundle.Object{{Stage: bundle.StageFoundation, Object: home}}}
	if _, err := apply.Apply(t.Context(), c.target, set, apply.Options{}); err != nil {
		t.Fatal(err)
	}
	c.done = "1/"
	w.r.connections.watch(c)
	looks := func() (string, error) {
		is, err := c.identify(t.Context(), time.Now(), c.credible("1", time.Hour))
		return string(is.uid), err
	}
	if uid, err := looks(); uid != cluster.KubeSystemUID || err != nil {
		t.Fatalf("cluster %s: %v", uid, err)
	}
	soonWoken := func(why string) {
		t.Helper()
		select {
		case e := <-wake:
			if e.Object.GetName() != "east" {
				t.Fatalf("%s wakes %s", why, e.Object.GetName())
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s is not noticed", why)
		}
	}
	cluster.StopAPIServer()
	soonWoken("an API server that stops")
	if _, err := looks(); member.ReasonOf(err) != member.Unreachable {
		t.Errorf("asked again: %v", err)
	}
	if err := cluster.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	soonWoken("one that is back")
	if uid, err := looks(); uid != cluster.KubeSystemUID || err != nil {
		t.Errorf("cluster %s: %v", uid, err)
	}
}
