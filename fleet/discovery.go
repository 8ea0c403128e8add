package fleet

import "github.com/isthmus-mesh/isthmus/fleet/v1alpha1"

// Discovery says which members of a network discover which.
type Discovery struct {
	relation relation
	// names of the members, sorted, and the place of each.
	names []string
	place map[string]int
}

// Discovery returns who discovers whom in a network. In one that does not exist, or
// whose selectors do not parse, which a rule refuses, nobody does.
func (f *Fleet) Discovery(network string) Discovery {
	n := f.Network(network)
	if n == nil || n.Spec.Discovery.Mode != v1alpha1.DiscoveryRemoteCredentials {
		return Discovery{}
	}
	d := Discovery{place: map[string]int{}}
	var labels []map[string]string
	for _, member := range f.MembersOf(network) {
		d.place[member.Name] = len(d.names)
		d.names = append(d.names, member.Name)
		labels = append(labels, member.Labels)
	}
	var err error
	if d.relation, err = relationOf(n.Spec.Discovery.Peers, labels); err != nil {
		return Discovery{}
	}
	return d
}

// Discovers tells whether a member discovers another one.
func (d Discovery) Discovers(reader, peer string) bool {
	r, knownReader := d.place[reader]
	p, knownPeer := d.place[peer]
	return knownReader && knownPeer && r != p && d.relation.readers[r]&d.relation.peers[p] != 0
}

// Readers returns the names of the members that discover one, sorted.
func (d Discovery) Readers(peer string) []string {
	var out []string
	for _, name := range d.names {
		if d.Discovers(name, peer) {
			out = append(out, name)
		}
	}
	return out
}
