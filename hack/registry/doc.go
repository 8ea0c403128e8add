// Package registry pins the OCI registry that tests run as a process: the one of
// go-containerregistry, in memory. Nothing of it is part of isthmus.
package registry
