package status

import (
	"fmt"

	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Failure is why something did not succeed.
type Failure struct {
	// Reason is one of the stable reasons.
	Reason string
	// Message says what happened and what to do, without secrets.
	Message string
	// Stalled says that waiting will not help: a person must act.
	Stalled bool
}

// Member is what happened to one member.
type Member struct {
	// Suspended and Leaving as the member's object says.
	Suspended, Leaving bool
	// Failure of the last try; nil when there was none.
	Failure *Failure
	// Attempted and Applied are commits; Applied is the last one that was applied
	// whole, empty when none was.
	Attempted, Applied string
	// Waiting says what the member is waited for, such as "istiod"; may be empty.
	Waiting string
	// Objects in the member's inventory.
	Objects int
	// Trust is what is known of its CA.
	Trust Trust
	// Peers is what is known of those that it discovers.
	Peers Peers
}

// Conditions returns Ready and, while true, Reconciling or Stalled; TrustReady for
// a member that has a CA; and PeersReady for one that has peers.
func (m Member) Conditions() []metav1.Condition {
	return append(append(m.progress(), m.Trust.conditions()...), m.Peers.conditions()...)
}

func (m Member) progress() []metav1.Condition {
	switch {
	case m.Failure != nil:
		return failed(*m.Failure, still(m.Applied))
	case m.Leaving:
		return progressing(ReasonLeaving, "leaving"+waiting(m.Waiting))
	case m.Suspended:
		return []metav1.Condition{ready(metav1.ConditionUnknown, ReasonSuspended, "suspended"+still(m.Applied))}
	case m.Attempted == "":
		return progressing(ReasonWaitingForFleet, "waiting for the fleet's commit"+still(m.Applied))
	case m.Attempted != m.Applied || m.Waiting != "":
		return progressing(ReasonApplying, "applying "+Short(m.Attempted)+waiting(m.Waiting))
	}
	return []metav1.Condition{ready(metav1.ConditionTrue, ReasonApplied,
		fmt.Sprintf("applied %d objects at %s", m.Objects, Short(m.Applied)))}
}

// MemberSummary is what a network and a fleet need to know of a member.
type MemberSummary struct {
	Name string
	// Ready is the status of the member's Ready condition.
	Ready metav1.ConditionStatus
	// Message of the member's Ready condition.
	Message string
	// Applied is the last commit that was applied whole.
	Applied string
}

// Fleet is what happened to a fleet.
type Fleet struct {
	// Suspended as the fleet's object says.
	Suspended bool
	// Failure of reading, loading or rendering the attempted commit.
	Failure *Failure
	// Verify says that commits need signatures; Verified is what the last look at
	// them came to, nil for none yet.
	Verify   bool
	Verified *Verified
	// Accepted is the commit that members are held to, empty when none is.
	Accepted string
	// Members of the accepted commit, sorted by name.
	Members []MemberSummary
}

// Verified is what a look at signatures came to.
type Verified struct {
	// Commit that was looked at.
	Commit string
	// Signer of it, as its key says.
	Signer string
	// Failure, when the signature does not count.
	Failure *Failure
}

// SourceVerified is the condition that says whether the commit in question is
// signed as the fleet wants; it is there only when the fleet wants that.
const SourceVerified = "SourceVerified"

// Conditions returns Ready and, while true, Reconciling or Stalled; and
// SourceVerified where signatures are wanted.
func (f Fleet) Conditions() []metav1.Condition {
	if !f.Verify || f.Suspended {
		return f.progress()
	}
	return append(f.progress(), f.Verified.condition())
}

func (v *Verified) condition() metav1.Condition {
	switch {
	case v == nil:
		return condition(SourceVerified, metav1.ConditionUnknown, ReasonNotVerifiedYet, "no commit was looked at yet")
	case v.Failure != nil:
		return condition(SourceVerified, metav1.ConditionFalse, v.Failure.Reason, v.Failure.Message)
	}
	return condition(SourceVerified, metav1.ConditionTrue, ReasonVerified, fmt.Sprintf("%s is signed by %s", Short(v.Commit), v.Signer))
}

func (f Fleet) progress() []metav1.Condition {
	switch {
	case f.Failure != nil:
		return failed(*f.Failure, still(f.Accepted))
	case f.Suspended:
		return []metav1.Condition{ready(metav1.ConditionUnknown, ReasonSuspended, "suspended"+still(f.Accepted))}
	case f.Accepted == "":
		return progressing(ReasonApplying, "reading the repository")
	}
	return members(f.Accepted, f.Members)
}

// Network is what happened to an ApplicationNetwork.
type Network struct {
	// Accepted is the commit that members are held to.
	Accepted string
	// Members of the network, sorted by name.
	Members []MemberSummary
}

// Conditions returns Ready and, while true, Reconciling.
func (n Network) Conditions() []metav1.Condition { return members(n.Accepted, n.Members) }

// members sums up members: the worst one is named, and how many share its fate.
func members(accepted string, all []MemberSummary) []metav1.Condition {
	if len(all) == 0 {
		return []metav1.Condition{ready(metav1.ConditionTrue, ReasonNoMembers, "no members at "+Short(accepted))}
	}
	var failing, behind []MemberSummary
	for _, m := range all {
		switch {
		case m.Ready == metav1.ConditionFalse:
			failing = append(failing, m)
		case m.Ready != metav1.ConditionTrue || m.Applied != accepted:
			behind = append(behind, m)
		}
	}
	switch {
	case len(failing) > 0:
		message := fmt.Sprintf("%d of %d members not ready: %s: %s", len(failing), len(all), failing[0].Name, failing[0].Message)
		return []metav1.Condition{
			ready(metav1.ConditionFalse, ReasonMembersNotReady, message),
			condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingWithRetryReason, message),
		}
	case len(behind) > 0:
		return progressing(ReasonApplying, fmt.Sprintf("applying %s: %d of %d members done", Short(accepted), len(all)-len(behind), len(all)))
	}
	return []metav1.Condition{ready(metav1.ConditionTrue, ReasonApplied, fmt.Sprintf("applied %s on %s", Short(accepted), count(len(all), "member")))}
}

func failed(f Failure, suffix string) []metav1.Condition {
	message := f.Message + suffix
	kind, reason := meta.ReconcilingCondition, meta.ProgressingWithRetryReason
	if f.Stalled {
		kind, reason = meta.StalledCondition, f.Reason
	}
	return []metav1.Condition{
		ready(metav1.ConditionFalse, f.Reason, message),
		condition(kind, metav1.ConditionTrue, reason, message),
	}
}

func progressing(reason, message string) []metav1.Condition {
	return []metav1.Condition{
		ready(metav1.ConditionUnknown, reason, message),
		condition(meta.ReconcilingCondition, metav1.ConditionTrue, meta.ProgressingReason, message),
	}
}

func ready(status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return condition(meta.ReadyCondition, status, reason, message)
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// Short returns the first seven digits of a commit.
func Short(commit string) string {
	if len(commit) > 7 {
		return commit[:7]
	}
	return commit
}

func still(commit string) string {
	if commit == "" {
		return ""
	}
	return "; still at " + Short(commit)
}

func waiting(what string) string {
	if what == "" {
		return ""
	}
	return ": waiting for " + what
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
