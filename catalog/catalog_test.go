package catalog_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/catalog"
)

func TestCompare(t *testing.T) {
	tests := []struct {
		a, b   string
		want   int
		reason string
	}{
		{"1.9.0", "1.30.0", -1, "parts are numbers, not text"},
		{"1.30", "1.30.0", 0, "a missing patch is zero"},
		{"1.30.10", "1.30.9", 1, "patches are numbers too"},
		{"2.0.0", "1.99.99", 1, "the major comes first"},
	}
	for _, tt := range tests {
		if got := catalog.Compare(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: Compare(%q, %q) = %d, want %d", tt.reason, tt.a, tt.b, got, tt.want)
		}
	}
}

func TestResolve(t *testing.T) {
	tests := []struct {
		channel, version string
		want             string
		reason           string
	}{
		{"", "1.30.4", "1.30.4", "a full version is exact"},
		{"", "1.29", "1.29.1", "a minor means its newest patch"},
		{"Rapid", "", "1.31.0", "a channel names a release"},
		{"Stable", "", "1.30.4", "a channel names a release"},
		{"", "", "1.30.4", "nothing means Stable"},
		{"", "1.26", "", "a minor that the catalog lacks"},
		{"", "1.30.99", "", "a patch is never replaced by another"},
		{"Nightly", "", "", "a channel that the catalog lacks"},
	}
	for _, tt := range tests {
		release, err := catalog.Builtin().Resolve(tt.channel, tt.version)
		if release.Version != tt.want {
			t.Errorf("%s: Resolve(%q, %q) = %q, want %q", tt.reason, tt.channel, tt.version, release.Version, tt.want)
		}
		if unknown := errors.Is(err, catalog.ErrUnknown); unknown != (tt.want == "") {
			t.Errorf("%s: Resolve(%q, %q) error = %v", tt.reason, tt.channel, tt.version, err)
		}
	}
}

func TestReleasesAreNewestFirstAndComplete(t *testing.T) {
	releases := catalog.Builtin().Releases()
	var versions []string
	for i, release := range releases {
		versions = append(versions, release.Version)
		if i > 0 && catalog.Compare(releases[i-1].Version, release.Version) <= 0 {
			t.Errorf("%s is listed before %s", releases[i-1].Version, release.Version)
		}
		for _, chart := range []string{"base", "istio-control/istio-discovery", "istio-cni", "ztunnel"} {
			if _, err := fs.Stat(release.Charts, "charts/"+chart+"/Chart.yaml"); err != nil {
				t.Errorf("release %s: %v", release.Version, err)
			}
		}
		if release.Hub == "" || release.Tag == "" || release.GatewayAPI == "" || release.UpgradeFrom == "" {
			t.Errorf("release %s lacks a field: %+v", release.Version, release)
		}
		if catalog.Compare(release.Kubernetes.Min, release.Kubernetes.Max) > 0 {
			t.Errorf("release %s: Kubernetes %s", release.Version, release.Kubernetes)
		}
	}
	want := []string{"1.31.0", "1.30.4", "1.29.1", "1.28.2", "1.27.9"}
	if diff := cmp.Diff(want, versions); diff != "" {
		t.Errorf("releases (-want +got):\n%s", diff)
	}
}

func TestChannelsLeadToReleases(t *testing.T) {
	c := catalog.Builtin()
	for _, channel := range c.Channels() {
		if _, ok := c.Release(channel.Version); !ok {
			t.Errorf("channel %s leads to %q, which is not in the catalog", channel.Name, channel.Version)
		}
	}
}

func TestRangeContains(t *testing.T) {
	r := catalog.Range{Min: "1.29", Max: "1.33"}
	tests := []struct {
		version string
		want    bool
		reason  string
	}{
		{"1.28.15", false, "older than the range"},
		{"1.29.0", true, "the first patch of the oldest minor"},
		{"1.33.99", true, "every patch of the newest minor"},
		{"1.34.0", false, "newer than the range"},
	}
	for _, tt := range tests {
		if got := r.Contains(tt.version); got != tt.want {
			t.Errorf("%s: Contains(%q) = %t", tt.reason, tt.version, got)
		}
	}
}

func TestHazardMatches(t *testing.T) {
	byID := map[string]catalog.Hazard{}
	for _, hazard := range catalog.Builtin().Hazards() {
		if _, twice := byID[hazard.ID]; twice {
			t.Errorf("hazard %s is listed twice", hazard.ID)
		}
		byID[hazard.ID] = hazard
	}
	tests := []struct {
		id, version string
		want        bool
		reason      string
	}{
		{"PeerRotationGap", "1.29.1", true, "older than the fix"},
		{"PeerRotationGap", "1.30.4", false, "the fix is in"},
		{"PeerRotationDeadlock", "1.29.1", false, "came with 1.30"},
		{"PeerRotationDeadlock", "1.30.2", true, "last affected patch"},
		{"PeerRotationDeadlock", "1.30.3", false, "first fixed patch"},
		{"GatewayDenyAll", "1.29.6", false, "fixed in two minors"},
		{"GatewayDenyAll", "1.30.1", true, "second span"},
		{"IngressFlagDocumentedTrue", "1.31.0", true, "an open end"},
	}
	for _, tt := range tests {
		if got := byID[tt.id].Matches(tt.version); got != tt.want {
			t.Errorf("%s: %s.Matches(%q) = %t", tt.reason, tt.id, tt.version, got)
		}
	}
}

// A fixed version that its own hazard still matches is a slip in the table.
func TestFixedVersionsAreNotAffected(t *testing.T) {
	for _, hazard := range catalog.Builtin().Hazards() {
		for _, fixed := range hazard.Fixed {
			if hazard.Matches(fixed) {
				t.Errorf("hazard %s: fixed in %s and affecting it", hazard.ID, fixed)
			}
		}
		if hazard.Advice == "" || hazard.Summary == "" || hazard.Concern == "" || len(hazard.Affected) == 0 {
			t.Errorf("hazard %s lacks a field", hazard.ID)
		}
	}
}

func TestFactsOfTrust(t *testing.T) {
	type facts struct{ text, restart, outlive, revoke bool }
	for version, want := range map[string]facts{
		"1.27.9": {text: true, restart: true, outlive: true},
		"1.28.2": {text: true, restart: true, outlive: true},
		"1.28.6": {text: true, outlive: true},
		"1.29.1": {text: true, restart: true, outlive: true, revoke: true},
		"1.29.2": {text: true, outlive: true, revoke: true},
		"1.29.3": {text: true, revoke: true},
		"1.30.0": {revoke: true},
		"1.31.0": {revoke: true},
	} {
		r := catalog.Release{Version: version}
		got := facts{r.RootsByText(), r.RestartsForRoots(), r.LeavesOutliveIssuer(), r.ChecksRevocation()}
		if got != want {
			t.Errorf("%s: %+v, want %+v", version, got, want)
		}
	}
}
