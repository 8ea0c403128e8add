// Command bench measures isthmus side by side with what people use today:
// rendering against istioctl manifest generate, delivery against kubectl apply
// --server-side and against Flux's kustomize-controller; and isthmus alone where
// nothing compares: how its cost grows, how soon drift is put back, and what many
// real members cost. make bench runs all of it, -only one part.
//
// Contenders take turns on the same machine, pair by pair, and every other pair
// the other one begins. Ratios are taken within pairs, so that a machine that
// slows down for a while slows both. What is printed is the least, the median
// and the most of all runs; nothing is left out and nothing is repeated.
//
// A bar is compared with the median and only reported: the command fails when a
// contender fails, never because a machine was slow.
package main
