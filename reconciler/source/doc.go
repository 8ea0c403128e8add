// Package source reads a fleet from a Git repository. It is the only package
// that imports go-git.
//
// Order: Open a local copy; Fetch what a branch, a tag, a range of versions or a
// commit leads to, with as much history as it takes to tell whether it descends
// from the accepted commit; Verify its signatures; take a Snapshot of one commit.
// The local copy is a cache: it can be deleted at any time, and one that cannot
// be read is made anew.
//
// What is proposed goes the other way: Draft makes a commit that changes files of
// another one, and Push has a branch of the server lead to it, if the branch is still
// where it was looked at.
//
// Guarantees: a Snapshot is immutable and complete; nothing is checked out and
// no file of the repository is run; a look with nothing new is one request; what
// a server sends is bounded in bytes, objects, their sizes and time, on the wire,
// on disk and in memory, each limit with its reason; that a commit descends from
// another is proven by hashes. Credentials go to the host of the URL alone. Errors
// are of type [Error] with a stable reason and never carry credentials.
//
// Non-guarantees: a Repository is not safe for use by several goroutines or
// processes at once. Submodules and Git LFS are not followed. That a commit does
// not descend from another is known only up to MaxHistory commits back.
package source
