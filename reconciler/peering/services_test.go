package peering

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// joined are two members on two networks, of which east has a service that west
// discovers, and whoever reads it.
func joined() (east, west Member) {
	synced := func(peer string) []v1alpha1.PeerStatus {
		return []v1alpha1.PeerStatus{{Name: peer, State: v1alpha1.PeerSynced}}
	}
	keeps := func() map[string][]string { return map[string][]string{"shop": nil, "kube-system": {"kube-dns"}} }
	cart := Exported{Namespace: "shop", Name: "cart", Ports: []Port{{80, 8080}}, Ready: 3}
	east = Member{Name: "east", Peers: synced("west"), View: &View{
		Exports: Exports{Network: "net-e", Gateways: []string{"10.1.0.1"}, Services: []Exported{cart}}, Keeps: keeps(),
	}}
	west = Member{Name: "west", Peers: synced("east"), View: &View{
		Exports: Exports{Network: "net-w", Gateways: []string{"10.2.0.1"}}, Keeps: keeps(),
		Sees: []Remote{{Network: "net-e", Member: "east", Gateway: "10.1.0.1:15008", Services: map[string]uint32{"shop/cart": 3}}},
	}}
	return east, west
}

// TestServices: what may be wrong, each alone.
func TestServices(t *testing.T) {
	also := func(e, w *Member, change func(*Exported)) {
		cart := e.View.Exports.Services[0]
		change(&cart)
		w.View.Exports.Services = append(w.View.Exports.Services, cart)
		e.View.Sees = []Remote{{Network: "net-w", Member: "west", Gateway: "10.2.0.1:15008", Services: map[string]uint32{"shop/cart": 3}}}
	}
	cart := func(m *Member) *Exported { return &m.View.Exports.Services[0] }
	for _, tt := range []struct {
		reason string
		change func(e, w *Member)
		// path from west to east: the reason, or the number of endpoints.
		path string
		// problems as member/reason, and what one of them says.
		problems []string
		says     string
	}{
		{"all is well", func(*Member, *Member) {}, "3", nil, ""},
		{"both have it", func(e, w *Member) { also(e, w, func(*Exported) {}) }, "3", nil, ""},
		{"a local Service wins", func(_, w *Member) {
			w.View.Keeps["shop"] = []string{"cart"}
			w.View.Sees = nil
		}, NotGlobalEverywhere, []string{"west/NotGlobalEverywhere"}, "not that of east: give it the label istio.io/global=true, or name it in discovery.exports"},
		{"other ports", func(e, w *Member) { also(e, w, func(c *Exported) { c.Ports = []Port{{443, 8443}, {80, 0}} }) },
			"3", []string{"west/PortsDiffer"}, "its ports are 80, 443, and 80 on east"},
		{"the same ports in another order and to other targets", func(e, w *Member) {
			cart(e).Ports = []Port{{80, 8080}, {443, 8443}}
			also(e, w, func(c *Exported) { c.Ports = []Port{{443, 1}, {80, 2}} })
		}, "3", nil, ""},
		{"the namespace is missing", func(_, w *Member) { delete(w.View.Keeps, "shop") }, "3", []string{"west/NamespaceMissing"}, "no namespace shop, which east has: declare it under namespaces"},
		{"the namespace is missing where nobody wants it", func(_, w *Member) { delete(w.View.Keeps, "shop"); w.Peers, w.View.Sees = nil, nil }, NotDiscovered, nil, ""},
		{"a waypoint that is not global", func(e, _ *Member) {
			cart(e).Waypoint = "shop/waypoint"
			e.View.Keeps["shop"] = []string{"waypoint"}
		}, "3", []string{"east/WaypointNotGlobal"}, "its waypoint shop/waypoint is not discovered by others"},
		{"a waypoint that is", func(e, _ *Member) {
			cart(e).Waypoint = "shop/waypoint"
		}, "3", nil, ""},
		{"a waypoint is missing on one", func(e, w *Member) {
			also(e, w, func(*Exported) {})
			cart(e).Waypoint = "shop/waypoint"
		}, "3", []string{"west/WaypointMissing"}, "behind the waypoint shop/waypoint on east, and behind none here"},
		{"waypoints of two names", func(e, w *Member) {
			also(e, w, func(c *Exported) { c.Waypoint = "shop/other" })
			cart(e).Waypoint = "shop/waypoint"
		}, "3", []string{"west/WaypointMissing"}, "and behind shop/other here"},
		{"no gateway address", func(e, w *Member) { e.View.Exports.Gateways, w.View.Sees = nil, nil }, NoGateway, []string{"east/NoGateway"}, "see its Service of type LoadBalancer"},
		{"no gateway, on one network", func(e, w *Member) {
			e.View.Exports.Gateways, w.View.Exports.Network = nil, "net-e"
			w.View.Sees = []Remote{{Network: "net-e", Member: "east", Services: map[string]uint32{"shop/cart": 2}}}
		}, "2", nil, ""},
		{"not read", func(_, w *Member) {
			w.View.Sees = nil
			w.Peers[0] = v1alpha1.PeerStatus{Name: "east", State: v1alpha1.PeerFailed, Reason: "Unreachable"}
		}, NotSynced, []string{"west/NotSynced"}, "istiod has not read east, so that its endpoints are not served here: isthmus peers says why"},
		{"not read any more, and still served", func(_, w *Member) { w.Peers[0].State = v1alpha1.PeerSyncing }, "3", nil, ""},
		{"not to be read", func(_, w *Member) { w.View.Sees, w.Peers = nil, nil }, NotDiscovered, nil, ""},
		{"not to be read by isthmus, and read", func(_, w *Member) { w.Peers = nil }, "3", nil, ""},
		{"no endpoint is ready", func(e, w *Member) { cart(e).Ready, cart(e).Unready, w.View.Sees = 0, 3, nil },
			NoEndpoints, []string{"east/NoEndpoints"}, "no endpoint is ready on any member"},
		{"none is ready there, but here", func(e, w *Member) { also(e, w, func(*Exported) {}); cart(e).Ready, w.View.Sees = 0, nil }, NoEndpoints, nil, ""},
		{"read and not served", func(_, w *Member) { w.View.Sees = nil }, NotServed, []string{"west/NotServed"}, "istiod has read east and does not serve its endpoints"},
		{"nothing is known of the one that reads", func(_, w *Member) { w.View = nil }, NotAsked, nil, ""},
	} {
		east, west := joined()
		tt.change(&east, &west)
		network := Join([]Member{west, east})
		services := network.Services()
		if len(services) != 1 || services[0].Name != "shop/cart" || len(services[0].Members) != 2 || services[0].Members[1].Member != "west" {
			t.Errorf("%s: services %+v", tt.reason, services)
			continue
		}
		got := "none"
		for _, p := range services[0].Members[1].From {
			got = fmt.Sprint(p.Endpoints)
			if p.Reason != "" {
				got = p.Reason
			}
			if (p.Reason == "") != (p.Message == "") || p.Member != "east" {
				t.Errorf("%s: path %+v", tt.reason, p)
			}
		}
		if got != tt.path {
			t.Errorf("%s: from west to east %s, want %s", tt.reason, got, tt.path)
		}
		var problems, says []string
		for _, p := range services[0].Problems {
			problems, says = append(problems, p.Member+"/"+p.Reason), append(says, p.Message)
		}
		if !slices.Equal(problems, tt.problems) || !strings.Contains(strings.Join(says, "\n"), tt.says) {
			t.Errorf("%s: problems %q %q, want %q %q", tt.reason, problems, says, tt.problems, tt.says)
		}
		if diff := cmp.Diff(services[0].Problems, slices.Concat(network.Problems("east"), network.Problems("west"))); diff != "" {
			t.Errorf("%s: the members' problems (-service +members):\n%s", tt.reason, diff)
		}
	}
}

// TestManyMembers: messages have a bound, what most have is right, and two members of
// one network count once.
func TestManyMembers(t *testing.T) {
	east, _ := joined()
	members := []Member{}
	for i := range 12 {
		m := Member{Name: fmt.Sprintf("%s-%02d", strings.Repeat("m", 200), i), View: &View{Exports: Exports{Network: fmt.Sprint("net-", i), Gateways: []string{"10.0.0.1"}}, Keeps: map[string][]string{"shop": nil}}}
		service := east.View.Exports.Services[0]
		if i == 7 {
			service.Ports = []Port{{81, 0}}
		}
		m.View.Exports.Services = []Exported{service}
		members = append(members, m)
	}
	problems := Join(members).Problems(members[7].Name)
	if len(problems) != 1 || problems[0].Reason != PortsDiffer || len(problems[0].Message) > 512 || !strings.HasPrefix(problems[0].Message, "its ports are 81, and 80 on m") {
		t.Errorf("problems %+v", problems)
	}
	if got, want := listed([]string{"a", "b", "c", "d", "e", "f"}), "a, b, c, d and 2 more"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
