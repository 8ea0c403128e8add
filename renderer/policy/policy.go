package policy

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/renderer/diff"
)

// Check returns what the change violates, in the order of networks and of their
// policies.
func Check(base, head diff.Side, report diff.Report) []diff.Finding {
	out := []diff.Finding{}
	for _, name := range networks(base, head) {
		before, after := base.Fleet.Network(name), head.Fleet.Network(name)
		seen := changeOf(name, base, head, report)
		if seen.empty() {
			continue
		}
		out = append(out, builtins(name, after, seen)...)
		for _, p := range policiesOf(before, after) {
			out = append(out, ask(name, p, seen)...)
		}
	}
	return out
}

// networks of either side, sorted.
func networks(base, head diff.Side) []string {
	var out []string
	for _, side := range []diff.Side{base, head} {
		for _, n := range side.Fleet.Networks {
			out = append(out, n.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// policiesOf a network: all that were there before the change, as they were, then
// those that are new or say something else now.
func policiesOf(before, after *v1alpha1.ApplicationNetwork) []v1alpha1.ReviewPolicy {
	var out []v1alpha1.ReviewPolicy
	for _, n := range []*v1alpha1.ApplicationNetwork{before, after} {
		if n == nil || n.Spec.Review == nil {
			continue
		}
		for _, p := range n.Spec.Review.Policies {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// builtin is a policy that every network has: it is violated by an effect.
type builtin struct {
	name    v1alpha1.BuiltinPolicy
	effects []string
	message string
	// hint says how to go on; without it, by spec.review.accept.
	hint string
}

var all = []builtin{
	{v1alpha1.PolicyDeletionGuard, []string{diff.GuardStops}, "the reconciler would stop at the deletion guard",
		"say in spec.deletionGuard that the deletions are meant"},
	{v1alpha1.PolicyNoMTLSDowngrade, []string{"MTLSPermissive"}, "mTLS is no longer strict", ""},
	{v1alpha1.PolicyNoPublicGateway, []string{diff.GatewayIsPublic}, "an east-west gateway becomes reachable from the internet", ""},
	{v1alpha1.PolicyNoSystemNamespaceMove, []string{"SystemNamespaceChanges"}, "the reconciler refuses to move the system namespace of a network with members",
		"make a new network and move members one by one"},
}

func builtins(network string, after *v1alpha1.ApplicationNetwork, seen change) []diff.Finding {
	var out []diff.Finding
	for _, b := range all {
		if !seen.has(b.effects) {
			continue
		}
		f := diff.Finding{Policy: string(b.name), Network: network, Severity: fleet.SeverityError, Message: b.message,
			Hint: cmp.Or(b.hint, fmt.Sprintf("if that is meant, name %s in spec.review.accept of network %q, and take it out again afterwards", b.name, network))}
		if after != nil && after.Spec.Review != nil && slices.Contains(after.Spec.Review.Accept, b.name) {
			f.Severity, f.Hint = fleet.SeverityWarning, "spec.review.accept says that it is meant"
		}
		out = append(out, f)
	}
	return out
}

// ask asks one policy; a rule that cannot be answered is violated.
func ask(network string, p v1alpha1.ReviewPolicy, seen change) []diff.Finding {
	f := diff.Finding{Policy: p.Name, Network: network, Severity: fleet.SeverityError,
		Message: cmp.Or(p.Message, fmt.Sprintf("%s is not true of this change", p.Rule))}
	if p.Severity == v1alpha1.PolicyWarning {
		f.Severity = fleet.SeverityWarning
	}
	passes, err := evaluate(p.Rule, seen)
	switch {
	case err != nil:
		f.Message, f.Hint = fmt.Sprintf("its rule cannot be answered: %v", err), "see docs/reviews.md for what a rule sees"
	case passes:
		return nil
	}
	return []diff.Finding{f}
}

// ReasonInvalidPolicy says that the rule of a policy of a network is no expression in
// CEL that is true or false.
const ReasonInvalidPolicy = "InvalidPolicy"

// Problems returns the rules of a fleet that cannot be asked, at their lines.
func Problems(f *fleet.Fleet) fleet.Problems {
	var out fleet.Problems
	for _, n := range f.Networks {
		if n.Spec.Review == nil {
			continue
		}
		for i, p := range n.Spec.Review.Policies {
			if _, err := compile(p.Rule); err != nil {
				path := fmt.Sprintf("spec.review.policies[%d].rule", i)
				out = append(out, f.ProblemAt(v1alpha1.ApplicationNetworkKind, n.Name, path, fleet.Problem{
					Path: path, Severity: fleet.SeverityError, Reason: ReasonInvalidPolicy, Message: err.Error(),
					Hint: "a rule sees risk, riskLevel, effects, members, rings, restarts and objects",
				}))
			}
		}
	}
	return out
}
