// Package controlplane starts real Kubernetes control planes on this machine,
// as plain processes: no root, no containers, no cluster.
//
// [Build] compiles, from Go modules alone, one binary with kube-apiserver,
// kube-controller-manager, kube-scheduler, etcd, kubectl and kwok, and keeps it
// in a cache; [Istiod] and [Istioctl] do the same for Istio's programs,
// [KustomizeController] for Flux's, and [Gitea] for a Git server with reviews,
// which [StartGitea] runs. [Start] runs the etcd that all clusters share,
// each below a prefix of its own. [ControlPlane.Cluster] adds a cluster and returns
// when it can be used: the API server is ready, its nodes are Ready, and the
// default ServiceAccount exists.
//
// What is real: authentication by client certificate and by tokens of
// ServiceAccounts, RBAC, the default admission plugins, TLS verified on every
// connection (the shared etcd included), the deployment, daemon set, endpoint
// slice, namespace and garbage collection controllers, the scheduler, webhooks
// (through a proxy that stands where kube-proxy would), and, in clusters with
// [ClusterOptions.Istiod], istiod itself, whose ports can be forwarded.
//
// What is played: nodes and the readiness of pods (kwok), the addresses of
// Services of type LoadBalancer (a controller of this package). There is no pod
// network, no DNS, and none of the controllers for storage, autoscaling, quota
// and cloud routes; a HorizontalPodAutoscaler therefore changes nothing.
//
// Processes end with the control plane: on [ControlPlane.Stop], when the context
// given to [Start] ends, and, on Linux, when the process that started them dies
// in any way. Functions of this package do not print; only builds report their
// progress, to a writer that the caller gives. Everything is safe for concurrent
// use, by goroutines and by several test processes at once.
package controlplane
