// Package renderer turns a fleet into one bundle per member.
//
// [Render] is the whole story: plan which release each member runs, make its
// objects, add people's own manifests, patch them all, bundle them. It is pure.
// There is no network, disk, clock, randomness or logging below it; the same
// fleet, catalog and observations give the same bytes, in whatever order they
// came. A preview in CI, a diff and the reconciler call the same function and get
// the same answer.
//
// Patches of the fleet are applied last, to the objects themselves: bundles and
// the files made from them hold objects already patched, so that what a person
// builds from the files is what is applied. A member without patches never meets
// Kustomize. Kustomize runs once for what members share, also where they differ in
// no more than their names, networks and addresses: what it makes is then filled in
// for each. Where a patch looks at one of these, it runs for that member alone.
//
// Bundles are sorted by member name. A fleet with an error in it renders
// nothing: a member is never given half of what was meant.
//
// Charts take a moment to run the first time. A [Renderer] keeps what members
// share, and the bundles, from one rendering to the next: an edit costs what depends
// on it. What the last fleet that rendered does not need is not kept. Whoever
// renders again and again holds on to one for each fleet.
package renderer
