package catalog

import (
	"io/fs"
	"maps"
	"slices"
)

// The channels of the Gateway API, as its CRDs are annotated.
const (
	ChannelStandard     = "standard"
	ChannelExperimental = "experimental"
)

// GatewayAPI names a set of the Gateway API's CRDs.
type GatewayAPI struct {
	// Version such as "v1.5.1".
	Version string `json:"version"`
	// Channel is [ChannelStandard] or [ChannelExperimental].
	Channel string `json:"channel"`
}

// String returns "v1.5.1 standard".
func (g GatewayAPI) String() string { return g.Version + " " + g.Channel }

// GatewayAPIModule is the Go module whose zip has the CRDs.
const GatewayAPIModule = "sigs.k8s.io/gateway-api"

// gatewayAPISums are the checksums of the module's versions, in the form of
// go.sum: what they cover is the content of the whole module.
var gatewayAPISums = map[string]string{
	"v1.3.0": "h1:q6okN+/UKDATola4JY7zXzx40WO4VISk7i9DIfOvr9M=",
	"v1.4.0": "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
	"v1.5.1": "h1:RqVRIlkhLhUO8wOHKTLnTJA6o/1un4po4/6M1nRzdd0=",
	"v1.6.0": "h1:735YBRj5NXFrOGX0GoSjwzUIzbz8kiEOfADsqHFmHgE=",
}

// GatewayAPIVersions returns the versions of the Gateway API that can be
// delivered, oldest first.
func GatewayAPIVersions() []string {
	return slices.SortedFunc(maps.Keys(gatewayAPISums), Compare)
}

// GatewayAPISum returns the checksum of a version of [GatewayAPIModule] as go.sum
// has it, and false for a version that is not known.
func GatewayAPISum(version string) (string, bool) {
	sum, ok := gatewayAPISums[version]
	return sum, ok
}

// GatewayAPI returns the CRDs of a version and channel, with the policy that
// guards them where the version has one: one YAML file per kind. It is false
// unless they were added; see [Catalog.With].
func (c *Catalog) GatewayAPI(api GatewayAPI) (fs.FS, bool) {
	files, ok := c.gatewayAPIs[api]
	return files, ok
}

// KindMinimum is the oldest version of the Gateway API from which a release of
// Istio reads a kind. It leaves objects of the kind alone below that.
type KindMinimum struct {
	// Kind such as "TLSRoute".
	Kind string `json:"kind"`
	// Since is the version of the Gateway API, "v1.5.0".
	Since string `json:"since"`
}

// kindMinimums by the minor of Istio that brought them.
// Source: pkg/kube/kclient/crdwatcher.go, from 1.30 pkg/config/schema/gatewayapi,
// in the releases of the catalog.
var kindMinimums = []struct {
	istio string
	KindMinimum
}{
	{"1.27", KindMinimum{"GRPCRoute", "v1.1.0"}},
	{"1.28", KindMinimum{"BackendTLSPolicy", "v1.4.0"}},
	{"1.30", KindMinimum{"TLSRoute", "v1.5.0"}},
	{"1.31", KindMinimum{"TCPRoute", "v1.6.0"}},
}

// Unread returns the kinds of the Gateway API that the release leaves alone
// where the CRDs are of the given version.
func (r Release) Unread(gatewayAPI string) []KindMinimum {
	var out []KindMinimum
	for _, minimum := range kindMinimums {
		if r.AtLeast(minimum.istio) && Compare(gatewayAPI, minimum.Since) < 0 {
			out = append(out, minimum.KindMinimum)
		}
	}
	return out
}
