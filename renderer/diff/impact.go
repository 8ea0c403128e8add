package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// Impact counts whom a change concerns.
type Impact struct {
	// Members that something happens on, of how many on either side.
	Members []string `json:"members"`
	Of      int      `json:"of"`
	// Disrupted are the members on which something restarts, traffic can break, or
	// something is taken away.
	Disrupted []string `json:"disrupted"`
	// Rings with members that something happens on, in the order of their network's
	// rollout.
	Rings []RingImpact `json:"rings,omitempty"`
	// Restarts are what is replaced, on which members, in the order of delivery.
	Restarts []Restart `json:"restarts,omitempty"`
	// Objects counts changes of objects over all members, those that join or leave
	// included.
	Objects map[Action]int `json:"objects"`
	// Windows are the maintenance windows of members on which something happens.
	Windows []WindowImpact `json:"windows,omitempty"`
}

// RingImpact is a ring with members that something happens on.
type RingImpact struct {
	Network string `json:"network"`
	Name    string `json:"name"`
	Members int    `json:"members"`
	Of      int    `json:"of"`
}

// Restart is a workload of the mesh whose pods are replaced.
type Restart struct {
	Component bundle.Component `json:"component"`
	Kind      string           `json:"kind"`
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	Members   []string         `json:"members"`
	// Nodes that a DaemonSet restarts on, see [Report.OnNodes].
	Nodes int `json:"nodes,omitempty"`
}

// WindowImpact are the maintenance windows of members, as the fleet says them.
type WindowImpact struct {
	Windows string `json:"windows"`
	// Ignored says that isthmus does not hold to windows yet.
	Ignored bool     `json:"ignored,omitempty"`
	Members []string `json:"members"`
}

func (s *scene) impact(effects []Effect) Impact {
	touched, disrupted := map[string]bool{}, map[string]bool{}
	for _, e := range effects {
		for _, name := range e.Members {
			if e.Risk.AtLeast(RiskLow) {
				touched[name] = true
			}
			if e.Risk.AtLeast(RiskMedium) {
				disrupted[name] = true
			}
		}
	}
	for name, changes := range s.changes {
		if len(changes) > 0 {
			touched[name] = true
		}
	}
	out := Impact{
		Members: sorted(touched), Of: len(s.names) - len(s.heirs), Disrupted: sorted(disrupted),
		Objects: s.objectCounts(),
	}
	out.Rings = s.rings(touched)
	out.Restarts = s.restarts()
	out.Windows = s.windows(out.Members)
	return out
}

func sorted(names map[string]bool) []string {
	return append([]string{}, slices.Sorted(maps.Keys(names))...)
}

func (s *scene) objectCounts() map[Action]int {
	out := map[Action]int{}
	for _, changes := range s.changes {
		for _, c := range changes {
			out[c.action]++
		}
	}
	inherits := map[string]bool{}
	for _, heir := range s.heirs {
		inherits[heir] = true
	}
	s.joins(func(name string, after view) {
		if !inherits[name] {
			out[Create] += len(after.bundle.Objects)
		}
	})
	s.leaves(func(name string, before view) {
		if s.heirs[name] != "" || before.member.Spec.Leave == v1alpha1.LeaveOrphan {
			return
		}
		for _, o := range before.bundle.Objects {
			out[removal(o.Object)]++
		}
	})
	return out
}

// rings of the side on which a member is, the new one first.
func (s *scene) rings(touched map[string]bool) []RingImpact {
	at := map[[2]string]*RingImpact{}
	for _, name := range s.names {
		v, is := s.after[name]
		if !is {
			v = s.before[name]
		}
		if len(v.network.Spec.Rollout.Rings) == 0 {
			continue
		}
		key := [2]string{v.network.Name, v.network.RingOf(v.member)}
		if at[key] == nil {
			at[key] = &RingImpact{Network: key[0], Name: key[1]}
		}
		at[key].Of++
		if touched[name] {
			at[key].Members++
		}
	}
	var out []RingImpact
	for _, r := range at {
		if r.Members > 0 {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b RingImpact) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(s.ringRank(a), s.ringRank(b)))
	})
	return out
}

// ringRank is the place of a ring in its network's rollout.
func (s *scene) ringRank(r RingImpact) int {
	n := cmp.Or(s.head.Fleet.Network(r.Network), s.base.Fleet.Network(r.Network))
	return slices.IndexFunc(n.Spec.Rollout.Rings, func(ring v1alpha1.Ring) bool { return ring.Name == r.Name })
}

func (s *scene) restarts() []Restart {
	var out []Restart
	at := map[bundle.Identity]int{}
	s.each(func(name string, _, _ view) {
		for _, c := range s.changes[name] {
			if !c.restarts {
				continue
			}
			id := bundle.IdentityOf(c.object())
			i, known := at[id]
			if !known {
				i = len(out)
				at[id] = i
				out = append(out, Restart{Component: c.component(), Kind: c.object().GetKind(), Namespace: id.Namespace, Name: id.Name})
			}
			out[i].Members = append(out[i].Members, name)
		}
	})
	return out
}

// OnNodes counts the nodes on which DaemonSets restart, by what is known of members' nodes.
func (r *Report) OnNodes(nodes map[string]int) {
	for i := range r.Impact.Restarts {
		restart := &r.Impact.Restarts[i]
		for _, name := range restart.Members {
			if restart.Kind == "DaemonSet" {
				restart.Nodes += nodes[name]
			}
		}
	}
}

func (s *scene) windows(touched []string) []WindowImpact {
	var out []WindowImpact
	at := map[string]int{}
	_, ignored := fleet.NotYetActedOn(v1alpha1.MemberKind)["spec.maintenanceWindows"]
	for _, name := range touched {
		after, is := s.after[name]
		if !is || len(after.member.Spec.MaintenanceWindows) == 0 {
			continue
		}
		var parts []string
		for _, w := range after.member.Spec.MaintenanceWindows {
			parts = append(parts, saidWindow(w))
		}
		text := strings.Join(parts, "; ")
		i, known := at[text]
		if !known {
			i = len(out)
			at[text] = i
			out = append(out, WindowImpact{Windows: text, Ignored: ignored})
		}
		out[i].Members = append(out[i].Members, name)
	}
	return out
}

// saidWindow is "Sat, Sun 02:00 for 4h Europe/Berlin".
func saidWindow(w v1alpha1.MaintenanceWindow) string {
	days := make([]string, len(w.Days))
	for i, d := range w.Days {
		days[i] = string(d)
	}
	duration := strings.TrimSuffix(strings.TrimSuffix(w.Duration.Duration.String(), "0s"), "0m")
	return fmt.Sprintf("%s %s for %s %s", strings.Join(days, ", "), w.Start, duration, w.Timezone)
}
