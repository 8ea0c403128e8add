package renderer_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// TestDefaultsAreWhatTheDocsSay: the reference takes from the types' docs the
// defaults that loading leaves to the charts. Written out, they change nothing.
func TestDefaultsAreWhatTheDocsSay(t *testing.T) {
	for _, tt := range []struct{ without, with, reason string }{
		{"", "  components: {ztunnel: {drain: 25s}}\n", "drain"},
		{"", "  components: {nodes: {excludeVirtual: true}}\n", "virtual nodes"},
		{"", "  components: {istiod: {replicas: {min: 1, max: 5}}}\n", "replicas"},
		{"", "  components: {ztunnel: {logLevel: info}}\n", "log level of the node proxy"},
		{"", "  telemetry: {metrics: {podMonitors: None}}\n", "no PodMonitors"},
		{"  telemetry: {metrics: {podMonitors: Prometheus}}\n", "  telemetry: {metrics: {podMonitors: Prometheus, interval: 30s}}\n", "interval"},
		{"  components: {waypoints: {replicas: {min: 2}}}\n", "  components: {waypoints: {replicas: {min: 2, max: 5}}}\n", "most replicas"},
		{"  components: {waypoints: {replicas: {max: 7}}}\n", "  components: {waypoints: {replicas: {min: 1, max: 7}}}\n", "least replicas"},
	} {
		for _, release := range catalog.Builtin().Releases() {
			digest := func(settings string) string {
				return render(t, load(t, fstest.MapFS{
					"network.yaml": {Data: []byte(networkFile + settings)},
					"member.yaml":  {Data: []byte(memberFile("one", release.Version))},
				}))[0].Digest
			}
			if digest(tt.without) != digest(tt.with) {
				t.Errorf("%s: on %s the default that the docs state is another bundle", tt.reason, release.Version)
			}
		}
	}
}

// A level that is written is for all scopes, so its bundle is another one.
func TestDefaultLogLevels(t *testing.T) {
	eachRelease(t, func(t *testing.T, b bundle.Bundle) {
		for name, level := range map[string]string{"istiod": "=default:info", "istio-cni-node": "=info"} {
			kind := map[string]string{"istiod": "Deployment", "istio-cni-node": "DaemonSet"}[name]
			if args := fmt.Sprint(container(t, b, kind, name)["args"]); !strings.Contains(args, "--log_output_level"+level) {
				t.Errorf("%s runs with %s", name, args)
			}
		}
	})
}
