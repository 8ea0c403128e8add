package diff

import (
	"cmp"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
	"github.com/isthmus-mesh/isthmus/renderer/plan"
)

// Side is one of the two that are compared: a fleet that rendered whole.
type Side struct {
	// Name is what people call it: a commit or a folder.
	Name string
	// Fleet as loaded.
	Fleet *fleet.Fleet
	// Decisions and Bundles as rendered, sorted by member.
	Decisions []plan.Decision
	Bundles   []bundle.Bundle
	// Problems of loading and rendering: warnings.
	Problems fleet.Problems
}

// Risk says how much can go wrong.
type Risk string

// The risks, from none to high.
const (
	// RiskNone: no member is written to.
	RiskNone Risk = "None"
	// RiskLow: objects change, nothing restarts and traffic goes on as it is.
	RiskLow Risk = "Low"
	// RiskMedium: something restarts; connections may be reset, new ones succeed.
	RiskMedium Risk = "Medium"
	// RiskHigh: traffic or access can break, or something is taken away.
	RiskHigh Risk = "High"
)

// Risks in ascending order.
var Risks = []Risk{RiskNone, RiskLow, RiskMedium, RiskHigh}

// AtLeast tells whether the risk is that of the other, or more.
func (r Risk) AtLeast(other Risk) bool {
	return slices.Index(Risks, r) >= slices.Index(Risks, other)
}

// Report is what the change from base to head does.
type Report struct {
	// APIVersion is "isthmus.dev/v1alpha1", Kind is "FleetDiff".
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Base and Head are what people call the two sides.
	Base string `json:"base"`
	Head string `json:"head"`
	// Risk is that of the riskiest effect.
	Risk Risk `json:"risk"`
	// Impact counts whom it concerns.
	Impact Impact `json:"impact"`
	// Effects, the riskiest first.
	Effects []Effect `json:"effects"`
	// NewProblems are warnings that head has and base has not; Cured are those that
	// base has and head has not.
	NewProblems fleet.Problems `json:"newProblems"`
	Cured       fleet.Problems `json:"curedProblems"`
	// Objects that change on members, in the order of delivery.
	Objects []ObjectChange `json:"objects"`
	// Behind are members that do not run the base yet, where base is what runs.
	Behind []Behind `json:"behind,omitempty"`
	// Findings of policies; nil if none were asked.
	Findings []Finding `json:"findings,omitempty"`
}

// Behind is a member for which a change does more than the report says.
type Behind struct {
	Member string `json:"member"`
	// Why says what it runs instead, or what is not right with it.
	Why string `json:"why"`
}

// Finding is a policy that the change violates.
type Finding struct {
	// Policy is its name, Network the one that it is of.
	Policy  string `json:"policy"`
	Network string `json:"network"`
	// Severity says whether it stops the change.
	Severity fleet.Severity `json:"severity"`
	// Message says what is violated, Hint how to go on.
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Blocked tells whether a policy stops the change.
func (r Report) Blocked() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == fleet.SeverityError })
}

// Empty tells whether there is no difference.
func (r Report) Empty() bool {
	return len(r.Effects) == 0 && len(r.Objects) == 0 && len(r.NewProblems) == 0 && len(r.Cured) == 0
}

// Effect is one thing that happens, on all the members where it is the same.
type Effect struct {
	// ID is a stable UpperCamelCase name, such as "ReleaseChanges".
	ID string `json:"id"`
	// Area is the part of the mesh that it concerns.
	Area Area `json:"area"`
	Risk Risk `json:"risk"`
	// Network that it is of.
	Network string `json:"network"`
	// Title says in one line what happens.
	Title string `json:"title"`
	// Notes say what follows from it, a line each.
	Notes []string `json:"notes,omitempty"`
	// Members that it happens on, sorted; none where no member is written to.
	Members []string `json:"members,omitempty"`
}

// Area is a part of the mesh, in the words of the field.
type Area string

// The areas, in the order in which effects of equal risk are shown.
const (
	AreaMembership Area = "membership"
	AreaRelease    Area = "release"
	AreaTrust      Area = "trust"
	AreaMTLS       Area = "mTLS"
	AreaNamespaces Area = "namespaces"
	AreaPeers      Area = "peers"
	AreaGateway    Area = "east-west gateway"
	AreaWaypoint   Area = "waypoint"
	AreaIstiod     Area = "istiod"
	AreaCNI        Area = "CNI"
	AreaZtunnel    Area = "ztunnel"
	AreaTelemetry  Area = "telemetry"
	AreaGatewayAPI Area = "Gateway API"
	AreaCRDs       Area = "CRDs"
	AreaPolicy     Area = "policy"
	AreaResources  Area = "resources"
	AreaRollout    Area = "rollout"
)

var areas = []Area{
	AreaMembership, AreaRelease, AreaTrust, AreaMTLS, AreaNamespaces, AreaPeers, AreaGateway, AreaWaypoint,
	AreaIstiod, AreaCNI, AreaZtunnel, AreaTelemetry, AreaGatewayAPI, AreaCRDs, AreaPolicy, AreaResources, AreaRollout,
}

// Compare says what the change from base to head does. Both sides have rendered
// whole.
func Compare(base, head Side) Report {
	s := newScene(base, head)
	report := Report{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "FleetDiff",
		Base: base.Name, Head: head.Name,
		Effects:     s.effects(),
		NewProblems: lacking(head.Problems, base.Problems),
		Cured:       lacking(base.Problems, head.Problems),
		Objects:     s.objectChanges(),
		Risk:        RiskNone,
	}
	for _, effect := range report.Effects {
		if effect.Risk.AtLeast(report.Risk) {
			report.Risk = effect.Risk
		}
	}
	report.Impact = s.impact(report.Effects)
	return report
}

// lacking returns the problems that others has not, wherever in their files.
func lacking(problems, others fleet.Problems) fleet.Problems {
	known := map[fleet.Problem]bool{}
	for _, p := range others {
		p.Line = 0
		known[p] = true
	}
	out := fleet.Problems{}
	for _, p := range problems {
		at := p
		at.Line = 0
		if !known[at] {
			out = append(out, p)
		}
	}
	return out
}

// merge makes effects that say the same of several members one effect.
func merge(effects []Effect) []Effect {
	var out []Effect
	at := map[string]int{}
	for _, e := range effects {
		key := strings.Join(append([]string{e.ID, string(e.Area), string(e.Risk), e.Network, e.Title}, e.Notes...), "\x00")
		i, known := at[key]
		if !known {
			at[key] = len(out)
			out = append(out, e)
			continue
		}
		out[i].Members = append(out[i].Members, e.Members...)
	}
	for i := range out {
		slices.Sort(out[i].Members)
		out[i].Members = slices.Compact(out[i].Members)
	}
	slices.SortStableFunc(out, func(a, b Effect) int {
		return cmp.Or(
			-cmp.Compare(slices.Index(Risks, a.Risk), slices.Index(Risks, b.Risk)),
			cmp.Compare(slices.Index(areas, a.Area), slices.Index(areas, b.Area)),
			cmp.Compare(a.ID, b.ID),
			cmp.Compare(a.Network, b.Network),
			cmp.Compare(a.Title, b.Title),
			slices.Compare(a.Members, b.Members),
		)
	})
	return out
}
