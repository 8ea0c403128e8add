package validation

import (
	"istio.io/istio/pkg/log"
	"k8s.io/klog/v2"
)

// Istio's log takes over those of Go and Kubernetes as soon as it is loaded, and
// writes them to stdout, where only answers may be. Give klog back, and let Istio
// be silent: what its validators find is returned. Go's own log is then silent,
// too, until a program sets where it goes.
func init() {
	klog.ClearLogger()
	for _, scope := range log.Scopes() {
		scope.SetOutputLevel(log.NoneLevel)
	}
}
