package istiod

import (
	"context"
	"encoding/json"

	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// The states of a cluster that an istiod reads.
const (
	// Synced: istiod has read it, and sees what changes.
	Synced = "synced"
	// Syncing: it has not read it yet, or tries to.
	Syncing = "syncing"
	// TimedOut: it gave up waiting, and serves without; it goes on trying.
	TimedOut = "timeout"
	// Closed: it does not read it any more.
	Closed = "closed"
)

// Cluster is one that an istiod reads.
type Cluster struct {
	// ID of the cluster: the name of the member.
	ID string `json:"id"`
	// SecretName is the credential's Secret as namespace/name; empty for istiod's own
	// cluster.
	SecretName string `json:"secretName"`
	// SyncStatus is one of the states, or one that a newer release has.
	SyncStatus string `json:"syncStatus"`
}

// Replica is what one istiod answered.
type Replica struct {
	Pod string
	// Clusters that it reads, its own first. The others come in any order.
	Clusters []Cluster
	// Err is why it did not answer.
	Err error
}

// Clusters asks each of a member's istiods which clusters it reads. Replicas are
// sorted by pod; there are none where no istiod runs. An error means that the
// member's API failed; what one istiod did not answer is in its Replica.
func Clusters(ctx context.Context, m *member.Member, namespace string) ([]Replica, error) {
	pods, err := Pods(ctx, m, namespace)
	if err != nil {
		return nil, err
	}
	out := make([]Replica, len(pods))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, pod := range pods {
		group.Go(func() error {
			out[i] = clustersOf(ctx, replicaOf(m, namespace, pod))
			return nil
		})
	}
	_ = group.Wait() // nobody returns one
	return out, ctx.Err()
}

func clustersOf(ctx context.Context, r replica) Replica {
	out := Replica{Pod: r.pod}
	out.Err = r.ask(ctx, "/debug/clusterz", func(answer *json.Decoder) error { return answer.Decode(&out.Clusters) })
	return out
}
