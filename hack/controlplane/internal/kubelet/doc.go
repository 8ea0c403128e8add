// Package kubelet runs pods as plain processes, as far as istiod needs it.
//
// A [Runner] watches the pods with a label. For each that is scheduled it does
// what a kubelet does: it resolves the environment, fills the volumes and keeps
// them up to date, gets tokens of the pod's ServiceAccount, starts the program,
// probes it, and reports the pod's status. A pod whose image has no program, whose
// Secret is missing or whose process ends says so in its status, as it would on a
// node.
//
// A process has no mount namespace and no network of its own, so three things
// differ from a container, and nothing else is added or left out on purpose:
//   - Mounted paths lie below the process's working folder. istiod opens its files
//     relative to it (in its image that is /); arguments and variables that name an
//     absolute mounted path are rewritten.
//   - Ports are free ports of 127.0.0.1, put into the arguments; [Running.Address]
//     maps a container port to its local address.
//   - There is no way to the cluster IP of Service kubernetes. Where a kubeconfig
//     file that the pod names does not exist, one is written that stands for the
//     in-cluster configuration: the API server's address with the token and the
//     authority that the pod has mounted. The pod's ServiceAccount, and nothing
//     else, decides what the process may do.
//
// A [Server] is what the API server finds at the nodes' kubelet port. It forwards
// ports of such pods and knows nothing else of a kubelet's API.
//
// Not supported, and refused: commands other than the image's, init containers,
// several containers, volumes other than secret, configMap, projected,
// downwardAPI, emptyDir and those of CSI drivers that somebody plays, probes other
// than httpGet.
package kubelet
