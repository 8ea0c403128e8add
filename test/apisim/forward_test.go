package apisim_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/test/apisim"
)

// TestIstiodReadsItsPeers: a played istiod says that it reads those whose remote
// secrets it has, in the way that the reconciler asks a real one.
func TestIstiodReadsItsPeers(t *testing.T) {
	t.Parallel()
	simulator, err := apisim.New()
	if err != nil {
		t.Fatal(err)
	}
	defer simulator.Close()
	const namespace = "istios"
	kubeconfig, err := simulator.AddMember("west",
		object("Pod", namespace, "istiod-0", map[string]string{"app": "istiod"}),
		object("Secret", namespace, "istio-remote-secret-east", map[string]string{"istio/multiCluster": "true"}),
		object("Secret", namespace, "istio-remote-secret-north", nil),
		object("Secret", "elsewhere", "istio-remote-secret-south", map[string]string{"istio/multiCluster": "true"}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := member.Config(kubeconfig, member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := member.Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got, err := istiod.Clusters(context.Background(), m, namespace)
	if err != nil {
		t.Fatal(err)
	}
	want := []istiod.Replica{{Pod: "istiod-0", Clusters: []istiod.Cluster{
		{ID: "own", SyncStatus: istiod.Synced}, {ID: "east", SecretName: namespace + "/istio-remote-secret-east", SyncStatus: istiod.Synced},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("it reads (-want +got):\n%s", diff)
	}
	conn, err := m.DialPod(context.Background(), namespace, "istiod-0", 15012)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("another port: %v", err)
	}
	if counts := simulator.Counts(); counts.Forwards != 2 || counts.Writes != 0 {
		t.Errorf("counted %+v", counts)
	}
}

func object(kind, namespace, name string, labels map[string]string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind}}
	o.SetNamespace(namespace)
	o.SetName(name)
	o.SetLabels(labels)
	return o
}
