// Package status decides the conditions of fleets, networks and members. It is
// the only place that does: callers describe what happened as an outcome, at the
// end of a reconcile, and write what comes back.
//
// Guarantees: pure; the same outcome gives the same conditions. Ready is always
// there; Reconciling and Stalled only while true, as Flux has them. Messages hold
// no times that go on, counts of tries or secrets, so that they change only with
// meaning.
//
// Non-guarantees: conditions come without transition times and generations; the
// writer adds them.
package status
