// Package shard divides work among the replicas of isthmus, so that no piece of
// work is ever done by two of them.
//
// Every replica holds a Lease on the hub. The replicas whose Leases are not
// expired are the view; [Owner] names, for a view and the name of a piece of
// work, the replica that does it. A replica that sees the view change first
// stops what is no longer its own, and waits until it has stopped; then it
// publishes the view in its Lease. It begins what is new to it when every
// replica of the view has published the same one, as a list tells it that was
// asked for afterwards. What it had and keeps goes on without a pause.
//
// Order: [New], then [Replica.Run] beside work that is bracketed by
// [Replica.Enter]; every write in between asks [Check] first.
//
// Guarantees: time is measured by each replica's own monotonic clock, from when
// it saw a Lease change; clocks of machines are never compared, and a clock that
// is set forward or back changes nothing. A replica that could not renew its
// Lease for [Options].Deadline stops by itself, before any other may take over,
// and what it had entered fails; afterwards it joins anew. A replica that is
// frozen finds the same out at the first write after it thaws. On stop the Lease
// is released once all work has ended, so that others need not wait. A replica
// that is alone begins at once; what a crashed one left behind expires first.
//
// Non-guarantees: a request that was sent before the freeze may arrive after it;
// only the server that receives it could refuse that. Monotonic clocks that run
// at rates more than a third apart, or stop while the machine goes on (a virtual
// machine that is paused and moved), are not covered. Nor is a Lease that a person
// deletes under a running replica, in the moment in which a new one starts. Work is spread by name
// alone, not by how much it is.
package shard
