// Package v1alpha1 holds the kinds of isthmus: ApplicationNetwork and Member,
// which people write in Git, and Fleet, which tells a hub where that Git
// repository is. One Go type per kind is at once the file format, the hub's
// custom resource and the published JSON Schema.
//
// The types carry meaning, defaults and bounds only; the rules between fields
// and between objects are in package fleet.
//
// +kubebuilder:object:generate=true
// +groupName=isthmus.dev
package v1alpha1
