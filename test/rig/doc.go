// Package rig sets up what an end-to-end test or the demo needs: a hub, member
// clusters, a Git repository and a reconciler that connects them. All of it is
// real and runs on this machine; see package controlplane.
//
// Order: Start, Push a fleet, Follow it, run a reconciler, wait for what should
// happen, Stop.
package rig
