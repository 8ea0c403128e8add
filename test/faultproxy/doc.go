// Package faultproxy is a proxy that stands between a reconciler and the API
// server of a member, and lets go wrong what goes wrong in networks.
//
// It has a listener and a certificate of its own and speaks HTTP/1.1 and HTTP/2,
// so that a client behind it meets faults as it meets them in life: as resets of
// TCP, silence on a connection, certificates that changed, bodies that end too
// soon. [Proxy.Kubeconfig] takes the place of the member's; everything else
// about the member stays real.
//
// Order: [Start], hand out the kubeconfig, then per fault [Proxy.Inject] rules,
// or break connections ([Proxy.Mute], [Proxy.ResetConnections]) or the
// certificate ([Proxy.ChangeCertificate]), look at [Proxy.Calls], and
// [Proxy.Heal]. Every rule that matches a call and is lucky acts on it, in the
// order given, the first one outermost.
//
// Guarantees: without rules calls and answers pass unchanged, watches as they
// come; calls are recorded in the order in which they arrive; chances come from
// one seed, which [Proxy.Seed] tells, so that a run can be repeated as far as
// the order of calls repeats. Everything is safe for concurrent use.
//
// Non-guarantees: the order of calls that a client makes at the same time; and
// what the API server did with a call whose answer was lost.
//
// For a fault in a single package, membertest.Wire is smaller: it works inside
// of the client and knows no connections.
package faultproxy
