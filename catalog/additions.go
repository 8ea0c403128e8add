package catalog

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Source says where the charts of a release are that is not part of the binary.
// Sources are comparable; equal digests mean equal charts.
type Source struct {
	// Repository of an OCI registry, without a scheme, below which each chart has
	// a repository of its own: base, istiod, cni, ztunnel.
	Repository string `json:"repository"`
	// Digests of the charts' manifests, each "sha256:" and 64 hex digits.
	Digests Digests `json:"digests"`
}

// Digests are those of a release's charts, by the names that Istio publishes
// them under.
type Digests struct {
	Base    string `json:"base"`
	Istiod  string `json:"istiod"`
	CNI     string `json:"cni"`
	Ztunnel string `json:"ztunnel"`
}

// Chart is one chart of a [Source].
type Chart struct {
	// Name of the chart in the registry, "istiod".
	Name string
	// Folder of it in [Release.Charts], "charts/istio-control/istio-discovery".
	Folder string
	// Digest of its manifest.
	Digest string
}

// Charts returns the four charts of the source, always in the same order.
func (s Source) Charts() []Chart {
	return []Chart{
		{Name: "base", Folder: "charts/base", Digest: s.Digests.Base},
		{Name: "istiod", Folder: "charts/istio-control/istio-discovery", Digest: s.Digests.Istiod},
		{Name: "cni", Folder: "charts/istio-cni", Digest: s.Digests.CNI},
		{Name: "ztunnel", Folder: "charts/ztunnel", Digest: s.Digests.Ztunnel},
	}
}

// Needs is what a fleet asks for that is not part of the binary.
type Needs struct {
	// Releases whose charts are to be fetched, each with its Source.
	Releases []Release
	// GatewayAPIs whose CRDs are to be fetched.
	GatewayAPIs []GatewayAPI
}

// Empty tells whether nothing is to be fetched.
func (n Needs) Empty() bool { return len(n.Releases) == 0 && len(n.GatewayAPIs) == 0 }

// Key is the same for equal needs and different for others.
func (n Needs) Key() string {
	var b strings.Builder
	for _, release := range n.Releases {
		fmt.Fprintf(&b, "%s %v\n", release.Version, release.Source.Digests)
	}
	for _, api := range n.GatewayAPIs {
		fmt.Fprintln(&b, api)
	}
	return b.String()
}

// Additions are what was fetched for the [Needs] of a fleet.
type Additions struct {
	// Releases with their charts.
	Releases []Release
	// GatewayAPIs are the CRDs, one YAML file per kind in each file system.
	GatewayAPIs map[GatewayAPI]fs.FS
}

// With returns the catalog with the additions; the receiver stays as it is. A
// version that the catalog has already keeps its charts.
func (c *Catalog) With(a Additions) *Catalog {
	out := *c
	out.releases = slices.Clone(c.releases)
	for _, release := range a.Releases {
		if _, known := out.Release(release.Version); !known {
			out.releases = append(out.releases, release)
		}
	}
	slices.SortStableFunc(out.releases, func(a, b Release) int { return Compare(b.Version, a.Version) })
	out.gatewayAPIs = map[GatewayAPI]fs.FS{}
	for api, files := range c.gatewayAPIs {
		out.gatewayAPIs[api] = files
	}
	for api, files := range a.GatewayAPIs {
		out.gatewayAPIs[api] = files
	}
	return &out
}

// Seen returns the catalog as those see it who declare the given sources, by
// version: without the releases that only others declare.
func (c *Catalog) Seen(declared map[string]Source) *Catalog {
	hidden := func(r Release) bool {
		return r.Source != nil && declared[r.Version].Digests != r.Source.Digests
	}
	if !slices.ContainsFunc(c.releases, hidden) {
		return c
	}
	out := *c
	out.releases = slices.DeleteFunc(slices.Clone(c.releases), hidden)
	return &out
}

// Derive returns a release that the catalog does not know, without its charts.
// What Istio publishes of a release is taken from the newest known one of the
// same minor. Without any, known is false, and it is taken from the newest of
// all; then the release may be moved to from the minor before.
func (c *Catalog) Derive(version string, source Source) (release Release, known bool) {
	minor := Minor(version)
	for _, r := range c.releases {
		if r.Source != nil {
			continue
		}
		if r.Minor == minor {
			release, known = r, true
			break
		}
		if release.Version == "" {
			release = r
		}
	}
	if !known {
		release.UpgradeFrom, release.EndOfLife = Previous(minor), ""
	}
	release.Version, release.Minor, release.Tag = version, minor, version
	release.Source, release.Charts = &source, nil
	return release, known
}
