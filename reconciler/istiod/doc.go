// Package istiod asks a member's istiods what they know: which clusters they read,
// and which services and endpoints they give to proxies.
//
// Order: [Pods] lists the pods of istiod. [Clusters] asks each of them, and [View] the
// first that answers before it lists what the member itself has, by way of the API
// server and a port that is forwarded for one question.
//
// Guarantees: only reads. Each question is bounded in time and each answer in size,
// and replicas are asked side by side: what one of them does not answer is told with
// it and fails nothing else. Releases 1.27 to 1.31 answer in forms that are read
// alike; what a newer one adds is not looked at.
//
// Non-guarantees: an answer is of one moment of one replica.
package istiod
