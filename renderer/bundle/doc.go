// Package bundle is what one member should run: an immutable, sorted list of
// objects with a digest, and the Kustomize files and inventory made from it.
//
// # Order
//
// Objects are sorted by stage, then kind, namespace, name and group. [New]
// sorts, so that the order in which objects were made never shows.
//
// # Labels
//
// Every object carries [NetworkLabel], by which a reconciler lists what isthmus
// owns on a member, and [ComponentLabel]. On disk the CRDs of a release appear
// once for all networks, without the former; each member's kustomization puts it
// on.
//
// # Pruning
//
// An object with the annotation [PruneAnnotation] set to [PruneRelease] is
// never deleted by isthmus. When it leaves the desired state, or its member
// leaves the network, the reconciler gives up the fields that its field manager
// owns (server-side apply of an object without them) and leaves the object
// itself alone. Namespaces that people's workloads live in are delivered so:
// only their labels are ours. Every other object is deleted.
//
// # What it guarantees
//
// The same objects in any order give the same bytes and the same digest. A
// bundle never contains a Secret: [New] refuses one. Building the member's
// folder with Kustomize gives exactly the bundle's objects.
//
// # What it does not
//
// Nothing is written to disk here; [Files] returns paths and bytes, and a [Layout]
// does so again and again without encoding anew what has not changed. Objects are
// shared between the bundles of one rendering and must not be changed: whoever
// wants to, copies first.
package bundle
