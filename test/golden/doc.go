// Package golden holds what fleet-example renders to, for people to see in
// review how a change reaches the members. The test's flag -update writes it
// anew.
//
// members/ has what is one member's own; common/ has what is the same for all of
// them, once. Long texts inside objects, which come from Istio's charts and are
// Istio's, stand as their length and digest; so do the CRDs, one line each in
// crds.sha256.
package golden
