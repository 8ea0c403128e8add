// Package webhook is told of pushes by the servers of repositories.
//
// Order: a request names a fleet by its path, /hook/NAMESPACE/NAME; it is
// checked as the kind of server does it (an HMAC over the body, a token, a
// password); then the fleet's look is due, at once or, when the last was a moment
// ago, soon after.
//
// Guarantees: nothing that a request says is used, so a forged one that passes,
// or one sent again, costs a look and no more. However many come, a fleet has at
// most one look per [Options] Gap because of them, and the last push is always
// looked at. Checks take the same time whatever is wrong, and an unknown fleet is
// answered like a wrong secret. Nothing is asked of the hub for a request; bodies
// are never held in memory, and larger ones than MaxBody are refused.
//
// Non-guarantees: servers may lose webhooks, so fleets are looked at by interval
// as well. TLS is for what stands in front.
package webhook
