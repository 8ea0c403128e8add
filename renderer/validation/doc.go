// Package validation says what a member's API server and istiod would say of an
// object, before anything is delivered.
//
// It is the only package that imports Istio's validators, Istio's and the
// Gateway API's types, and the API server's engine of schemas and CEL rules.
//
// # Order
//
// [Definitions.Check] stops at the first step that finds something, since what
// follows would only say the same again:
//
//   - the schema of the kind: that of its CRD, with the CRD's CEL rules, where
//     there is one; else the fields and types of the Go type. Fields that it does
//     not have are found, not dropped;
//   - for Istio's kinds, what istiod's webhook checks.
//
// Definitions are those of one release: a field that came later is found.
// [CheckMeshConfig] and [CheckMesh] do the same for Istio's mesh config, which has
// no CRD.
//
// # What it does not guarantee
//
// Istio's validators are those of one release, the newest that isthmus is built
// with, whatever a member runs. They know no more than one object: whether a
// host or a service exists shows on the member. An EnvoyFilter is checked by its
// schema only; the patches in it are Envoy's. Without a CRD, values are not
// checked beyond their types.
//
// Everything here may be used by several goroutines at once.
package validation
