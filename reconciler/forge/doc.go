// Package forge speaks to the servers on which changes are reviewed: GitHub,
// GitLab, Gitea and Forgejo, and Azure DevOps. It does what a review needs and
// no more: one comment on a pull request, and the statuses of a commit. For those who
// propose a change it also opens the pull request.
//
// Order: [Detect] reads from a CI system's variables which pull request is looked
// at, without I/O. [Fit] cuts a report to what a comment may hold, also without.
// [New] makes a client; [Client.Comment], [Client.Revise] and [Client.Status] ask
// what is there, and write only if that is something else. So does [Client.Open] with
// the pull request of a branch, which [Git] says how to push; [Client.Pulls] lists what
// became of earlier ones.
//
// Guarantees: a comment is found again by the marker in its first line, see
// [Marker], and by its author: what other accounts wrote is never touched,
// whatever they put into it. Of several of ours with one marker the oldest stays
// and is edited, so two jobs at once, or a write whose answer was lost, end with
// one. Statuses have the contexts of [Context], and a description that the forge
// takes.
//
// A token is sent in a header, over TLS or on loopback, to the host of
// [Target].API and to no other: a redirect elsewhere is an error, and so is one
// that would turn a write into a read. It is in no error. Calls have a time and
// answers a size; calls that were not acted on, or that can be made twice, are
// made again a few times when the server is busy or away, and never before the
// time that it asks for. Errors say what is missing, such as a permission.
//
// Non-guarantees: when two jobs write different reports, the last one stays; CI
// should call off the job of an older push. Text that a forge shows in another way
// than it was given is not corrected.
package forge
