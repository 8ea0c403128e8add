package reconciler

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// leaver is a member that is being deleted and has its cluster.
func leaver(name string) *v1alpha1.Member {
	m := aMember("prod", name)
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	m.Namespace, m.DeletionTimestamp, m.Status.ClusterUID = "isthmus-system", &now, "cluster-1"
	m.Status.Objects = 49
	m.Status.Certificates = []v1alpha1.CertificateStatus{{Tier: "Intermediate", NotAfter: now}}
	return &m
}

func TestLeaveMode(t *testing.T) {
	for _, tt := range []struct {
		spec, annotation string
		want             v1alpha1.LeaveMode
	}{
		{"", "", v1alpha1.LeaveRemove},
		{"Orphan", "", v1alpha1.LeaveOrphan},
		{"Orphan", "Remove", v1alpha1.LeaveRemove},
		{"", "Force", v1alpha1.LeaveForce},
		{"Orphan", "orphan", ""}, // not understood: nothing is done
	} {
		m := leaver("a-1")
		m.Spec.Leave = v1alpha1.LeaveMode(tt.spec)
		if tt.annotation != "" {
			m.Annotations = map[string]string{LeaveAnnotation: tt.annotation}
		}
		got, failure := leaveMode(m)
		if got != tt.want || (failure != nil) != (tt.want == "") {
			t.Errorf("spec %q, annotation %q: %q, %+v", tt.spec, tt.annotation, got, failure)
		}
	}
}

func TestDecideExit(t *testing.T) {
	for _, tt := range []struct {
		reason string
		mode   v1alpha1.LeaveMode
		uid    string
		heirs  heirs
		touch  bool
		hold   bool
		how    string
	}{
		{"a member that has its cluster cleans up", v1alpha1.LeaveRemove, "1", heirs{}, true, false, "nothing of isthmus"},
		{"one that never had a cluster touches none", v1alpha1.LeaveForce, "", heirs{}, false, false, "nothing was ever applied"},
		{"an orphan stays, and until when it works is said", v1alpha1.LeaveOrphan, "1", heirs{}, false, false, "49 objects of isthmus; its CA certificate lasts until 2026-01-01"},
		{"a renamed member's cluster goes on", v1alpha1.LeaveRemove, "1", heirs{heir: "b-1"}, false, false, `as the member "b-1"`},
		{"so it does where the leave is forced", v1alpha1.LeaveForce, "1", heirs{heir: "b-1"}, false, false, `as the member "b-1"`},
		{"a new member that may be the same is waited for", v1alpha1.LeaveRemove, "1", heirs{unknown: "b-1"}, false, true, ""},
		{"unless forced", v1alpha1.LeaveForce, "1", heirs{unknown: "b-1"}, true, false, ""},
	} {
		m := leaver("a-1")
		m.Status.ClusterUID = tt.uid
		got := decideExit(m, tt.mode, tt.heirs)
		if got.touch != tt.touch || (got.hold != "") != tt.hold || !strings.Contains(got.how, tt.how) ||
			got.touch && got.force != (tt.mode == v1alpha1.LeaveForce) {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}

func TestTakeOver(t *testing.T) {
	stays := *leaver("a-1")
	stays.DeletionTimestamp = nil
	leaves, halfway, elsewhere := *leaver("a-1"), *leaver("a-1"), *leaver("a-1")
	halfway.Status.Leave = []v1alpha1.LeaveStep{{Name: "Workloads", State: v1alpha1.LeaveDone}}
	elsewhere.Spec.ApplicationNetwork = "dev"
	heir := aMember("prod", "b-1")
	for _, tt := range []struct {
		reason string
		other  v1alpha1.Member
		uid    string
		may    bool
	}{
		{"a cluster of nobody", stays, "cluster-2", true},
		{"a cluster of a member that stays", stays, "cluster-1", false},
		{"of one that goes: a rename", leaves, "cluster-1", true},
		{"of one that has begun to take the mesh off", halfway, "cluster-1", false},
		{"of one of another network, whose objects are there", elsewhere, "cluster-1", false},
	} {
		why := takeOver(&heir, tt.uid, []v1alpha1.Member{heir, tt.other})
		if (why == "") != tt.may {
			t.Errorf("%s: %q, may: %v", tt.reason, why, tt.may)
		}
	}
}

func TestLeavePlan(t *testing.T) {
	states := func(steps []v1alpha1.LeaveStep) (out string) {
		for _, s := range steps {
			out += string(s.State)[:1]
		}
		return out
	}
	p := newLeavePlan(nil, false)
	if got := states(p.steps()); got != "RPPPPPPPP" {
		t.Errorf("at first: %s", got)
	}
	p.progress(apply.Progress{Step: apply.LeaveZtunnel})
	p.progress(apply.Progress{Waiting: []apply.Waiting{{Subject: apply.Subject{Kind: "DaemonSet", Name: "ztunnel"}, Why: "being deleted"}}})
	got := p.steps()
	if states(got) != "DDDDRPPPP" || !strings.Contains(got[4].Message, "ztunnel: being deleted") {
		t.Errorf("under way: %v", got)
	}
	p.end(apply.LeaveZtunnel, map[apply.LeaveStep]string{apply.LeavePeers: "removed from 1 members"}, &status.Failure{Message: "stuck"})
	got = p.steps()
	if states(got) != "DDDDBPPPP" || got[4].Message != "stuck" || got[2].Message != "removed from 1 members" || !stuck(got) {
		t.Errorf("at the end: %v", got)
	}
	// The next try does not reach the member: what was seen stays, why it waits is new.
	next := newLeavePlan(got, false)
	next.end("", nil, &status.Failure{Message: "away"})
	want := append([]v1alpha1.LeaveStep(nil), got...)
	want[4].Message = "away"
	if diff := cmp.Diff(want, next.steps()); diff != "" {
		t.Errorf("unreached (-want +got):\n%s", diff)
	}
	forced := newLeavePlan(nil, true)
	forced.progress(apply.Progress{Step: apply.LeaveExports})
	if got := states(forced.steps()); got != "SRPPPPPPP" {
		t.Errorf("forced: %s", got)
	}
}

func TestHintForClustersThatAreGone(t *testing.T) {
	command := "kubectl annotate member a-1 -n isthmus-system isthmus.dev/leave=Orphan"
	for reason, hint := range map[member.Reason]bool{
		member.Unreachable: true, member.CredentialsRejected: true, status.ReasonSecretNotFound: true,
		apply.Enrolled: false, apply.NotGone: false, member.Throttled: false,
	} {
		if got := letGoHint(leaver("a-1"), string(reason)); strings.Contains(got, command) != hint {
			t.Errorf("%s: %q", reason, got)
		}
	}
}
