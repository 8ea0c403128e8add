package reconciler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// Metrics beside those of controller-runtime and client-go. Labels are members,
// tiers and releases; never objects, whose number has no bound.
var (
	memberReady = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_member_ready",
		Help: "1 when the member is ready, 0 when not, by the release that it runs.",
	}, []string{"member", "network", "release"})
	memberObjects = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_member_objects",
		Help: "Objects in the member's inventory.",
	}, []string{"member"})
	driftCorrected = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_drift_corrected_total",
		Help: "Objects that were put back because somebody else changed or deleted them.",
	}, []string{"member"})
	driftDetected = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_drift_detected_total",
		Help: "Changes of others that were noticed, by what became of them (DriftCorrected, DriftReported, TrustMaterialChanged).",
	}, []string{"member", "reason"})
	conflicts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_conflicts_total",
		Help: "Contests about an object that somebody keeps changing.",
	}, []string{"member"})
	driftLatency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "isthmus_drift_latency_seconds",
		Help:    "Time from the report of a change to its correction.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	})
	certificateExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_ca_cert_expiry_timestamp_seconds",
		Help: "When the member's CA certificate of a tier expires, Unix time.",
	}, []string{"member", "tier"})
	gitRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_git_requests_total",
		Help: "Looks at repositories, and webhooks, by type (fetch, webhook) and result (ok, a reason).",
	}, []string{"type", "result"})
)

func init() {
	metrics.Registry.MustRegister(gitRequests, memberReady, memberObjects, driftCorrected, driftDetected, conflicts, driftLatency, certificateExpiry)
}

// countFetch counts a look at a repository.
func countFetch(err error) {
	result := "ok"
	if err != nil {
		result = string(source.ReasonOf(err))
	}
	gitRequests.WithLabelValues("fetch", result).Inc()
}

func observeMember(m *v1alpha1.Member) {
	ready := 0.0
	if c := readyOf(m); c != nil && c.Status == metav1.ConditionTrue {
		ready = 1
	}
	// A member has one release: the series of an older one must go.
	memberReady.DeletePartialMatch(prometheus.Labels{"member": m.Name})
	memberReady.WithLabelValues(m.Name, m.Spec.ApplicationNetwork, m.Status.Release).Set(ready)
	memberObjects.WithLabelValues(m.Name).Set(float64(m.Status.Objects))
	for _, certificate := range m.Status.Certificates {
		certificateExpiry.WithLabelValues(m.Name, certificate.Tier).Set(float64(certificate.NotAfter.Unix()))
	}
}

func countDrift(member, reason string) {
	if reason == ReasonDriftContested {
		conflicts.WithLabelValues(member).Inc()
		return
	}
	driftDetected.WithLabelValues(member, reason).Inc()
}

func observeDrift(member string, w work, now time.Time) {
	driftCorrected.WithLabelValues(member).Inc()
	if !w.seen.IsZero() {
		driftLatency.Observe(now.Sub(w.seen).Seconds())
	}
}

func forgetMember(name string) {
	for _, vec := range []*prometheus.MetricVec{memberReady.MetricVec, memberObjects.MetricVec, driftCorrected.MetricVec, driftDetected.MetricVec, conflicts.MetricVec, certificateExpiry.MetricVec} {
		vec.DeletePartialMatch(prometheus.Labels{"member": name})
	}
}
