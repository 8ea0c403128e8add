// Package catalog is the list of Istio releases that isthmus supports: where
// their charts and images come from, which Kubernetes and Gateway API versions
// they need, which channel leads to which of them, and the hazards known of
// each.
//
// The catalog is data. It reads nothing when it is asked: the charts of every
// release of [Builtin] are part of the binary, each from a Go module requirement
// of Istio at that release, and nothing of them is copied into this repository.
// What a fleet asks for beyond that, its [Needs], is fetched elsewhere and handed
// in as [Additions], which make another catalog.
//
// Releases are sorted newest first, hazards in the order of the table; both are
// the same on every call. Callers share what is returned and do not change it.
//
// The catalog does not say which release a member runs; that is a decision of
// package renderer/plan. It does not check what a cluster really is, either:
// the Kubernetes range is for whoever knows the cluster to compare.
package catalog
