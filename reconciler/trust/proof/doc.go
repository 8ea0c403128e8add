// Package proof finds out which CA a member really has: by asking each replica of
// its istiod for a certificate, as a workload does, and by reading what istiod
// gives to namespaces.
//
// Order: [Ask] lists the pods of istiod, makes a short-lived token of an account
// without rights, reaches each pod through the API server, and has a key signed
// that is thrown away; then it reads the ConfigMap istio-ca-root-cert. [Answer.Judge]
// draws the conclusion, without any call.
//
// Guarantees: nothing is proven that one replica contradicts, and nothing by a
// server whose own certificate does not come from the network's roots. Nothing of
// the member changes. Each call is bounded in time, and replicas are asked side by
// side. No token and no key leaves the package.
//
// Non-guarantees: workloads may hold older certificates and roots than istiod
// gives; how long is for the caller to know. Without the rights to ask istiod, the
// roots are told from the ConfigMap alone, and who signs is not proven.
package proof
