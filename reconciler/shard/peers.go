package shard

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// peers is what this replica has seen of all Leases, its own included.
type peers struct {
	duration time.Duration
	seen     map[string]sight // by Lease name
}

// sight is a Lease as it was last seen to change.
type sight struct {
	lease *coordinationv1.Lease
	// at is when the list that first had it so, or no more, was received.
	at   time.Time
	gone bool
}

func newPeers(duration time.Duration) *peers {
	return &peers{duration: duration, seen: map[string]sight{}}
}

// observe takes a list that was received at a time. A Lease that is gone without
// having been released counts on for a while: its holder may not know yet.
func (p *peers) observe(leases []coordinationv1.Lease, received time.Time) {
	listed := map[string]bool{}
	for i := range leases {
		lease := &leases[i]
		listed[lease.Name] = true
		old, ok := p.seen[lease.Name]
		if ok && !old.gone && old.lease.UID == lease.UID && old.lease.ResourceVersion == lease.ResourceVersion {
			continue
		}
		p.seen[lease.Name] = sight{lease: lease, at: received}
	}
	for name, s := range p.seen {
		switch {
		case listed[name]:
		case !s.gone:
			p.seen[name] = sight{lease: s.lease, at: received, gone: true}
		case received.Sub(s.at) >= p.duration:
			delete(p.seen, name)
		}
	}
}

// keep is for how many durations an unchanged Lease is left alone.
const keep = 4

// live are the replicas whose Leases did not expire before a list was asked for
// that had them unchanged: their holders stopped long before that.
func (p *peers) live(asked time.Time) []string {
	var out []string
	for name, s := range p.seen {
		if !released(s.lease) && asked.Sub(s.at) < p.duration {
			out = append(out, name)
		}
	}
	return out
}

// left are the Leases that nobody holds any more and has not for a while.
func (p *peers) left(asked time.Time) []*coordinationv1.Lease {
	var out []*coordinationv1.Lease
	for _, s := range p.seen {
		if !s.gone && asked.Sub(s.at) >= keep*p.duration {
			out = append(out, s.lease)
		}
	}
	return out
}

// agreed says whether every replica of the view has published it.
func (p *peers) agreed(v view) bool {
	for _, name := range v {
		if s, ok := p.seen[name]; !ok || s.gone || s.lease.Annotations[viewAnnotation] != v.hash() {
			return false
		}
	}
	return true
}

// stranger is a live replica that does not share what all have to share; empty
// for none.
func (p *peers) stranger(v view, shared string) string {
	for _, name := range v {
		if s, ok := p.seen[name]; ok && s.lease.Annotations[sharedAnnotation] != shared {
			return name
		}
	}
	return ""
}

func released(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == ""
}
