package member

import (
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/rest"
)

// Hub is the configuration of a member that is the hub itself: the hub's own
// credentials within a member's budget. Isthmus's own namespace and CRDs are out
// of reach through it, with an [*Error] of reason [HubProtected]: a member that
// leaves must not take the reconciler with it. The namespace itself may be
// labelled, so that isthmus can be in the mesh.
func Hub(hub *rest.Config, namespace string, o Options) *rest.Config {
	config := rest.CopyConfig(hub)
	// What the hub's clients do to their calls is not for a member's.
	config.WrapTransport, config.RateLimiter = nil, nil
	config.QPS, config.Timeout = -1, 0
	config.UserAgent = userAgent(o)
	config.ContentConfig = rest.ContentConfig{}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &protected{namespace: namespace, next: next} })
	config.Wrap(newBudget(o).wrap)
	return config
}

// protected refuses writes to what isthmus itself lives from.
type protected struct {
	namespace string
	next      http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (p *protected) WrappedRoundTripper() http.RoundTripper { return p.next }

func (p *protected) RoundTrip(r *http.Request) (*http.Response, error) {
	if what := p.own(r.Method, r.URL.Path); what != "" {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, &Error{Reason: HubProtected, Doing: fmt.Sprintf(
			"%s is isthmus's own on the hub and is not changed for a member: take it out of the fleet, and give the network another spec.dataPlane.namespace if it is that one", what)}
	}
	return p.next.RoundTrip(r)
}

// own is what of isthmus a request would change, empty for none.
func (p *protected) own(method, path string) string {
	if method == http.MethodGet || method == http.MethodHead {
		return ""
	}
	// Behind a proxy the API server's paths have a prefix.
	namespaces := "/namespaces/" + p.namespace
	switch at := strings.Index(path, namespaces); {
	case at < 0:
	case strings.HasPrefix(path[at+len(namespaces):], "/"):
		return fmt.Sprintf("namespace %q", p.namespace)
	case path[at+len(namespaces):] == "" && method == http.MethodDelete:
		return fmt.Sprintf("namespace %q", p.namespace)
	}
	if strings.Contains(path, "/customresourcedefinitions/") && strings.HasSuffix(path, ".isthmus.dev") ||
		strings.Contains(path, "/apis/isthmus.dev/") {
		return "the API group isthmus.dev"
	}
	return ""
}
