package reconciler

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// identityAge is how long a cluster is believed to be the one that it said it is.
// Only another server at the same address could make it another without new
// credentials, and that breaks the watches and the calls under way.
const identityAge = time.Minute

// identity is what a cluster says of itself.
type identity struct {
	uid        types.UID
	kubernetes string
	read       time.Time // zero: not yet, or in doubt
}

// identify returns what the cluster says of itself. With drift to correct, what it
// said within [identityAge] will do, unless a call has failed since: a correction
// must not wait for two answers that were there a moment ago. Otherwise it is asked,
// which also tells whether it is there.
func (c *connection) identify(ctx context.Context, now time.Time) (identity, error) {
	c.mu.Lock()
	known, drift := c.identity, len(c.drifted) > 0
	c.mu.Unlock()
	if drift && !known.read.IsZero() && now.Sub(known.read) < identityAge {
		return known, nil
	}
	fresh := identity{read: now}
	var err error
	if fresh.uid, err = c.member.ClusterUID(ctx); err != nil {
		return identity{}, err
	}
	if fresh.kubernetes, err = c.member.Kubernetes(); err != nil {
		return identity{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = fresh
	return fresh, nil
}
