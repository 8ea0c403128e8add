package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
)

// TestDriftMakesNoSeries: the metrics after a thousand events of drift on a
// thousand objects are those after the first one.
func TestDriftMakesNoSeries(t *testing.T) {
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "series-1"}}
	t.Cleanup(func() { forgetMember(m.Name) })
	c := &connection{drifted: map[apply.Subject]time.Time{}}
	r := newReport(nil, &record.FakeRecorder{}, m)
	drift := func(i int) {
		r.drifted(c, apply.Result{Changes: []apply.Change{{
			Subject: apply.Subject{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: fmt.Sprintf("some-object-%d", i)},
			Action:  apply.Configured, By: fmt.Sprintf("some-manager-%d", i),
		}}}, work{repeat: true})
		observeMember(m)
	}
	drift(0)
	before := series(t)
	for i := range 1000 {
		drift(i + 1)
	}
	after := series(t)
	if len(after) != len(before) || len(before) == 0 {
		t.Errorf("%d series, before %d", len(after), len(before))
	}
	for _, labels := range after {
		if strings.Contains(labels, "some-") {
			t.Errorf("a series for an object or a manager: %s", labels)
		}
	}
	if m.Status.Drift == nil || m.Status.Drift.Corrected != 1001 {
		t.Errorf("drift in status: %+v", m.Status.Drift)
	}
}

// series are the names and labels of all series.
func series(t *testing.T) []string {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			out = append(out, fmt.Sprint(family.GetName(), metric.GetLabel()))
		}
	}
	return out
}
