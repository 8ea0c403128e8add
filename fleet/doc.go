// Package fleet is the fleet as written in Git: it reads every file, checks
// it, fills in what was left out, and says where every problem is.
//
// [Load] works in this order: find the files, split them into documents, check
// each document against the JSON Schema of its kind, read the manifests that
// networks deliver, fill in the defaults, and run the rules between fields and
// between objects. Each step goes on after a problem, so that one run reports all
// of them; a rule says nothing about a field that the schema has already refused.
//
// It guarantees: the same files give the same fleet and the same problems in
// the same order; a fleet that has an error is not returned at all; nothing
// that a file says is ignored without a problem; symbolic links are not
// followed, and a hostile file costs bounded time and memory.
//
// It does not know releases, charts or clusters: whether a version exists is
// the catalog's answer, and whether a cluster can be reached the reconciler's.
// They report positions through [Fleet.ProblemAt]. It does no I/O beyond the
// given fs.FS, save that the names of time zones are looked up in the system's
// database before the built-in one.
package fleet
