// Package trust makes the certificate hierarchy of a network: one root CA, one
// intermediate CA per member, and the cacerts Secret by which a member's istiod
// signs workload certificates.
//
// Order: read or make the root, read or make the member's intermediate, verify
// the whole chain, build the Secret. Keys and certificates live in a vault; the
// Secret is built in memory for each delivery.
//
// Guarantees: a chain that does not verify is an error and is never returned; an
// intermediate never outlives its root; a failed read of the vault never makes a
// new CA; nothing here logs, and no error holds key material.
//
// Non-guarantees: the root is not rotated yet, and only the Directory vault
// exists; see docs/fleet.md.
package trust
