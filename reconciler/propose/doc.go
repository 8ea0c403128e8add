// Package propose brings changes of a fleet to a forge: a branch with one commit, and a
// pull request of it that says why.
//
// What is done about a proposal is decided from what is there, by [Next], without I/O:
// the commit at the head of its branch, and the pull requests of that branch.
// [Session.Propose] asks for those and does it; [Session.Withdraw] closes proposals that
// are not wanted any more.
//
// Guarantees: done again, nothing is written when nothing changed. A branch is made
// anew on a base that moved only if its one commit is ours, which its author, its parent
// and a line with its tree's hash say; what a person committed is never lost, and the
// branch is then left alone. A pull request that was closed without a merge is not
// opened again for the same version. Pull requests without our marker in the first line
// of their description are not touched.
//
// Non-guarantees: commits are not signed. Two jobs at once may both write; the branch
// is compared when it is pushed, so one of them fails and is run again.
package propose
