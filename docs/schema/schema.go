// Package schema holds the published JSON Schemas of the files that people
// write, one per kind, named "<kind>.v1alpha1.json" in lower case. They are
// generated from the Go types; editors read them from this folder, and
// fleet.Load checks files against the same bytes, so that the two never
// disagree.
package schema

import "embed"

// Files are the schemas.
//
//go:embed *.json
var Files embed.FS
