// Package kustomize builds a folder of files in memory with Kustomize, and
// applies single patches with Kustomize's own transformer.
//
// It is the only package that runs Kustomize, because Kustomize keeps state for
// the whole process: schemas that one build brings along change every later
// one, and two builds at once crash. [Build] runs one at a time, starts each
// from the built-in schemas, and turns a panic into an error.
//
// Nothing outside the given files is read: no remote base, no Helm chart, no
// plugin, no function, no schema of the user's. A kustomization that asks for
// one of these is an error before Kustomize sees it.
//
// A [Patch] is applied to one object at a time. It gives what a kustomization
// with that patch would give, without building all the objects it is not for.
package kustomize
