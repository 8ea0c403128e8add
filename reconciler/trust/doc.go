// Package trust makes the certificate hierarchy of a network: a root CA with its
// key in a vault, one intermediate CA per member, and the cacerts Secret by which
// a member's istiod signs workload certificates.
//
// Order: [Authority.Roots] reads the generations of the root, and makes the first.
// [Decide] works out, from what members are proven to serve, whether another one
// is to be made, which of them each member trusts, and which one signs it.
// [Authority.Issue] makes what that says: an intermediate, or another list of
// roots with the same one, and keeps it in the vault before it is handed out.
// [Chain.Secret] is built in memory for each delivery. [Authority.CSR] and
// [Authority.Import] stand in for making a root where somebody's own PKI signs it;
// [Authority.Revoke] puts intermediates on the lists that chains carry.
//
// Guarantees: a chain that does not verify is an error and is never returned; an
// intermediate never outlives its root; a failed read of the vault never makes a
// new CA, and never takes away what a member has; of several replicas that make
// one root all get the same; a list of roots is only replaced by one that contains
// it or is contained in it; nothing is signed by a clock that is known to be wrong;
// nothing here logs, and no error holds key material.
//
// Non-guarantees: what members serve is not looked at here; see package proof. Who
// writes a member's document has to be one at a time: of two that renew it at
// once, both are right, and the last one's stays.
package trust
