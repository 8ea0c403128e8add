// Package apply brings one member to what a bundle says, keeps it there, and
// takes everything away again when the member leaves.
//
// [Apply] is the one way of writing, for delivery and for drift alike. Its
// order: the system namespace; the inventory, written ahead; then stage by
// stage (see bundle.Stages), each healthy before the next begins; then what
// only the old inventory lists is pruned, in reverse order; last the final
// inventory. Accounts, rights, configuration and Services of later stages that
// are not there yet come as soon as the CRDs are written: they do nothing of
// themselves, and the API server takes its time until it serves new kinds. [Correct] is the same for single objects, [Watch] tells which,
// and [Remove] is the way back.
//
// The inventory lives on the member, in the system namespace. So that
// namespace comes first and goes last: as long as anything of ours is left, the
// list of it is there too, whoever looks and whatever was interrupted.
//
// Guaranteed:
//   - Nothing is created before the inventory on the member lists it, so a
//     process that dies at any moment leaves no orphan; the next call goes on.
//   - Nothing is written when nothing changed. What is known from a watch or
//     from the last write costs no request; the rest is compared by server-side
//     dry run.
//   - Only what the inventory lists is pruned, only after every desired object
//     was applied, and only if it is still ours. Deleting what is gone succeeds.
//   - What was there before us is not taken over unless the set says so; what
//     another network has never is.
//   - Nothing that runs, keeps or defines something is deleted to be created
//     anew: bindings, Jobs and ConfigMaps are, where a field cannot change.
//   - Secrets of the set are put back before anything else, and hold nothing that
//     others put there.
//   - A failing object does not keep the others of its stage back; later stages
//     do not start. Every failure names its object and has a reason.
//   - Secrets are listed and watched in the system namespace only. A search of the
//     whole member tries more, and does without where that is refused.
//   - No value of a Secret is received, remembered or part of an error: answers
//     are metadata only, and hashes of Secrets are keyed and stay in memory.
//
// Not guaranteed: that a healthy stage stays healthy, and that two processes
// with different sets for one member agree; leader election is the caller's.
//
// Most fields that others own are left alone because they are not part of what
// we apply, and server-side apply touches nothing else. Those that are part of it
// and may be taken by others are in [OthersFields] and in a set's [Drift]: they
// are set when an object is made, and left out of later applies once somebody
// else owns them.
package apply
