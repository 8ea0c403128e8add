package reconciler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/peering"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
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
	certificateRenewal = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_ca_cert_renewal_timestamp_seconds",
		Help: "When the member's CA certificate of a tier is due for replacement, Unix time.",
	}, []string{"member", "tier"})
	trustProven = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_trust_proven",
		Help: "1 when the member's istiod is proven to sign with the CA that the member was given, 0 when not.",
	}, []string{"member"})
	trustRestarting = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_trust_restarting",
		Help: "1 while the member's proxies are being restarted for the replacement of a root CA, else 0.",
	}, []string{"member"})
	peersByState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_peers",
		Help: "Peers that the member is to discover, by state (Waiting, Failed, Syncing, Synced).",
	}, []string{"member", "state"})
	peerCredentialExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_peer_credential_expiry_timestamp_seconds",
		Help: "When the first of the member's credentials for its peers expires, Unix time. One series a member: pairs grow with their square.",
	}, []string{"member"})
	globalServices = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_global_services",
		Help: "Services of the member that others discover.",
	}, []string{"member"})
	serviceProblems = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_service_problems",
		Help: "What is to be changed so that services are reached from the member and in it, by reason.",
	}, []string{"member", "reason"})
	clockSkew = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_member_clock_skew_seconds",
		Help: "How far the reconciler's clock is ahead of that of the member's API server.",
	}, []string{"member"})
	rotationStep = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_trust_rotation_step",
		Help: "1 for the step that the rotation of a network's root CA is at (Settled, NewRoot, TrustBoth, SignByNew, TrustNew).",
	}, []string{"network", "step"})
	rotationBlockers = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_trust_rotation_blocked",
		Help: "How many members the step of a network's root CA waits for, by reason.",
	}, []string{"network", "reason"})
	keyVaultRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_keyvault_requests_total",
		Help: "Calls to Azure Key Vaults, by vault, operation (such as key_sign) and HTTP status, or error.",
	}, []string{"vault", "op", "code"})
	gitRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "isthmus_git_requests_total",
		Help: "Looks at repositories, and webhooks, by type (fetch, webhook) and result (ok, a reason).",
	}, []string{"type", "result"})
)

func init() {
	metrics.Registry.MustRegister(gitRequests, memberReady, memberObjects, driftCorrected, driftDetected, conflicts, driftLatency, certificateExpiry, certificateRenewal,
		keyVaultRequests, trustProven, trustRestarting, peersByState, peerCredentialExpiry, globalServices, serviceProblems, clockSkew, rotationStep, rotationBlockers)
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
	c := readyOf(m)
	ready := number(c != nil && c.Status == metav1.ConditionTrue)
	// A member has one release: the series of an older one must go.
	memberReady.DeletePartialMatch(prometheus.Labels{"member": m.Name})
	memberReady.WithLabelValues(m.Name, m.Spec.ApplicationNetwork, m.Status.Release).Set(ready)
	memberObjects.WithLabelValues(m.Name).Set(float64(m.Status.Objects))
	for _, certificate := range m.Status.Certificates {
		certificateExpiry.WithLabelValues(m.Name, certificate.Tier).Set(float64(certificate.NotAfter.Unix()))
		if due := certificate.RenewalTime; due != nil {
			certificateRenewal.WithLabelValues(m.Name, certificate.Tier).Set(float64(due.Unix()))
		}
	}
	if m.Status.Trust != nil && m.Status.Trust.Issued != nil {
		trustProven.WithLabelValues(m.Name).Set(number(hasFollowed(m.Status.Trust)))
		trustRestarting.WithLabelValues(m.Name).Set(number(m.Status.Trust.Restarting != ""))
	}
	observePeers(m)
}

// observePeers tells how a member's peers are.
func observePeers(m *v1alpha1.Member) {
	if m.Status.Discovery == nil {
		return
	}
	count := map[v1alpha1.PeerState]int{}
	for _, one := range m.Status.Discovery.Peers {
		count[one.State]++
	}
	for _, state := range []v1alpha1.PeerState{v1alpha1.PeerWaiting, v1alpha1.PeerFailed, v1alpha1.PeerSyncing, v1alpha1.PeerSynced} {
		peersByState.WithLabelValues(m.Name, string(state)).Set(float64(count[state]))
	}
	if first := earliestExpiry(m); first.IsZero() {
		peerCredentialExpiry.DeleteLabelValues(m.Name)
	} else {
		peerCredentialExpiry.WithLabelValues(m.Name).Set(float64(first.Unix()))
	}
}

// observeServices tells of a member's services and of what is wrong with them.
func observeServices(member string, services int, problems []peering.Problem) {
	forgetServices(member)
	globalServices.WithLabelValues(member).Set(float64(services))
	for _, p := range problems {
		serviceProblems.WithLabelValues(member, p.Reason).Inc()
	}
}

func forgetServices(member string) {
	globalServices.DeletePartialMatch(prometheus.Labels{"member": member})
	serviceProblems.DeletePartialMatch(prometheus.Labels{"member": member})
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func observeSkew(member string, clock trust.Clock) {
	if skew, known := clock.Skew(); known {
		clockSkew.WithLabelValues(member).Set(skew.Seconds())
	}
}

// observeNetwork tells where a network's root is.
func observeNetwork(n *v1alpha1.ApplicationNetwork) {
	forgetNetwork(n.Name)
	rotationStep.WithLabelValues(n.Name, n.Status.Trust.Step).Set(1)
	for _, b := range n.Status.Trust.Blockers {
		rotationBlockers.WithLabelValues(n.Name, b.Reason).Inc()
	}
}

func forgetNetwork(name string) {
	rotationStep.DeletePartialMatch(prometheus.Labels{"network": name})
	rotationBlockers.DeletePartialMatch(prometheus.Labels{"network": name})
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
	forgetServices(name)
	for _, vec := range []*prometheus.MetricVec{memberReady.MetricVec, memberObjects.MetricVec, driftCorrected.MetricVec, driftDetected.MetricVec, conflicts.MetricVec, certificateExpiry.MetricVec, certificateRenewal.MetricVec, trustProven.MetricVec, trustRestarting.MetricVec, peersByState.MetricVec, peerCredentialExpiry.MetricVec, clockSkew.MetricVec} {
		vec.DeletePartialMatch(prometheus.Labels{"member": name})
	}
}
