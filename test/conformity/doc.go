// Package conformity proves that what isthmus renders is what Kubernetes and
// Istio take: every object of every release in the combinations of the fleet's
// fields that change objects, a table in this package.
//
// For each release, on an API server that has the Gateway API and the CRDs of
// that release and nothing else: each object passes a server-side dry run as the
// reconciler would apply it, with strict validation of fields and without a
// warning; it has a namespace if, and only if, its kind has them. And istioctl
// analyze finds nothing at the level of a warning or above in a whole bundle.
// Objects that are equal are checked once.
//
// The checks are themselves checked: each is given objects with a known fault
// and has to report it.
//
// What it does not prove: that other versions of Kubernetes than the one that
// hack/controlplane builds take the objects, that PodMonitors fit their CRD, that clouds do, and that the
// programs behind them work; test/e2e starts each release's istiod from them.
package conformity
