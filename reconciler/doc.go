// Package reconciler is the loop: it follows the repository of a Fleet, holds
// the hub's ApplicationNetworks and Members to what Git says, delivers each
// member's bundle, watches drift and reports.
//
// Order for a fleet: fetch, load, render, guard, accept, publish to the hub. For
// a member: connect, trust, apply, watch. The two meet in a store of accepted
// bundles; a commit that does not load, validate or render whole never reaches
// it, so the last good bundles stay in force.
//
// Guarantees: all state is in Git, the hub's objects, the members' inventories
// and the vault, so the process may end at any moment; members are worked on
// independently; status is computed once, by package status, from what happened.
//
// Non-guarantees: rings and maintenance windows are not acted on yet: all
// members receive a commit at once.
package reconciler
