package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

const (
	// maxMatrix members are shown as a matrix, if it is not wider than maxWidth.
	maxMatrix, maxWidth = 12, 100
	// peerUnknown is the state of a pair of which the hub knows nothing.
	peerUnknown = v1alpha1.PeerState("Unknown")
)

func newPeers(p *printer) *cobra.Command {
	var opts discoveryOptions
	var asList bool
	cmd := &cobra.Command{
		Use:   "peers [NETWORK]",
		Short: "Print which members discover which, and whether their credentials work",
		Long: `Print for each member which others it is to discover, and how far that is: a matrix
of a small network, with the member that discovers at the left; else a list, with when
credentials were issued and expire. What is wrong is on stderr. The hub is asked, and
no member. Exits with 1 unless every istiod has read all peers that it is to read.`,
		Example: "  isthmus peers\n  isthmus peers prod --list\n  isthmus peers --member east -o json",
	}
	discoveryCommand(cmd, &opts, func(ctx context.Context) error { return peers(ctx, p, opts, asList) })
	cmd.Flags().BoolVar(&asList, "list", false, "print a list, whatever the number of members")
	return cmd
}

func peers(ctx context.Context, p *printer, opts discoveryOptions, asList bool) error {
	hub, err := opts.hub.connect()
	if err != nil {
		return err
	}
	networks, members, err := opts.read(ctx, hub)
	if err != nil {
		return err
	}
	report := newPeersReport(networks, members, opts.member)
	if opts.format == formatJSON {
		if err := p.json(report); err != nil {
			return err
		}
	} else {
		report.print(p, opts, asList || opts.member != "")
	}
	if !report.fine() {
		return errProblems
	}
	return nil
}

// peersReport is the JSON form of who discovers whom.
type peersReport struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Networks   []networkPeersReport `json:"networks"`
}

type networkPeersReport struct {
	Name    string       `json:"name"`
	Members []string     `json:"members"`
	Pairs   []pairReport `json:"pairs"`
}

// pairReport is one ordered pair: the reader discovers the peer.
type pairReport struct {
	Reader string `json:"reader"`
	Peer   string `json:"peer"`
	v1alpha1.PeerStatus
}

func newPeersReport(networks []v1alpha1.ApplicationNetwork, members []v1alpha1.Member, only string) *peersReport {
	report := &peersReport{APIVersion: v1alpha1.GroupVersion.String(), Kind: "PeersReport", Networks: []networkPeersReport{}}
	for _, n := range networks {
		network := networkPeersReport{Name: n.Name, Members: []string{}, Pairs: []pairReport{}}
		var all []peering.Seen
		for _, m := range members {
			if m.Spec.ApplicationNetwork == n.Name {
				network.Members = append(network.Members, m.Name)
				all = append(all, peering.Seen{Name: m.Name, Labels: m.Labels, Announced: m.Status.Discovery.IsAnnounced()})
			}
		}
		relation := peering.RelationOf(&n.Spec.Discovery)
		for i := range members {
			m := &members[i]
			at := slices.IndexFunc(all, func(s peering.Seen) bool { return s.Name == m.Name })
			if at < 0 {
				continue
			}
			for _, pair := range pairsOf(m, relation.Peers(all[at], all)) {
				if only == "" || pair.Reader == only || pair.Peer == only {
					network.Pairs = append(network.Pairs, pair)
				}
			}
		}
		report.Networks = append(report.Networks, network)
	}
	return report
}

// pairsOf are those in the member's status, and those of which it does not know yet,
// sorted by peer.
func pairsOf(m *v1alpha1.Member, wanted []peering.Want) []pairReport {
	var out []pairReport
	told := map[string]bool{}
	for _, peer := range m.Status.Discovery.GetPeers() {
		told[peer.Name] = true
		out = append(out, pairReport{Reader: m.Name, Peer: peer.Name, PeerStatus: peer})
	}
	for _, want := range wanted {
		if !told[want.Name] {
			out = append(out, pairReport{Reader: m.Name, Peer: want.Name, PeerStatus: v1alpha1.PeerStatus{
				Name: want.Name, State: peerUnknown, Message: "not looked at yet",
			}})
		}
	}
	slices.SortFunc(out, func(a, b pairReport) int { return strings.Compare(a.Peer, b.Peer) })
	return out
}

func (r *peersReport) fine() bool {
	return !slices.ContainsFunc(r.Networks, func(n networkPeersReport) bool {
		return slices.ContainsFunc(n.Pairs, func(p pairReport) bool { return p.State != v1alpha1.PeerSynced })
	})
}

func (r *peersReport) print(p *printer, opts discoveryOptions, asList bool) {
	if len(r.Networks) == 0 {
		p.note("no networks in namespace %s of the hub", opts.hub.namespace)
	}
	for _, n := range r.Networks {
		matrix := n.matrix()
		switch {
		case len(n.Pairs) == 0:
			p.note("%s: no member is to discover another", n.Name)
		case !asList && len(n.Members) <= maxMatrix && width(matrix) <= maxWidth:
			p.table(matrix)
		default:
			p.table(n.list())
		}
		for _, pair := range n.Pairs {
			if pair.State != v1alpha1.PeerSynced {
				p.note("%s discovers %s: %s: %s", pair.Reader, pair.Peer, orDash(pair.Reason), orDash(pair.Message))
			}
		}
	}
}

// matrix has readers as rows and peers as columns.
func (n networkPeersReport) matrix() [][]string {
	state := map[[2]string]string{}
	for _, pair := range n.Pairs {
		state[[2]string{pair.Reader, pair.Peer}] = string(pair.State)
	}
	rows := [][]string{append([]string{strings.ToUpper(n.Name)}, n.Members...)}
	for _, reader := range n.Members {
		row := []string{reader}
		for _, peer := range n.Members {
			cell := orDash(state[[2]string{reader, peer}])
			if reader == peer {
				cell = "."
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}

// width of a table, in columns.
func width(rows [][]string) int {
	total := 0
	for column := range rows[0] {
		widest := 0
		for _, row := range rows {
			widest = max(widest, len(row[column]))
		}
		total += widest + 2
	}
	return total - 2
}

// list has a row for each pair.
func (n networkPeersReport) list() [][]string {
	rows := [][]string{{"NETWORK", "READER", "PEER", "STATE", "REASON", "ISSUED", "EXPIRES"}}
	for _, pair := range n.Pairs {
		issued, expires := "-", "-"
		if c := pair.Credential; c != nil {
			issued, expires = instant(&c.IssuedAt), instant(&c.ExpiresAt)
		}
		rows = append(rows, []string{n.Name, pair.Reader, pair.Peer, fmt.Sprint(pair.State), orDash(pair.Reason), issued, expires})
	}
	return rows
}
