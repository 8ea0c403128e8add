package reconciler

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// identityAge is how long a cluster is believed to be the one that it said it is.
// Only another server at the same address could make it another without new
// credentials, and that breaks the watches and the calls under way.
const identityAge = time.Minute

// doubtTimeout of the question to a cluster whose watches have ended: what does not
// answer then either is away, and its peers are not to wait for longer to hear of it.
const doubtTimeout = 10 * time.Second

// identity is what a cluster says of itself.
type identity struct {
	uid        types.UID
	kubernetes string
	read       time.Time // zero: not yet, or in doubt
}

// identify returns what the cluster says of itself. What it said within age is
// believed, unless a call has failed since; else it is asked, which also tells
// whether it is there.
func (c *connection) identify(ctx context.Context, now time.Time, age time.Duration) (identity, error) {
	c.mu.Lock()
	known, doubted := c.identity, c.doubted
	c.doubted = false
	c.mu.Unlock()
	if !known.read.IsZero() && now.Sub(known.read) < age {
		return known, nil
	}
	if doubted {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, doubtTimeout)
		defer cancel()
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

// doubt has the cluster asked at its next turn whether it is there.
func (c *connection) doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity, c.doubted = identity{}, true
}

// credible is how long the cluster is believed for what is to be done with a
// bundle. A correction must not wait for answers that were there a moment ago. And a
// member that has the bundle already is watched and not written to, so that a commit
// which changes a few members asks nothing of all the others.
func (c *connection) credible(digest string, fullCompare time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.drifted) > 0:
		return identityAge
	case c.stopWatch != nil && strings.HasPrefix(c.done, digest+"/"):
		return fullCompare
	}
	return 0
}
