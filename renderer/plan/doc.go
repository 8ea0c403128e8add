// Package plan decides which release each member should run, and why.
//
// [Make] is pure: it looks at the fleet, the catalog and what members are
// observed to run, and at nothing else. Decisions are sorted by member name and
// each carries its reason as text for people.
//
// Who decides, first hit: the member's own spec.upgrade, else its network's. A
// named version is taken; a managed channel leads to its release; with neither,
// a running member keeps what it runs and a new one gets the Stable release. An
// omitted version never upgrades anything.
//
// Problems are positions in the fleet's files. An unknown release is an error
// and stops the commit; hazards, skipped minors and members too far apart are
// warnings, told once per network and release rather than once per member.
package plan
