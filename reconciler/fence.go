package reconciler

import (
	"net/http"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/shard"
)

// fence asks before every request that writes whether the work that it belongs
// to is still this replica's, at the last moment before it is sent.
type fence struct {
	next http.RoundTripper
	// strict refuses writes that belong to no work.
	strict bool
}

// fenced puts the fence below everything else that a configuration's transport
// does: a request may wait there for long.
func fenced(config *rest.Config, strict bool) {
	config.WrapTransport = transport.Wrappers(func(next http.RoundTripper) http.RoundTripper {
		return &fence{next: next, strict: strict}
	}, config.WrapTransport)
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (f *fence) WrappedRoundTripper() http.RoundTripper { return f.next }

// RoundTrip fails with the reason Fenced what may not be written any more.
func (f *fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || (!f.strict && !shard.Entered(r.Context())) {
		return f.next.RoundTrip(r)
	}
	if err := shard.Check(r.Context()); err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, &member.Error{Reason: member.Fenced, Doing: "not sent", Err: err}
	}
	return f.next.RoundTrip(r)
}
