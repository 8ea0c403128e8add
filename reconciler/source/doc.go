// Package source reads a fleet from a Git repository. It is the only package
// that imports go-git.
//
// Order: Open a local copy, Fetch the head of a branch, take a Snapshot of one
// commit. The local copy is a cache: it can be deleted at any time, and one that
// cannot be read is made anew.
//
// Guarantees: a Snapshot is immutable and complete; nothing is checked out and
// no file of the repository is run; errors are of type [Error] with a stable
// reason and never carry credentials.
//
// Non-guarantees: a Repository is not safe for use by several goroutines or
// processes at once. Submodules and Git LFS are not followed.
package source
