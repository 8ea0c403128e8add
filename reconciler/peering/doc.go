// Package peering decides which members read which, and whether the credential
// that one reads another with is right.
//
// Of two members the reader is the one whose istiod reads, and the peer the one
// that is read. [Peers] tells who reads whom. A [Credential] is a token of the
// peer's reader account, bound to a Secret in the peer, its anchor: without the
// anchor the token is void. It is kept in the reader and nowhere else: the kubeconfig
// in a Secret as istiod wants it, and the token in another, which istiod has as files.
// So the kubeconfig stays when the token is replaced: a changed one has istiod connect
// anew, and may lose the peer's gateways by it. [Judge] says whether it stays, and [Mint] makes another.
//
// A [View] is what one member has of services and serves of those of others: all
// that members see of each other. [Join] puts the views of a network together, and
// tells who reaches which service, and why others do not.
//
// Guarantees: no input and output of its own, no clock; the same credential gives
// the same bytes, by which istiod tells whether to connect anew; and no token in
// anything that is printed, encoded or returned as an error.
//
// Non-guarantees: claims of tokens are read, not verified; who relies on them knows
// the token by a digest or has just got it from the peer.
package peering
