package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Telemetry is what the mesh tells of the traffic. Node proxies log every
// connection and count in any case; the rest is by gateways and waypoints.
type Telemetry struct {
	// Collector takes traces, and access logs if asked for.
	Collector *Collector `json:"collector,omitempty"`

	// AccessLogs of gateways and waypoints. Default: none.
	AccessLogs *AccessLogs `json:"accessLogs,omitempty"`

	// Tracing of requests through gateways and waypoints. Default: none.
	Tracing *Tracing `json:"tracing,omitempty"`

	// Metrics are how the mesh's own workloads are scraped.
	Metrics *Metrics `json:"metrics,omitempty"`
}

// Collector is an OpenTelemetry collector, the same name on every member.
type Collector struct {
	// Service is the DNS name of the collector, as the members resolve it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Service string `json:"service"`

	// Port that takes OTLP over gRPC. Default: 4317.
	// +kubebuilder:default=4317
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// LoggedRequests says which requests are logged.
// +kubebuilder:validation:Enum=All;Errors
type LoggedRequests string

// Which requests are logged.
const (
	// LogAll logs every request.
	LogAll LoggedRequests = "All"
	// LogErrors logs what was answered with 400 or more, or not at all.
	LogErrors LoggedRequests = "Errors"
)

// LogDestination says where access logs go.
// +kubebuilder:validation:Enum=Stdout;Collector
type LogDestination string

// Where access logs go.
const (
	// LogToStdout is the log of the proxy's pod.
	LogToStdout LogDestination = "Stdout"
	// LogToCollector is the collector.
	LogToCollector LogDestination = "Collector"
)

// AccessLogs are logs of requests.
type AccessLogs struct {
	// Requests that are logged.
	// +kubebuilder:default=All
	Requests LoggedRequests `json:"requests,omitempty"`

	// To is where they go.
	// +kubebuilder:default=Stdout
	To LogDestination `json:"to,omitempty"`
}

// Tracing is of requests; it takes a collector.
type Tracing struct {
	// Sampling is the share of requests that are traced, such as "1%" or "0.1%".
	// +kubebuilder:default="1%"
	// +kubebuilder:validation:Pattern=`^(100|[0-9]{1,2}(\.[0-9]{1,2})?)%$`
	Sampling string `json:"sampling,omitempty"`
}

// PodMonitors is a kind of object by which metrics are scraped.
// +kubebuilder:validation:Enum=None;Prometheus;AzureMonitor
type PodMonitors string

// How metrics are scraped.
const (
	// PodMonitorsNone leaves it to the pods' annotations prometheus.io/scrape.
	PodMonitorsNone PodMonitors = "None"
	// PodMonitorsPrometheus is for the Prometheus operator (monitoring.coreos.com).
	PodMonitorsPrometheus PodMonitors = "Prometheus"
	// PodMonitorsAzure is for the managed Prometheus of Azure Monitor
	// (azmonitoring.coreos.com).
	PodMonitorsAzure PodMonitors = "AzureMonitor"
)

// Metrics are how the mesh's own workloads are scraped.
type Metrics struct {
	// PodMonitors that are delivered; their CRD must be on the members.
	// +kubebuilder:default=None
	PodMonitors PodMonitors `json:"podMonitors,omitempty"`

	// Interval between scrapes. Default: 30s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Interval *metav1.Duration `json:"interval,omitempty"`
}
