package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// ErrUnknown is wrapped by every error of [Catalog.Resolve]: the catalog has no
// such release or channel, and only another version or another catalog helps.
var ErrUnknown = errors.New("not in the catalog")

// The channels, as Azure Kubernetes Application Network names them.
const (
	Rapid  = "Rapid"
	Stable = "Stable"
)

// Range is a span of minor versions, both ends included.
type Range struct {
	// Min and Max are minors such as "1.32".
	Min string `json:"min"`
	Max string `json:"max"`
}

// Contains tells whether the version, a minor or a full one, is in the range.
func (r Range) Contains(version string) bool {
	minor := Minor(version)
	return Compare(minor, r.Min) >= 0 && Compare(minor, r.Max) <= 0
}

// String returns "1.32-1.36".
func (r Range) String() string { return r.Min + "-" + r.Max }

// Release is one Istio release.
type Release struct {
	// Version is the full version, "1.30.4".
	Version string `json:"version"`
	// Minor is its minor, "1.30".
	Minor string `json:"minor"`
	// Hub is the registry and path of the release's images.
	Hub string `json:"hub"`
	// Tag of the release's images, without a variant.
	Tag string `json:"tag"`
	// Kubernetes minors that Istio supports with this release.
	// Source: https://istio.io/latest/docs/releases/supported-releases/
	Kubernetes Range `json:"kubernetes"`
	// GatewayAPI is the version of the Gateway API that the release is built
	// with; its standard channel is what members should have.
	GatewayAPI string `json:"gatewayAPI"`
	// UpgradeFrom is the oldest minor from which a member may move here in
	// place. Istio supports one minor at a time.
	UpgradeFrom string `json:"upgradeFrom"`
	// EndOfLife is a day, "2026-07-01", a month while it is only expected,
	// "2026-11", or empty when it is not announced.
	EndOfLife string `json:"endOfLife,omitempty"`
	// Source of the charts; nil when they are part of the binary.
	Source *Source `json:"source,omitempty"`
	// Charts holds the release's Helm charts below "charts": charts/base,
	// charts/istio-control/istio-discovery, charts/istio-cni, charts/ztunnel. Nil
	// as long as a release with a Source has not been fetched.
	Charts fs.FS `json:"-"`
}

// AtLeast tells whether the release is the given version or newer.
func (r Release) AtLeast(version string) bool { return Compare(r.Version, version) >= 0 }

// Channel is a name that leads to a release.
type Channel struct {
	// Name is Rapid or Stable.
	Name string `json:"name"`
	// Version of the release that members of the channel run.
	Version string `json:"version"`
}

// Catalog is an immutable list of releases, channels and hazards.
type Catalog struct {
	releases []Release
	channels []Channel
	hazards  []Hazard
	// gatewayAPIs are the CRDs that were added.
	gatewayAPIs map[GatewayAPI]fs.FS
}

// Releases returns every release, newest first.
func (c *Catalog) Releases() []Release { return slices.Clone(c.releases) }

// Channels returns every channel, the most daring first.
func (c *Catalog) Channels() []Channel { return slices.Clone(c.channels) }

// Hazards returns the whole hazard table.
func (c *Catalog) Hazards() []Hazard { return slices.Clone(c.hazards) }

// HazardsOf returns the hazards that the given version is affected by, in the
// order of the table.
func (c *Catalog) HazardsOf(version string) []Hazard {
	var out []Hazard
	for _, hazard := range c.hazards {
		if hazard.Matches(version) {
			out = append(out, hazard)
		}
	}
	return out
}

// Release returns the release with exactly the given full version.
func (c *Catalog) Release(version string) (Release, bool) {
	for _, release := range c.releases {
		if release.Version == version {
			return release, true
		}
	}
	return Release{}, false
}

// Resolve returns the release that a channel and a version, as a fleet writes
// them, lead to. A full version is taken as it is, a minor means its newest
// patch, and without a version the channel decides; with neither it is the
// Stable release. Errors wrap [ErrUnknown].
func (c *Catalog) Resolve(channel, version string) (Release, error) {
	if version == "" {
		return c.resolveChannel(channel)
	}
	for _, release := range c.releases {
		if release.Version == version || release.Minor == version {
			return release, nil
		}
	}
	return Release{}, fmt.Errorf("release %q is %w", version, ErrUnknown)
}

// ResolveChannel returns the release of a channel for a version of Kubernetes:
// the channel's own, or the newest before it that supports that version. Where
// the version is not known, or no release supports it, it is the channel's own.
// Errors wrap [ErrUnknown].
func (c *Catalog) ResolveChannel(name, kubernetes string) (Release, error) {
	own, err := c.resolveChannel(name)
	if err != nil || kubernetes == "" {
		return own, err
	}
	for _, release := range c.releases {
		if Compare(release.Version, own.Version) <= 0 && release.Kubernetes.Contains(kubernetes) {
			return release, nil
		}
	}
	return own, nil
}

func (c *Catalog) resolveChannel(name string) (Release, error) {
	if name == "" {
		name = Stable
	}
	for _, channel := range c.channels {
		if channel.Name != name {
			continue
		}
		if release, ok := c.Release(channel.Version); ok {
			return release, nil
		}
		return Release{}, fmt.Errorf("release %q of channel %q is %w", channel.Version, name, ErrUnknown)
	}
	return Release{}, fmt.Errorf("channel %q is %w", name, ErrUnknown)
}
