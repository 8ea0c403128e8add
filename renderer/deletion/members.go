package deletion

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// defaultMembers is how many members a commit may remove from a network that it removes
// too, and that can therefore say nothing about it.
const defaultMembers = 1

// Removal is what a commit removes from one network, and may not: an empty folder, a fleet
// at another path and a lost file look like that.
type Removal struct {
	Network string
	// Members that it removes and that are not named as meant, sorted; Limit of them
	// would pass, unless they are the network's last ones.
	Members []string
	Limit   int
	Last    bool
}

// Removals returns those that may not pass, sorted by network. Current has the network of
// each member that there is; stays says which of them are to be, and inhabited which
// networks have members then. A member counts as removed when its name goes, also one that
// is only renamed: whether its cluster stays is found out later. Guards by network; a
// network without one goes, too.
func Removals(current map[string]string, stays, inhabited func(name string) bool, guards map[string]v1alpha1.DeletionGuard) []Removal {
	removed := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(current)) {
		if network := current[name]; !stays(name) && !slices.Contains(guards[network].Allow, name) {
			removed[network] = append(removed[network], name)
		}
	}
	var out []Removal
	for _, network := range slices.Sorted(maps.Keys(removed)) {
		r := Removal{Network: network, Members: removed[network], Limit: defaultMembers, Last: !inhabited(network)}
		if limit := guards[network].Members; limit != nil {
			r.Limit = int(*limit)
		}
		if r.Last || len(r.Members) > r.Limit {
			out = append(out, r)
		}
	}
	return out
}
