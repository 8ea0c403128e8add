package catalog

import (
	"io/fs"
	"slices"

	istio127 "istio.example/istio127/manifests"
	istio128 "istio.example/istio128/manifests"
	istio129 "istio.example/istio129/manifests"
	istio130 "istio.example/istio130/manifests"
	istio131 "istio.io/istio/manifests"
)

// hub has the images of every release of Istio.
const hub = "docker.io/istio"

// Builtin returns the releases whose charts are part of this binary.
func Builtin() *Catalog {
	releases := []Release{
		builtin("1.31.0", istio131.FS, facts{
			kubernetes: Range{"1.32", "1.36"}, gatewayAPI: "v1.6.0", upgradeFrom: "1.30",
		}),
		builtin("1.30.4", istio130.FS, facts{
			kubernetes: Range{"1.32", "1.36"}, gatewayAPI: "v1.5.1", upgradeFrom: "1.29", endOfLife: "2026-11",
		}),
		builtin("1.29.1", istio129.FS, facts{
			kubernetes: Range{"1.31", "1.35"}, gatewayAPI: "v1.4.0", upgradeFrom: "1.28", endOfLife: "2026-08",
		}),
		builtin("1.28.2", istio128.FS, facts{
			kubernetes: Range{"1.30", "1.34"}, gatewayAPI: "v1.4.0", upgradeFrom: "1.27", endOfLife: "2026-07-01",
		}),
		builtin("1.27.9", istio127.FS, facts{
			kubernetes: Range{"1.29", "1.33"}, gatewayAPI: "v1.3.0", upgradeFrom: "1.26", endOfLife: "2026-04-07",
		}),
	}
	return &Catalog{
		releases: releases,
		channels: []Channel{{Rapid, "1.31.0"}, {Stable, "1.30.4"}},
		hazards:  slices.Clone(hazards),
	}
}

// facts are what Istio publishes about a release, beside its version.
type facts struct {
	kubernetes                         Range
	gatewayAPI, upgradeFrom, endOfLife string
}

func builtin(version string, charts fs.FS, f facts) Release {
	return Release{
		Version: version, Minor: Minor(version),
		Hub: hub, Tag: version,
		Kubernetes: f.kubernetes, GatewayAPI: f.gatewayAPI,
		UpgradeFrom: f.upgradeFrom, EndOfLife: f.endOfLife,
		Charts: charts,
	}
}
