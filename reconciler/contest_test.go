package reconciler

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

var (
	meshConfig = apply.Subject{Version: "v1", Kind: "ConfigMap", Namespace: "applink-system", Name: "istio"}
	cacerts    = apply.Subject{Version: "v1", Kind: "Secret", Namespace: "applink-system", Name: "cacerts"}
)

// rival lets another writer change an object once a second, and counts how often
// it is put back.
func rival(c *contests, change apply.Change, start time.Time, seconds int) (corrections, contests int) {
	for i := range seconds {
		now := start.Add(time.Duration(i) * time.Second)
		c.settle(now)
		if c.held(change.Subject, now) {
			continue
		}
		corrections++
		if c.corrected(change, now) {
			contests++
		}
	}
	return corrections, contests
}

func TestContestsBackOff(t *testing.T) {
	start := time.Now()
	var c contests
	edit := apply.Change{Subject: meshConfig, Action: apply.Configured, By: "rival"}
	corrections, began := rival(&c, edit, start, 3600)
	if began != 1 || corrections > 25 {
		t.Errorf("an hour of a rival at 1 Hz: %d corrections and %d contests, want at most 25 and one", corrections, began)
	}
	if by := c.contested()[meshConfig]; by != "rival" {
		t.Errorf("contested by %q, want rival", by)
	}
	last := start.Add(time.Hour)
	if at := c.nextLook(last); !at.After(last) || at.Sub(last) > contestLongest {
		t.Errorf("next look %s after the last second, want within %s", at.Sub(last), contestLongest)
	}
	c.settle(last.Add(contestLongest))
	if len(c.contested()) != 1 {
		t.Error("forgotten while another correction was due")
	}
	c.settle(last.Add(3 * contestLongest))
	if len(c.contested()) != 0 || !c.nextLook(last).IsZero() {
		t.Error("still contested long after the rival stopped")
	}
}

func TestContestsForTrustStayShort(t *testing.T) {
	var c contests
	edit := apply.Change{Subject: cacerts, Action: apply.Configured, By: "rival", Trust: true}
	corrections, _ := rival(&c, edit, time.Now(), 600)
	if least := 600 / int(contestLongestTrust/time.Second); corrections < least {
		t.Errorf("%d corrections in ten minutes, want %d: nothing may sign with another CA for long", corrections, least)
	}
}

func TestAFewCorrectionsAreNoContest(t *testing.T) {
	var c contests
	now := time.Now()
	for i := range 20 {
		at := now.Add(time.Duration(i) * 15 * time.Second)
		if c.corrected(apply.Change{Subject: meshConfig, By: "kubectl-edit"}, at) || c.held(meshConfig, at) {
			t.Fatalf("correction %d began a contest at four a minute", i+1)
		}
	}
}

func TestDriftLog(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	left := apply.Change{Subject: meshConfig, Action: apply.Left, By: "kubectl-edit", At: now}
	var l driftLog
	if got := l.take(apply.Result{Changes: []apply.Change{left}}, false, now); len(got) != 1 || got[0].reason != ReasonDriftReported {
		t.Errorf("reported drift: %+v, want one note", got)
	}
	if got := l.take(apply.Result{Changes: []apply.Change{left}}, true, now); len(got) != 0 {
		t.Errorf("the same again: %+v, want nothing said twice", got)
	}
	if diff := cmp.Diff([]v1alpha1.DriftedObject{{Object: meshConfig.String(), By: "kubectl-edit"}}, l.reported()); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
	later := left
	later.At = now.Add(time.Minute)
	if got := l.take(apply.Result{Changes: []apply.Change{later}}, true, now); len(got) != 1 {
		t.Errorf("another edit: %+v, want another note", got)
	}
	put := apply.Change{Subject: meshConfig, Action: apply.Configured, By: "kubectl-edit", At: now}
	got := l.take(apply.Result{Changes: []apply.Change{put}}, true, now)
	want := []note{{reason: ReasonDriftCorrected, message: "put back ConfigMap applink-system/istio: edited by kubectl-edit at 2026-11-27T12:00:00Z"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(note{})); diff != "" {
		t.Errorf("put back (-want +got):\n%s", diff)
	}
	if len(l.reported()) != 0 {
		t.Errorf("still reported: %v", l.reported())
	}
	if got := l.take(apply.Result{Changes: []apply.Change{put}}, false, now); len(got) != 0 {
		t.Errorf("a delivery: %+v, want no drift", got)
	}
	secret := apply.Change{Subject: cacerts, Action: apply.Created, Trust: true}
	if got := l.take(apply.Result{Changes: []apply.Change{secret}}, true, now); len(got) != 1 || got[0].reason != ReasonTrustMaterialChanged || !got[0].warning {
		t.Errorf("a deleted CA: %+v, want a warning of its own", got)
	}
	secret.Subject.Name = "istio-remote-secret-west"
	if got := l.take(apply.Result{Changes: []apply.Change{secret}}, true, now); len(got) != 1 || got[0].reason != ReasonDriftCorrected {
		t.Errorf("a deleted credential for a peer: %+v, want drift like any", got)
	}
}

func TestDriftPolicy(t *testing.T) {
	ignore := func(kind string) []v1alpha1.DriftIgnore {
		return []v1alpha1.DriftIgnore{{Kind: kind, Fields: []v1alpha1.JSONPointer{"/spec/replicas"}}}
	}
	for _, tt := range []struct {
		reason          string
		network, member *v1alpha1.Drift
		report          bool
		rules           int
	}{
		{"nobody says anything", nil, nil, false, 0},
		{"the network's", &v1alpha1.Drift{Mode: v1alpha1.DriftReport, Ignore: ignore("Deployment")}, nil, true, 1},
		{"the member's mode goes before, its fields are added", &v1alpha1.Drift{Mode: v1alpha1.DriftReport, Ignore: ignore("Deployment")},
			&v1alpha1.Drift{Mode: v1alpha1.DriftCorrect, Ignore: ignore("DaemonSet")}, false, 2},
		{"a member that names no mode has the network's", &v1alpha1.Drift{Mode: v1alpha1.DriftReport}, &v1alpha1.Drift{Ignore: ignore("DaemonSet")}, true, 1},
	} {
		network, member := &v1alpha1.ApplicationNetwork{}, &v1alpha1.Member{}
		network.Spec.Drift, member.Spec.Drift = tt.network, tt.member
		got := driftPolicy(network, member)
		if got.Report != tt.report || len(got.Ignore) != tt.rules {
			t.Errorf("%s: %+v", tt.reason, got)
		}
	}
}
