package fleet

import "github.com/isthmus-mesh/isthmus/fleet/v1alpha1"

// Fleet is everything one Git repository says, with defaults filled in.
type Fleet struct {
	// Networks sorted by name.
	Networks []*v1alpha1.ApplicationNetwork
	// Members sorted by name; names are unique in the fleet.
	Members []*v1alpha1.Member

	positions positions
	// manifests by network.
	manifests map[string][]*Manifest
}

// Network returns the network with the given name, or nil.
func (f *Fleet) Network(name string) *v1alpha1.ApplicationNetwork {
	for _, network := range f.Networks {
		if network.Name == name {
			return network
		}
	}
	return nil
}

// Member returns the member with the given name, or nil.
func (f *Fleet) Member(name string) *v1alpha1.Member {
	for _, member := range f.Members {
		if member.Name == name {
			return member
		}
	}
	return nil
}

// MembersOf returns the members of the network with the given name, sorted by
// member name.
func (f *Fleet) MembersOf(network string) []*v1alpha1.Member {
	var out []*v1alpha1.Member
	for _, member := range f.Members {
		if member.Spec.ApplicationNetwork == network {
			out = append(out, member)
		}
	}
	return out
}
