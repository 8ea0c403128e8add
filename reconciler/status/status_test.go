package status_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

const (
	older = "1b20aa7000000000000000000000000000000000"
	newer = "4f2c9e1000000000000000000000000000000000"
)

func want(kind string, s metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: s, Reason: reason, Message: message}
}

func TestMemberConditions(t *testing.T) {
	rejected := &status.Failure{Reason: "CredentialsRejected", Message: "member API rejected the credentials", Stalled: true}
	away := &status.Failure{Reason: "Unreachable", Message: "member API does not answer"}
	for _, tt := range []struct {
		reason  string
		outcome status.Member
		want    []metav1.Condition
	}{
		{"all applied", status.Member{Attempted: newer, Applied: newer, Objects: 14},
			[]metav1.Condition{want("Ready", "True", "Applied", "applied 14 objects at 4f2c9e1")}},
		{"on its way", status.Member{Attempted: newer, Applied: older, Waiting: "istiod"},
			[]metav1.Condition{
				want("Ready", "Unknown", "Applying", "applying 4f2c9e1: waiting for istiod"),
				want("Reconciling", "True", "Progressing", "applying 4f2c9e1: waiting for istiod")}},
		{"a person must act", status.Member{Attempted: newer, Applied: older, Failure: rejected},
			[]metav1.Condition{
				want("Ready", "False", "CredentialsRejected", "member API rejected the credentials; still at 1b20aa7"),
				want("Stalled", "True", "CredentialsRejected", "member API rejected the credentials; still at 1b20aa7")}},
		{"time may help", status.Member{Attempted: newer, Failure: away},
			[]metav1.Condition{
				want("Ready", "False", "Unreachable", "member API does not answer"),
				want("Reconciling", "True", "ProgressingWithRetry", "member API does not answer")}},
		{"suspended", status.Member{Suspended: true, Applied: older},
			[]metav1.Condition{want("Ready", "Unknown", "Suspended", "suspended; still at 1b20aa7")}},
		{"after a start, before the commit is rendered again", status.Member{Applied: older},
			[]metav1.Condition{
				want("Ready", "Unknown", "WaitingForFleet", "waiting for the fleet's commit; still at 1b20aa7"),
				want("Reconciling", "True", "Progressing", "waiting for the fleet's commit; still at 1b20aa7")}},
		{"leaving wins over suspended", status.Member{Leaving: true, Suspended: true, Waiting: "namespace"},
			[]metav1.Condition{
				want("Ready", "Unknown", "Leaving", "leaving: waiting for namespace"),
				want("Reconciling", "True", "Progressing", "leaving: waiting for namespace")}},
	} {
		if diff := cmp.Diff(tt.want, tt.outcome.Conditions()); diff != "" {
			t.Errorf("%s: conditions (-want +got):\n%s", tt.reason, diff)
		}
	}
}

func TestFleetConditions(t *testing.T) {
	ok := status.MemberSummary{Name: "eastus-1", Ready: "True", Applied: newer}
	late := status.MemberSummary{Name: "westus-1", Ready: "True", Applied: older}
	bad := status.MemberSummary{Name: "onprem-1", Ready: "False", Message: "member API does not answer", Applied: older}
	invalid := &status.Failure{Reason: status.ReasonInvalidFleet, Message: "2 problems, the first: network.yaml:3: spec.x: unknown field", Stalled: true}
	for _, tt := range []struct {
		reason  string
		outcome status.Fleet
		want    []metav1.Condition
	}{
		{"everyone there", status.Fleet{Accepted: newer, Members: []status.MemberSummary{ok}},
			[]metav1.Condition{want("Ready", "True", "Applied", "applied 4f2c9e1 on 1 member")}},
		{"a member that is ready at the old commit is not done", status.Fleet{Accepted: newer, Members: []status.MemberSummary{ok, late}},
			[]metav1.Condition{
				want("Ready", "Unknown", "Applying", "applying 4f2c9e1: 1 of 2 members done"),
				want("Reconciling", "True", "Progressing", "applying 4f2c9e1: 1 of 2 members done")}},
		{"the worst member is named", status.Fleet{Accepted: newer, Members: []status.MemberSummary{ok, late, bad}},
			[]metav1.Condition{
				want("Ready", "False", "MembersNotReady", "1 of 3 members not ready: onprem-1: member API does not answer"),
				want("Reconciling", "True", "ProgressingWithRetry", "1 of 3 members not ready: onprem-1: member API does not answer")}},
		{"a bad commit leaves the good one in force", status.Fleet{Accepted: older, Failure: invalid, Members: []status.MemberSummary{ok}},
			[]metav1.Condition{
				want("Ready", "False", "InvalidFleet", "2 problems, the first: network.yaml:3: spec.x: unknown field; still at 1b20aa7"),
				want("Stalled", "True", "InvalidFleet", "2 problems, the first: network.yaml:3: spec.x: unknown field; still at 1b20aa7")}},
		{"no members", status.Fleet{Accepted: newer},
			[]metav1.Condition{want("Ready", "True", "NoMembers", "no members at 4f2c9e1")}},
		{"before the first look", status.Fleet{},
			[]metav1.Condition{
				want("Ready", "Unknown", "Applying", "reading the repository"),
				want("Reconciling", "True", "Progressing", "reading the repository")}},
	} {
		if diff := cmp.Diff(tt.want, tt.outcome.Conditions()); diff != "" {
			t.Errorf("%s: conditions (-want +got):\n%s", tt.reason, diff)
		}
	}
}
