// Package signature checks signatures of commits and tags, of OpenPGP and of
// SSH. It is pure: the time is passed in, and nothing is read.
//
// Order: read the keys (ParseKeys), part an object into what was signed and the
// signature (Commit, Tag), compare (Keys.Verify).
//
// Guarantees: only a signature over all bytes of the object by one of the keys
// passes; names and e-mail addresses that an object or a key gives of itself
// decide nothing. Keys count as they are at the given time, not at the date that
// an object claims: whoever holds an expired or revoked key could claim any.
//
// Non-guarantees: X.509 signatures, SSH certificates and OpenPGP's web of trust
// are not followed.
package signature
