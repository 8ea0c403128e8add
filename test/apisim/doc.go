// Package apisim plays the API servers of many member clusters in one process,
// to measure a reconciler with a thousand members on a small machine.
//
// Each member has an address, a certificate, a token and objects of its own, so
// that a client holds for it what it would hold for a real cluster: connections,
// watches, discovery. What members have in common is stored once: the content of
// an object is shared between all members on which it has the same history, and
// so is the work of merging an apply.
//
// Played, and compared with a real kube-apiserver by this package's test:
// server-side apply (created, changed, not changed, fields given up, conflicts,
// force, dry run) with managed fields by the API server's own library; get,
// list (label selectors, pages, metadata only) and watch (from a version, with
// initial events, with bookmarks); create, replace, JSON merge patch
// and delete with their preconditions; generations; CustomResourceDefinitions
// that make kinds served; namespaces that go with their content; aggregated
// discovery; tokens of ServiceAccounts, bound to Secrets, with their end.
//
// Played without the detours of a real cluster, and not compared: a watch from
// a version before the last thousand events of its member is expired; workloads
// are ready, Gateways programmed, CustomResourceDefinitions established, and
// namespaces gone, in the same write that asks for it; pods run, and are there only
// if the member had them from the start; behind port 8080 of each is an istiod
// that reads all peers whose remote secrets its namespace has, and tells nothing
// else. A real cluster needs seconds and several writes of its controllers.
//
// Left out: admission, validation, defaults (but the name label of namespaces),
// pruning of unknown fields, conversion between versions, quota, RBAC (every
// token may do all), signatures of tokens, priority and fairness, audit, every
// controller and what it makes (pods, endpoints, root certificates), other
// subresources, strategic merge and JSON patch, protobuf, OpenAPI, field selectors
// other than metadata.name, metadata.namespace and the phase of pods, consistent pages (a list
// continues with what is there then), and etcd: nothing is kept. So its latencies
// say nothing about those of a real API server; its requests, and what a client
// must hold, do.
package apisim
