// Package deletion says what a commit takes off members that stay in the mesh, and
// whether that is more than the deletion guard lets pass. The reconciler stops by it, and
// a review foretells by it.
//
// Order: [Of] compares the bundles of two commits; [Deletions.Excess] judges;
// [Deletions.Token] names what was judged, for a fleet to say that it is meant.
//
// Guarantees: it depends on the bundles alone, and the same deletions have the same token.
//
// Non-guarantees: what a member really has is not known here; members that leave have a
// guard of their own.
package deletion
