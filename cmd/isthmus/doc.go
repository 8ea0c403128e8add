// Command isthmus joins Kubernetes clusters into one Istio ambient mesh from a
// Git repository.
//
// It is the only package that prints. Every command reads its input, calls one
// library function, and prints what came back: the answer on stdout; problems,
// progress and hints on stderr, each line led by "isthmus:". In validate the
// problems are the answer. With -o json the answer is one document with an
// apiVersion and a kind.
//
// Text that comes from a fleet or a cluster never reaches a terminal raw:
// control characters are shown escaped. No output holds key material.
//
// Exit codes: 0 fine, 1 problems or a difference, 2 could not run.
package main
