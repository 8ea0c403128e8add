// Package ambient makes the objects of one member: Istio in ambient mode with
// several networks, from Istio's own charts.
//
// It is the only package that knows what Istio wants, and the only one that
// runs Helm's engine. No cluster is asked: what charts may look at (release
// name, Kubernetes version) is fixed, so that the same fleet renders the same
// objects everywhere and at any time.
//
// # What is rendered
//
//   - foundation: the system namespace with its network label, the namespaces
//     enrolled in the mesh (their labels only: see the bundle package on
//     releasing), Istio's CRDs, and the reader account that peers use;
//   - control plane: istiod, its RBAC, configuration and webhooks;
//   - the CNI agent and ztunnel;
//   - gateways: the east-west gateway, waypoints, the mesh-wide policy.
//
// # What is not
//
// No Secret; the CA and the peers' credentials are made when a bundle is
// applied. istiod mounts the peers' tokens, which so change without its kubeconfigs. No GatewayClass, Deployment or Service of a gateway: istiod makes
// those. No Gateway API CRDs unless the fleet makes isthmus their owner: many
// clusters come with them, and two owners of one CRD end in a fight. Not the
// chart's ConfigMap "values": nothing reads it, and it changes with every value.
//
// No field that somebody else writes: no caBundle, no status, no replicas beside
// an autoscaler.
//
// # How it is fast
//
// Charts are parsed and run once for each mesh (a release with what a network
// settles, and the components' settings that members have in common), with
// stand-ins for what a member settles alone. A setting of one component runs
// that component's chart again and no other. [Engine.Drafts] returns these;
// [Values] replaces the stand-ins for each member, in decoded strings, and drafts
// without any are shared by all members. An [Engine] keeps this between renderings, until
// [Engine.Sweep] finds it no longer used, and may be used by several goroutines at
// once.
package ambient
