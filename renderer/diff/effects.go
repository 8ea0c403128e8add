package diff

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// A rule finds one kind of effect. It reports one for each member, or for each
// network; what says the same of several members becomes one.
type rule struct {
	id   string
	find func(s *scene, report func(Effect))
}

// rules in the order in which a reviewer would ask. Each speaks of fields of the
// fleet, which it claims, or of objects; what none claims is told at the end as
// what it is, so that nothing that changes goes unsaid.
var rules = []rule{
	{"NetworkAppears", networkAppears},
	{"NetworkGoes", networkGoes},
	{"MemberJoins", memberJoins},
	{"MemberLeaves", memberLeaves},
	{GuardStops, guardStops},
	{"MemberRenamed", memberRenamed},
	{"MemberSuspended", memberSuspended},
	{"MemberResumed", memberResumed},
	{"ReleaseChanges", releaseChanges},
	{"TrustDomainChanges", trustDomainChanges},
	{"VaultChanges", vaultChanges},
	{"RootReplaced", rootReplaced},
	{"RootReplacementHeld", rootRotationChanges},
	{"IntermediatesReplaced", intermediatesReplaced},
	{"IntermediateRevoked", intermediateRevoked},
	{"TrustDeliveryChanges", trustDeliveryChanges},
	{"MTLSStrict", mtlsStrict},
	{"MTLSPermissive", mtlsPermissive},
	{"SystemNamespaceChanges", systemNamespaceChanges},
	{"NamespaceEnrolled", namespaceEnrolled},
	{"NamespaceReleased", namespaceReleased},
	{"WaypointAppears", waypointAppears},
	{"WaypointGoes", waypointGoes},
	{"WaypointChanges", waypointChanges},
	{"PeersAppear", peersAppear},
	{"PeersGo", peersGo},
	{"ExportsChange", exportsChange},
	{"PeerCredentialsReplaced", credentialsReplaced},
	{"GatewayAppears", gatewayAppears},
	{"GatewayGoes", gatewayGoes},
	{"GatewayChanges", gatewayChanges},
	{"PodNetworkChanges", podNetworkChanges},
	{"ControlPlaneMoves", controlPlaneMoves},
	{"ComponentChanges", componentChanges},
	{"ResourcesChange", resourcesChange},
	{"RingChanges", ringChanges},
	{"PoliciesChange", policiesChange},
	{"SettingsChange", settingsChange},
}

// effects runs every rule.
func (s *scene) effects() []Effect {
	var found []Effect
	for _, r := range rules {
		r.find(s, func(e Effect) {
			if e.ID == "" {
				e.ID = r.id
			}
			found = append(found, e)
		})
	}
	if merged := merge(found); merged != nil {
		return merged
	}
	return []Effect{}
}

// specChanges are the fields of two specs that differ.
func specChanges(before, after any) []FieldChange {
	if reflect.DeepEqual(before, after) { // most are
		return nil
	}
	return fieldChanges(fieldsOf(before), fieldsOf(after))
}

// fieldsOf is a spec as its fields; what a fleet was loaded into can be encoded.
func fieldsOf(spec any) map[string]any {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil
	}
	var fields map[string]any
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return nil
	}
	return fields
}

// within tells whether a path is one of the fields or below one.
func within(path string, fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool {
		rest, ok := strings.CutPrefix(path, f)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// said says a field's change on one line: "replicas.max: 5 → 9".
func (f FieldChange) said() string {
	switch {
	case f.Before == "":
		return f.Path + ": " + short(f.After) + " is new"
	case f.After == "":
		return f.Path + ": " + short(f.Before) + " goes"
	}
	left := ""
	skip := alike(f.Before, f.After)
	if skip > 0 {
		left = "…"
	}
	return f.Path + ": " + left + short(f.Before[skip:]) + " → " + left + short(f.After[skip:])
}

// alike is how much two long values may lose of what they begin with alike, so that
// the difference is in what is shown of them.
func alike(a, b string) int {
	const shown = 40
	if max(len(a), len(b)) <= most {
		return 0
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return max(0, n-shown)
}

// most of a value is shown.
const most = 80

// short keeps a value readable on one line.
func short(value string) string {
	runes := []rune(value)
	if len(runes) <= most {
		return value
	}
	return string(runes[:most]) + "…"
}

// saidAll says the first changes, and how many more there are.
func saidAll(changes []FieldChange) []string {
	const told = 8
	var out []string
	for _, c := range changes[:min(told, len(changes))] {
		out = append(out, c.said())
	}
	if more := len(changes) - told; more > 0 {
		out = append(out, fmt.Sprintf("and %s more", counted(more, "field")))
	}
	return out
}

// counted is "1 object", "2 objects".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// listed names the first, and says how many more there are.
func listed(names []string) string {
	const named = 5
	if len(names) <= named {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:named], ", "), len(names)-named)
}

// networkAppears: its root CA is made with its first member.
func networkAppears(s *scene, report func(Effect)) {
	for _, n := range s.head.Fleet.Networks {
		if s.base.Fleet.Network(n.Name) == nil {
			report(Effect{Area: AreaMembership, Risk: RiskLow, Network: n.Name,
				Title: fmt.Sprintf("network %q is new: trust domain %q, a root CA of its own in vault %s", n.Name, n.Spec.Trust.Domain, vaultOf(n))})
		}
	}
}

func networkGoes(s *scene, report func(Effect)) {
	for _, n := range s.base.Fleet.Networks {
		if s.head.Fleet.Network(n.Name) == nil {
			report(Effect{Area: AreaMembership, Risk: RiskHigh, Network: n.Name,
				Title: fmt.Sprintf("network %q goes", n.Name),
				Notes: []string{"its root CA stays in vault " + vaultOf(n)}})
		}
	}
}

func vaultOf(n *v1alpha1.ApplicationNetwork) string {
	if url := n.Spec.Trust.Vault.URL; url != "" {
		return url
	}
	return string(n.Spec.Trust.Vault.Type)
}
