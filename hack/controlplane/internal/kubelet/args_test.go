package kubelet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRelease(t *testing.T) {
	for image, want := range map[string]string{
		"docker.io/istio/pilot:1.31.0":                       "1.31.0",
		"docker.io/istio/pilot:1.30.4-distroless":            "1.30.4",
		"localhost:5000/istio/pilot:1.30.4-debug":            "1.30.4",
		"localhost:5000/istio/pilot":                         "", // the colon is that of a port
		"docker.io/istio/pilot:1.31.0@sha256:0123456789abcd": "1.31.0",
		"docker.io/istio/pilot@sha256:0123456789abcd":        "",
	} {
		if got := Release(image); got != want {
			t.Errorf("%s: release %q, want %q", image, got, want)
		}
	}
}

func TestLocalArgs(t *testing.T) {
	local := map[int32]string{8080: "1", 15017: "2", 15010: "3", 15012: "4", 15014: "5", 9876: "6", 9090: "7"}
	defaults := []string{"--httpAddr=127.0.0.1:1", "--httpsAddr=127.0.0.1:2", "--grpcAddr=127.0.0.1:3", "--secureGRPCAddr=127.0.0.1:4"}
	for _, tt := range []struct {
		reason string
		args   []string
		want   []string
	}{
		{
			"ports that are not in the arguments are the flags' defaults",
			[]string{"discovery", "--monitoringAddr=:15014"},
			append(append([]string{}, defaults...), "--monitoringAddr=127.0.0.1:5", "--ctrlz_port=6"),
		},
		{
			"another port is followed, in both forms of a flag, and the last one counts",
			[]string{"discovery", "--monitoringAddr=:1111", "--monitoringAddr", ":9090"},
			append(append([]string{}, defaults...), "--monitoringAddr=127.0.0.1:7", "--ctrlz_port=6"),
		},
		{
			"what is turned off stays off",
			[]string{"discovery", "--monitoringAddr=", "--ctrlz_port=0"},
			defaults,
		},
	} {
		want := append(append([]string{}, tt.args...), tt.want...)
		if diff := cmp.Diff(want, localArgs(tt.args, local)); diff != "" {
			t.Errorf("%s: arguments (-want +got):\n%s", tt.reason, diff)
		}
	}
}
