package shard

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Owner is the replica that does a piece of work, by its name; empty without
// replicas. It depends on nothing else, so that replicas that agree on who is
// there agree on who does what. When one of n replicas comes or goes about one
// n-th of the work moves, to or from that one only.
func Owner(replicas []string, work string) string {
	var (
		owner string
		best  uint64
	)
	for _, replica := range replicas {
		score := weight(replica, work)
		if owner == "" || score > best || (score == best && replica < owner) {
			owner, best = replica, score
		}
	}
	return owner
}

// weight is FNV-1a over both names, finished as MurmurHash3 does: names differ
// in their last digits only, which FNV alone leaves in the low bits.
func weight(replica, work string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, part := range []string{replica, "\x00", work} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * prime
		}
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// view is the replicas that are there, sorted.
type view []string

func viewOf(replicas []string) view {
	slices.Sort(replicas)
	return slices.Compact(replicas)
}

// hash names a view in a Lease, whose annotations are small.
func (v view) hash() string {
	sum := sha256.Sum256([]byte(strings.Join(v, "\n")))
	return hex.EncodeToString(sum[:8])
}
