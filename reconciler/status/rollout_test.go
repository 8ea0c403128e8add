package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRollout(t *testing.T) {
	t.Parallel()
	member := func(name string, ready metav1.ConditionStatus, applied string) MemberSummary {
		return MemberSummary{Name: name, Ready: ready, Applied: applied, Message: "why"}
	}
	for _, tt := range []struct {
		reason string
		rings  []RingRollout
		failed *Failure
		want   []CommitStatus
	}{
		{"not accepted", []RingRollout{{Name: "canary", Members: []MemberSummary{member("a", "True", "new")}}}, &Failure{Message: "network.yaml:6: spec.speed: unknown"},
			[]CommitStatus{{"", CommitFailed, "not accepted: network.yaml:6: spec.speed: unknown"}}},
		{"under way", []RingRollout{
			{Name: "canary", Members: []MemberSummary{member("a", "True", "new")}},
			{Name: "rest", Members: []MemberSummary{member("b", "True", "old"), member("c", "Unknown", "old")}},
		}, nil, []CommitStatus{
			{"", CommitPending, "1 of 3 members have it"}, {"canary", CommitDone, "1 of 1 members have it"}, {"rest", CommitPending, "0 of 2 members have it"},
		}},
		{"one fails", []RingRollout{
			{Name: "canary", Members: []MemberSummary{member("a", "False", "new")}},
			{Name: "", Members: []MemberSummary{member("b", "True", "new")}},
		}, nil, []CommitStatus{
			{"", CommitFailed, "1 of 2 members not ready: a: why"}, {"canary", CommitFailed, "1 of 1 members not ready: a: why"},
		}},
		{"everywhere, without rings", []RingRollout{{Members: []MemberSummary{member("a", "True", "new")}}}, nil,
			[]CommitStatus{{"", CommitDone, "1 of 1 members have it"}}},
		{"without members", nil, nil, []CommitStatus{{"", CommitDone, "0 of 0 members have it"}}},
	} {
		got := Rollout{Commit: "new", Failure: tt.failed, Rings: tt.rings}.Statuses()
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}
