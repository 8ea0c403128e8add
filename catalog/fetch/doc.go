// Package fetch brings what a fleet asks for and the binary lacks into the
// catalog: charts from OCI registries and the Gateway API's CRDs from a Go
// module proxy.
//
// It is the edge at which downloading happens, before anything is planned or
// rendered. [Fetcher.Fetch] takes the needs of a fleet, which a pure function
// says, and returns a catalog with the additions.
//
// # What is guaranteed
//
//   - Nothing unverified gets into the catalog. A chart is what its digest in the
//     fleet says: the digest covers the manifest, the manifest names the layer.
//     A version of the Gateway API is what the catalog's checksum says, which
//     covers the whole module. Both are checked whenever they are read, from the
//     cache too: a damaged entry is fetched anew.
//   - What is in the cache needs no network.
//   - Charts are unpacked in memory alone; links, paths that lead out, and
//     archives beyond the limits are refused.
//   - Entries of the cache are named by their content and written whole or not at
//     all: any number of processes may share it, and it may be lost at any time.
//   - Every failure is told, each with a stable reason and what to do. None has a
//     password in it.
//
// # What is not
//
// Tags are never read, so nothing is told of newer releases. Signatures are not
// checked: a digest is reviewed in Git. Plain HTTP is spoken to registries at
// loopback addresses only.
package fetch
