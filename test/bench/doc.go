// Command bench measures isthmus side by side with what people use today:
// rendering against istioctl manifest generate, delivery against kubectl apply
// --server-side. make bench runs it.
//
// Contenders take turns on the same machine, pair by pair, and every other pair
// the other one begins. Ratios are taken within pairs, so that a machine that
// slows down for a while slows both. What is printed is the least, the median
// and the most of all runs; nothing is left out and nothing is repeated.
//
// A bar is compared with the median and only reported: the command fails when a
// contender fails, never because a machine was slow.
package main
