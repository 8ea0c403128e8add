// Package xds watches what an istiod tells its data plane: the services and
// workloads of the whole mesh, as ztunnel gets them.
//
// [Open] subscribes to everything of type istio.workload.Address over delta xDS, at
// the plain gRPC port of an istiod (15010), which asks for no credential.
// [Watch.Wait] waits until what is there is as a test wants it, and tells when the
// response came that made it so. [Options.Changed] sees every state in turn, for
// what must never happen, not even for a moment.
//
// Guarantees: a state has all of a response or nothing of it; none is left out; a
// watch that has broken says so and never goes on with what it had.
//
// Non-guarantees: istiod joins changes that come in quick succession, so that what
// was there between them is not seen, as it is not by ztunnel.
package xds
