// Package member reaches one member cluster.
//
// [Config] turns a kubeconfig, which is untrusted input, into a rest.Config
// that is rebuilt field by field from an allow-list: nothing that runs a
// program, reads a file or weakens TLS gets through. [Azure] makes one for an AKS
// cluster from its resource id: the address and the CA come from Azure, through
// the same allow-list, and the token from exactly the identity that the fleet
// names. [Hub] makes one for the cluster that isthmus itself runs in. [Connect]
// makes the clients of one member from any of them.
//
// Guaranteed: every call but a watch has a deadline; at most a fixed number of
// calls are in flight per member, whoever makes them, and nobody holds a slot for
// longer than that deadline, however slow an answer is. That number halves when
// the API server answers "later" (429, also from priority and fairness) and comes
// back slowly; no call goes before the time that Retry-After names. An API server
// that has stopped answering is asked one call at a time, with pauses of up to
// five seconds, until it does; other calls fail at once meanwhile. No error of
// this package contains a value of a kubeconfig, a token or a secret. [ReasonOf]
// classifies every error of a member by its type, never by its text. What Azure
// said of a cluster is used on while Azure does not answer, and a token to its
// end. Only Azure's own word that a resource is not there means [ClusterGone].
//
// What API servers say that they serve is held once for all members that say the
// same.
//
// Not guaranteed: that the cluster behind a kubeconfig is the intended one.
// [Member.ClusterUID] tells clusters apart; comparing is the caller's part.
package member
