package diff

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// networkEffect reports an effect on all members that stay in a network.
func (s *scene) networkEffect(report func(Effect), e Effect) {
	e.Members = s.staying(e.Network)
	report(e)
}

func trustDomainChanges(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		if was, is := before.Spec.Trust.Domain, after.Spec.Trust.Domain; was != is {
			s.networkEffect(report, Effect{Area: AreaTrust, Risk: RiskHigh, Network: after.Name,
				Title: fmt.Sprintf("trust domain %q → %q", was, is),
				Notes: []string{
					"mTLS breaks between workloads with certificates of the one and of the other, within members and between them, until all have new ones: up to half a workload certificate's life",
					"policies that name principals of the old domain match nothing",
				}})
		}
	})
}

func vaultChanges(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Trust.Vault, after.Spec.Trust.Vault
		if was.Type != is.Type || was.URL != is.URL {
			s.networkEffect(report, Effect{Area: AreaTrust, Risk: RiskHigh, Network: after.Name,
				Title: fmt.Sprintf("CAs are kept in vault %s instead of %s", vaultOf(after), vaultOf(before)),
				Notes: []string{"a root that is not in the new vault is made anew there; copy it over first to keep the one that members trust"}})
		}
	})
}

// newer tells whether a time in Git was set, or set to another one.
func newer(before, after *metav1.Time) bool {
	return after != nil && (before == nil || !before.Equal(after))
}

func when(t *metav1.Time) string { return t.UTC().Format(time.RFC3339) }

func rootReplaced(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Trust.Root, after.Spec.Trust.Root
		urgent := is.Emergency && is.ReplaceIssuedBefore != nil && !was.Emergency
		if !newer(was.ReplaceIssuedBefore, is.ReplaceIssuedBefore) && !urgent {
			return
		}
		e := Effect{Area: AreaTrust, Risk: RiskLow, Network: after.Name,
			Title: fmt.Sprintf("the root CA is replaced if it was issued before %s", when(is.ReplaceIssuedBefore)),
			Notes: []string{"old, then both, then the new root is trusted; each step is proven on every member, and no connection is cut"}}
		switch restarting := s.restartForRoots(after.Name); {
		case is.Emergency:
			e.Risk = RiskHigh
			e.Title += ", as an emergency"
			e.Notes = []string{
				"ztunnel is restarted node by node, gateways and waypoints too, three times in all: connections that live longer than ztunnel's drain are reset each time",
				"members that cannot be reached are not waited for until the last step: their workloads and those of the others refuse each other meanwhile",
			}
		case len(restarting) > 0:
			e.Risk = RiskMedium
			e.Notes = append(e.Notes, "node proxies that keep the roots they started with are restarted once, on "+listed(restarting))
		}
		s.networkEffect(report, e)
	})
}

// restartForRoots are the members of a network whose node proxies learn of roots
// only when they start.
func (s *scene) restartForRoots(network string) []string {
	var out []string
	for _, name := range s.names {
		if after, is := s.after[name]; is && after.network.Name == network && after.Release.RestartsForRoots() {
			out = append(out, name)
		}
	}
	return out
}

func rootRotationChanges(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Trust.Root.Rotation, after.Spec.Trust.Root.Rotation
		if was == is {
			return
		}
		e := Effect{Area: AreaTrust, Risk: RiskLow, Network: after.Name}
		switch is {
		case v1alpha1.RotationHold:
			e.Title = "a replacement of the root CA stays at the step that it is at"
		case v1alpha1.RotationBack:
			e.ID, e.Title = "RootReplacementGoesBack", "a replacement of the root CA goes back to the old root, as long as every member trusts it"
		default:
			e.ID, e.Title = "RootReplacementProceeds", "a replacement of the root CA goes on"
		}
		s.networkEffect(report, e)
	})
}

func intermediatesReplaced(s *scene, report func(Effect)) {
	title := func(t *metav1.Time) string {
		return fmt.Sprintf("member CAs issued before %s are replaced, hot: workloads notice nothing", when(t))
	}
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Trust.Intermediate.ReplaceIssuedBefore, after.Spec.Trust.Intermediate.ReplaceIssuedBefore
		if newer(was, is) {
			s.networkEffect(report, Effect{Area: AreaTrust, Risk: RiskLow, Network: after.Name, Title: title(is)})
		}
	})
	s.each(func(name string, before, after view) {
		if was, is := trustOf(before).ReplaceIssuedBefore, trustOf(after).ReplaceIssuedBefore; newer(was, is) {
			report(Effect{Area: AreaTrust, Risk: RiskLow, Network: after.network.Name, Members: []string{name}, Title: title(is)})
		}
	})
}

func trustOf(v view) v1alpha1.MemberTrust {
	if v.member.Spec.Trust == nil {
		return v1alpha1.MemberTrust{}
	}
	return *v.member.Spec.Trust
}

func intermediateRevoked(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		was, is := trustOf(before).RevokeIssuedBefore, trustOf(after).RevokeIssuedBefore
		if !newer(was, is) {
			return
		}
		e := Effect{Area: AreaTrust, Risk: RiskHigh, Network: after.network.Name, Members: []string{name},
			Title: fmt.Sprintf("its CAs issued before %s are revoked", when(is)),
			Notes: []string{
				"workloads with certificates of theirs are refused, on every member that checks, until they have new ones",
				"for those its ztunnel is restarted node by node, once, and its gateways and waypoints too: connections that live longer than ztunnel's drain are reset",
			}}
		if blind := s.blindToRevocation(after.network.Name); len(blind) > 0 {
			e.Notes = append(e.Notes, "releases before 1.29 do not check: "+listed(blind))
		}
		report(e)
	})
}

func (s *scene) blindToRevocation(network string) []string {
	var out []string
	for _, name := range s.names {
		if after, is := s.after[name]; is && after.network.Name == network && !after.Release.ChecksRevocation() {
			out = append(out, name)
		}
	}
	return out
}

func trustDeliveryChanges(s *scene, report func(Effect)) {
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		was, is := before.Spec.Trust.Delivery.Mode, after.Spec.Trust.Delivery.Mode
		if was != is {
			s.networkEffect(report, Effect{Area: AreaTrust, Risk: RiskMedium, Network: after.Name,
				Title: fmt.Sprintf("a member's CA comes into it by %s instead of %s", is, was),
				Notes: []string{"istiod goes on with the CA that it has until the new way has brought one"}})
		}
	})
}

// direction of a change of release.
func direction(before, after catalog.Release) string {
	if catalog.Compare(before.Version, after.Version) > 0 {
		return "back "
	}
	return ""
}

// releaseChanges says what a release brings, by what restarts for it.
func releaseChanges(s *scene, report func(Effect)) {
	s.each(func(name string, before, after view) {
		if before.Release.Version == after.Release.Version {
			return
		}
		e := Effect{Area: AreaRelease, Risk: RiskMedium, Network: after.network.Name, Members: []string{name},
			Title: fmt.Sprintf("Istio %s%s → %s", direction(before.Release, after.Release), before.Release.Version, after.Release.Version)}
		if direction(before.Release, after.Release) != "" {
			e.Risk = RiskHigh
			e.Notes = append(e.Notes, "a rollback: what the newer release wrote, the older one may not read")
		}
		e.Notes = append(e.Notes, restartNotes(s.changes[name], before)...)
		if countGateways(after) > 0 {
			e.Notes = append(e.Notes, "istiod starts its "+counted(countGateways(after), "gateway")+" and waypoints anew with its own release")
		}
		if n := s.count(name, func(c change) bool { return c.object().GetKind() == "CustomResourceDefinition" }); n > 0 {
			e.Notes = append(e.Notes, counted(n, "CRD")+" change")
		}
		report(e)
	})
}

func countGateways(v view) int {
	n := 0
	for _, o := range v.bundle.Objects {
		if o.Object.GetKind() == "Gateway" {
			n++
		}
	}
	return n
}

// count counts the changes of a member that are meant.
func (s *scene) count(name string, meant func(change) bool) int {
	n := 0
	for _, c := range s.changes[name] {
		if meant(c) {
			n++
		}
	}
	return n
}

// claimedByRules are the fields of a network and of a member that rules speak of,
// or whose effect is objects.
var (
	claimedOfNetwork = []string{
		"trust.domain", "trust.vault.type", "trust.vault.url", "trust.root.rotation", "trust.delivery.mode",
		"dataPlane", "namespaces", "discovery.exports", "review",
	}
	claimedOfMember = []string{"applicationNetwork", "suspend", "connectivity", "controlPlane"}
	// orders act when they are given; that they are taken back is a setting.
	orders = []string{
		"trust.root.replaceIssuedBefore", "trust.root.emergency", "trust.intermediate.replaceIssuedBefore",
		"trust.replaceIssuedBefore", "trust.revokeIssuedBefore", "discovery.credentials.replaceIssuedBefore",
	}
	// becomesObjects are fields that show in objects, if in anything.
	becomesObjects = []string{"upgrade", "components", "telemetry", "meshConfig", "gatewayAPI", "releases", "resources", "patches"}
)

// settingsChange tells what nothing else does.
func settingsChange(s *scene, report func(Effect)) {
	repaired := map[string]bool{} // networks with pairs that come or go
	s.pairs(func(network, _, _ string, _ bool) { repaired[network] = true })
	s.eachNetwork(func(before, after *v1alpha1.ApplicationNetwork) {
		changes := specChanges(before.Spec, after.Spec)
		objects := slices.ContainsFunc(s.staying(after.Name), func(name string) bool { return len(s.changes[name]) > 0 })
		report := func(e Effect) { e.Network = after.Name; report(e) }
		claimed := claimedOfNetwork
		if repaired[after.Name] {
			claimed = append(slices.Clone(claimed), "discovery.peers")
		}
		tellSettings(unclaimed(changes, claimed, objects), report)
	})
	s.each(func(name string, before, after view) {
		changes := specChanges(before.member.Spec, after.member.Spec)
		if was, is := before.member.Labels, after.member.Labels; len(specChanges(was, is)) > 0 {
			for _, c := range specChanges(was, is) {
				c.Path = "labels[" + c.Path + "]"
				changes = append(changes, c)
			}
		}
		report := func(e Effect) {
			e.Network, e.Members = after.network.Name, []string{name}
			report(e)
		}
		tellSettings(unclaimed(changes, claimedOfMember, len(s.changes[name]) > 0), report)
	})
}

func unclaimed(changes []FieldChange, claimed []string, objects bool) []FieldChange {
	return slices.DeleteFunc(changes, func(c FieldChange) bool {
		return within(c.Path, claimed) || c.After != "" && within(c.Path, orders) || objects && within(c.Path, becomesObjects)
	})
}

// tellSettings tells of settings by what acts on them.
func tellSettings(changes []FieldChange, report func(Effect)) {
	groups := []struct {
		fields []string
		area   Area
		risk   Risk
		title  string
	}{
		{[]string{"trust"}, AreaTrust, RiskLow, "settings of the certificate hierarchy change"},
		{[]string{"discovery"}, AreaPeers, RiskLow, "settings of discovery change"},
		{[]string{"rollout", "maintenanceWindows"}, AreaRollout, RiskNone, "when changes reach members changes"},
		{[]string{"deletionGuard"}, AreaRollout, RiskNone, "what a commit may delete changes"},
		{[]string{"drift"}, AreaRollout, RiskLow, "what becomes of drift changes"},
		{[]string{"labels"}, AreaMembership, RiskNone, "labels change that selectors go by"},
		{[]string{"cluster"}, AreaMembership, RiskLow, "how the cluster is reached changes"},
		{[]string{""}, AreaRollout, RiskNone, "settings change that change no object"},
	}
	left := changes
	for _, g := range groups {
		var mine, rest []FieldChange
		for _, c := range left {
			if g.fields[0] == "" || within(c.Path, g.fields) {
				mine = append(mine, c)
			} else {
				rest = append(rest, c)
			}
		}
		if len(mine) > 0 {
			report(Effect{Area: g.area, Risk: g.risk, Title: g.title, Notes: saidAll(mine)})
		}
		left = rest
	}
}
