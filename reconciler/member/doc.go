// Package member reaches one member cluster.
//
// [Config] turns a kubeconfig, which is untrusted input, into a rest.Config
// that is rebuilt field by field from an allow-list: nothing that runs a
// program, reads a file or weakens TLS gets through. [Connect] makes the
// clients of one member from such a configuration.
//
// Guaranteed: every call but a watch has a deadline; at most a fixed number of
// calls are in flight per member, whoever makes them, and nobody holds a slot for
// longer than that deadline, however slow an answer is. That number halves when
// the API server answers "later" (429, also from priority and fairness) and comes
// back slowly; no call goes before the time that Retry-After names. An API server
// that has stopped answering is asked one call at a time, with pauses of up to
// five seconds, until it does; other calls fail at once meanwhile. No error of
// this package contains a value of a kubeconfig. [ReasonOf] classifies every error
// of a member by its type, never by its text.
//
// Not guaranteed: that the cluster behind a kubeconfig is the intended one.
// [Member.ClusterUID] tells clusters apart; comparing is the caller's part.
package member
