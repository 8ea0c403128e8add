package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func newTrustShow(p *printer) *cobra.Command {
	return hubCommand(p, &cobra.Command{
		Use:   "show",
		Short: "Print the CAs of networks and members, and where replacements are",
		Long: `Print what the hub knows of CAs: for each network its roots, the step that the
replacement of its root is at and what that waits for, and for each member the CA
that it was given and whether its istiod is proven to use it. Exits with 1 if
something is not proven, or waits for a person.`,
		Example: "  isthmus trust show\n  isthmus trust show --context hub -o json",
	}, readTrust)
}

func readTrust(ctx context.Context, hub dynamic.Interface, namespace string) (hubAnswer, error) {
	networks, err := list[v1alpha1.ApplicationNetwork](ctx, hub, namespace, "applicationnetworks")
	if err != nil {
		return nil, err
	}
	members, err := list[v1alpha1.Member](ctx, hub, namespace, "members")
	if err != nil {
		return nil, err
	}
	return newTrustReport(networks, members), nil
}

// trustReport is the JSON form of what the hub knows of CAs.
type trustReport struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Networks   []networkTrustReport `json:"networks"`
}

type networkTrustReport struct {
	Name string `json:"name"`
	*v1alpha1.NetworkTrustStatus
	Members []memberTrustReport `json:"members"`
}

type memberTrustReport struct {
	Name string `json:"name"`
	// Ready, Reason and Message are those of the condition TrustReady.
	Ready   string `json:"ready"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	*v1alpha1.MemberTrustStatus
}

func newTrustReport(networks []v1alpha1.ApplicationNetwork, members []v1alpha1.Member) *trustReport {
	report := &trustReport{APIVersion: v1alpha1.GroupVersion.String(), Kind: "TrustReport", Networks: make([]networkTrustReport, 0, len(networks))}
	for _, n := range networks {
		network := networkTrustReport{Name: n.Name, NetworkTrustStatus: n.Status.Trust, Members: []memberTrustReport{}}
		for _, m := range members {
			if m.Spec.ApplicationNetwork != n.Name {
				continue
			}
			member := memberTrustReport{Name: m.Name, Ready: string(metav1.ConditionUnknown), MemberTrustStatus: m.Status.Trust}
			if c := meta.FindStatusCondition(m.Status.Conditions, "TrustReady"); c != nil {
				member.Ready, member.Reason, member.Message = string(c.Status), c.Reason, c.Message
			}
			network.Members = append(network.Members, member)
		}
		slices.SortFunc(network.Members, func(a, b memberTrustReport) int { return strings.Compare(a.Name, b.Name) })
		report.Networks = append(report.Networks, network)
	}
	slices.SortFunc(report.Networks, func(a, b networkTrustReport) int { return strings.Compare(a.Name, b.Name) })
	return report
}

// fine says that all is proven, and that nothing waits for a person.
func (r *trustReport) fine() bool {
	for _, n := range r.Networks {
		if n.NetworkTrustStatus != nil && slices.ContainsFunc(n.Blockers, func(b v1alpha1.TrustBlocker) bool { return b.Reason != "Waiting" && b.Reason != "Restart" }) {
			return false
		}
		if slices.ContainsFunc(n.Members, func(m memberTrustReport) bool { return m.Ready != string(metav1.ConditionTrue) }) {
			return false
		}
	}
	return true
}

func (r *trustReport) print(p *printer, namespace string) {
	if len(r.Networks) == 0 {
		p.note("no networks in namespace %s of the hub", namespace)
	}
	for _, n := range r.Networks {
		n.print(p)
	}
}

func (n networkTrustReport) print(p *printer) {
	if n.NetworkTrustStatus == nil {
		p.answer("%s: nothing is known of its root CA yet", n.Name)
		return
	}
	p.answer("%s: %s: %s", n.Name, n.Step, n.Why)
	if n.NextAt != nil {
		p.answer("  next step: %s", instant(n.NextAt))
	}
	for _, b := range n.Blockers {
		line := "  waits for " + b.Reason
		if b.Member != "" {
			line = "  waits for " + b.Member
		}
		if b.Until != nil {
			line += " until " + instant(b.Until)
		}
		p.answer("%s: %s", line, b.Message)
	}
	for _, m := range n.Members {
		m.printRestart(p)
	}
	rows := [][]string{{"CA", "STATE", "FINGERPRINT OR SERIAL", "EXPIRES"}}
	known := map[string]bool{}
	for _, root := range n.Roots {
		rows = append(rows, []string{fmt.Sprintf("root %d", root.Generation), root.State, short(root.Fingerprint), instant(&root.NotAfter)})
		known[root.Signer] = true
		for _, m := range n.Members {
			if m.signer() == root.Signer {
				rows = append(rows, m.row())
			}
		}
	}
	for _, m := range n.Members {
		if !known[m.signer()] {
			rows = append(rows, m.row())
		}
	}
	p.table(rows)
	for _, m := range n.Members {
		if m.Ready != string(metav1.ConditionTrue) && m.Message != "" {
			p.note("member %s: %s", m.Name, m.Message)
		}
	}
}

// printRestart tells of the last restart of the member's proxies that a rotation
// asked for, and of what one that is under way waits for.
func (m memberTrustReport) printRestart(p *printer) {
	if m.MemberTrustStatus == nil {
		return
	}
	if m.Restarting != "" {
		p.answer("  %s restarts its proxies: %s", m.Name, m.Restarting)
	}
	if m.RestartedAfter != nil {
		p.answer("  %s has proxies that started after %s", m.Name, instant(m.RestartedAfter))
	}
}

// signer is the root that signed the member's CA.
func (m memberTrustReport) signer() string {
	if m.MemberTrustStatus == nil || m.Issued == nil {
		return ""
	}
	return m.Issued.Signer
}

func (m memberTrustReport) row() []string {
	state := "unproven"
	if m.Ready == string(metav1.ConditionTrue) {
		state = "proven"
	}
	if m.signer() == "" {
		return []string{"  " + m.Name, "none", "-", "-"}
	}
	return []string{"  " + m.Name, state, m.Issued.Serial, instant(m.Issued.NotAfter)}
}

// short is the beginning of a fingerprint, enough to tell it from others.
func short(fingerprint string) string { return fingerprint[:min(16, len(fingerprint))] }

func instant(t *metav1.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
