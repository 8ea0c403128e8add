package reconciler

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/reconciler/peering"
)

var (
	globalServices = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_global_services",
		Help: "Services of the member that others discover.",
	}, []string{"member"})
	serviceProblems = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "isthmus_service_problems",
		Help: "What is to be changed so that services are reached from the member and in it, by reason.",
	}, []string{"member", "reason"})
)

func init() { metrics.Registry.MustRegister(globalServices, serviceProblems) }

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
