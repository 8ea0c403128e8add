package istiod

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// serve is an istiod of the tests.
func serve(t *testing.T, answer http.HandlerFunc) replica {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return replica{pod: "istiod-1", dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestClusters(t *testing.T) {
	var path string
	got := clustersOf(t.Context(), serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		says(`[{"id":"east","secretName":"","syncStatus":"synced"},
		  {"id":"west","secretName":"applink-system/istio-remote-secret-west","syncStatus":"timeout","of a newer release":{"a":[1]}}]`)(w, r)
	}))
	want := Replica{Pod: "istiod-1", Clusters: []Cluster{
		{ID: "east", SyncStatus: Synced},
		{ID: "west", SecretName: "applink-system/istio-remote-secret-west", SyncStatus: TimedOut},
	}}
	if diff := cmp.Diff(want, got); diff != "" || path != "/debug/clusterz" {
		t.Errorf("asked %s (-want +got):\n%s", path, diff)
	}
}

// TestNoAnswer: an istiod that does not answer, in every way.
func TestNoAnswer(t *testing.T) {
	for _, tt := range []struct {
		reason string
		answer http.HandlerFunc
		is     error
		says   string
		member member.Reason
	}{
		{"debug is off", http.NotFound, ErrClosed, "take ENABLE_DEBUG_ON_HTTP=false from its environment", ""},
		{"it wants a token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, ErrClosed, "", ""},
		{"it reads no clusters", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, nil, `it answers 400: ""`, ""},
		{"it fails at length", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
		}, nil, `it answers 500: "` + strings.Repeat("x", maxRefusal) + `"`, ""},
		{"it sends elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere/", http.StatusFound)
		}, nil, "it answers 302", ""},
		{"another form", says(`{"clusters":[]}`), nil, "ask istiod for /debug/clusterz: json: cannot unmarshal object", ""},
		{"no JSON", says(`<html>`), nil, "invalid character", member.ServerFailing},
		{"half of it", says(`[{"id":"ea`), nil, "unexpected EOF", member.Unreachable},
		{"it breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "EOF", member.Unreachable},
		{"too much", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `["`)
			for range (maxAnswer >> 20) + 1 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<20)); err != nil {
					return
				}
			}
		}, nil, "its answer has more than 64 MiB", ""},
	} {
		got := clustersOf(t.Context(), serve(t, tt.answer))
		if got.Err == nil || tt.is != nil && !errors.Is(got.Err, tt.is) || !strings.Contains(got.Err.Error(), tt.says) || got.Pod != "istiod-1" {
			t.Errorf("%s: %+v, want %q", tt.reason, got, tt.says)
		}
		if reason := member.ReasonOf(got.Err); tt.member != "" && reason != tt.member {
			t.Errorf("%s: reason %s, want %s", tt.reason, reason, tt.member)
		}
	}
}

// TestSilence: nobody waits longer for an istiod than he wants, or for what it is
// given.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		start := time.Now()
		got := clustersOf(t.Context(), replica{pod: "istiod-1", dial: func(context.Context) (net.Conn, error) { return near, nil }})
		if took := time.Since(start); !errors.Is(got.Err, context.DeadlineExceeded) || took != timeout {
			t.Errorf("after %s: %v", took, got.Err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	got := clustersOf(ctx, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	if !errors.Is(got.Err, context.Canceled) {
		t.Errorf("called off: %v", got.Err)
	}
}
