package peering

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Seen is what is known of one member of a network.
type Seen struct {
	Name   string
	Labels map[string]string
	// Announced: its istiod served and its gateway had an address, once.
	Announced bool
	// Leaving: it is being taken out of the mesh.
	Leaving bool
}

// Want is a peer that a member is to read.
type Want struct {
	Name string
	// Ready says that a credential is to be made for it; else Why says why not yet.
	Ready bool
	Why   string
}

// NotAnnounced is why a peer is not ready whose istiod or gateway has never been.
const NotAnnounced = "NotAnnounced"

// Relation says which members of a network read which.
type Relation struct {
	none    bool
	entries []entry
}

type entry struct{ readers, peers labels.Selector }

// RelationOf a network. A selector that does not parse, which a fleet's rules
// refuse, selects nothing.
func RelationOf(d *v1alpha1.Discovery) Relation {
	if d == nil {
		return Relation{}
	}
	r := Relation{none: d.Mode != "" && d.Mode != v1alpha1.DiscoveryRemoteCredentials}
	for _, p := range d.Peers {
		e := entry{readers: selectorOf(p.Selector), peers: selectorOf(p.Selector)}
		if p.Discovers != nil {
			e.peers = selectorOf(p.Discovers)
		}
		r.entries = append(r.entries, e)
	}
	return r
}

// selectorOf selects everything by nil.
func selectorOf(s *metav1.LabelSelector) labels.Selector {
	if s == nil {
		return labels.Everything()
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

// Reads tells whether a member is to read another. A member that leaves is not read
// any more; it reads until it is gone, since its workloads may still need others.
func (r Relation) Reads(reader, peer Seen) bool {
	if r.none || reader.Name == peer.Name || peer.Leaving {
		return false
	}
	return len(r.entries) == 0 || slices.ContainsFunc(r.entries, func(e entry) bool {
		return e.readers.Matches(labels.Set(reader.Labels)) && e.peers.Matches(labels.Set(peer.Labels))
	})
}

// Peers that a member is to read, sorted by name. Members may include itself.
func (r Relation) Peers(reader Seen, members []Seen) []Want {
	var out []Want
	for _, peer := range members {
		if !r.Reads(reader, peer) {
			continue
		}
		want := Want{Name: peer.Name, Ready: peer.Announced}
		if !want.Ready {
			want.Why = NotAnnounced
		}
		out = append(out, want)
	}
	slices.SortFunc(out, func(a, b Want) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Readers of a member, sorted by name.
func (r Relation) Readers(peer Seen, members []Seen) []string {
	var out []string
	for _, reader := range members {
		if r.Reads(reader, peer) {
			out = append(out, reader.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Peers that a member of a network is to read, as [Relation.Peers] has them.
func Peers(d *v1alpha1.Discovery, reader Seen, members []Seen) []Want {
	return RelationOf(d).Peers(reader, members)
}
