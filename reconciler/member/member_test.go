package member

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/clientcmd/api"
)

// serve is a member with an API server that answers as told.
func serve(t *testing.T, o Options, answer http.HandlerFunc) *Member {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	config, err := Config(kubeconfig(t, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
		c.Server = server.URL
		c.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	}), o)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestReasonOfAnswers(t *testing.T) {
	for _, tt := range []struct {
		code int
		want Reason
	}{
		{http.StatusUnauthorized, CredentialsRejected},
		{http.StatusForbidden, AccessDenied},
		{http.StatusInternalServerError, ServerFailing},
		{http.StatusBadGateway, ServerFailing},
	} {
		m := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.code) })
		if _, err := m.ClusterUID(t.Context()); ReasonOf(err) != tt.want {
			t.Errorf("%d: %v, reason %s, want %s", tt.code, err, ReasonOf(err), tt.want)
		}
	}
}

func TestReasonOfConnections(t *testing.T) {
	hanging := serve(t, Options{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := hanging.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
		t.Errorf("no answer in time: %v, reason %s", err, ReasonOf(err))
	}
	breaking := serve(t, Options{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := breaking.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
		t.Errorf("broken off: %v, reason %s", err, ReasonOf(err))
	}
	breakingOff := serve(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, err := breakingOff.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
		t.Errorf("the answer breaks off: %v, reason %s", err, ReasonOf(err))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := breaking.ClusterUID(canceled); ReasonOf(err) != Canceled {
		t.Errorf("canceled: %v, reason %s", err, ReasonOf(err))
	}
	config, err := Config(kubeconfig(t, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = "https://127.0.0.1:1" }), Options{})
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
		t.Errorf("nobody listens: %v, reason %s", err, ReasonOf(err))
	}
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	config, err = Config(kubeconfig(t, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = server.URL }), Options{})
	if err != nil {
		t.Fatal(err)
	}
	untrusted, err := Connect(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := untrusted.ClusterUID(t.Context()); ReasonOf(err) != CertificateRejected || !CertificateRejected.Stalls() {
		t.Errorf("another CA: %v, reason %s", err, ReasonOf(err))
	}
}

func TestReasonOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Reason
	}{
		{nil, ""},
		{errors.New("x"), Unclassified},
		{Wrap("read", io.ErrUnexpectedEOF), Unreachable},
		{fmt.Errorf("read: %w", json.Unmarshal([]byte(`{"kind":`), &struct{}{})), ServerFailing},
		{Wrap("read", apierrors.NewTooManyRequests("x", 1)), Throttled},
		{&meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "X"}}, KindMissing},
		{apierrors.NewForbidden(schema.GroupResource{}, "x", nil), AccessDenied},
	} {
		if got := ReasonOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
	if Wrap("read", nil) != nil {
		t.Error("nil became an error")
	}
}

func TestBudget(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	m := serve(t, Options{InFlight: 3, Timeout: 5 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		most.Store(max(most.Load(), now.Add(1)))
		<-release
		now.Add(-1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"uid":"u"}}`)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resource := m.Metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"})
	for range 5 { // more than the budget, and it does not count
		if _, err := resource.Watch(ctx, metav1.ListOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var calls sync.WaitGroup
	for range 12 {
		calls.Go(func() {
			if uid, err := m.ClusterUID(ctx); err != nil || uid != "u" {
				t.Errorf("uid %q, error %v", uid, err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	close(release)
	calls.Wait()
	if most.Load() != 3 {
		t.Errorf("%d calls at once, want 3", most.Load())
	}
}

// TestBudgetWaitingCounts: calls that never get a slot end with their time.
func TestBudgetWaitingCounts(t *testing.T) {
	m := serve(t, Options{InFlight: 1, Timeout: 100 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	start := time.Now()
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if _, err := m.ClusterUID(t.Context()); ReasonOf(err) != Unreachable {
				t.Errorf("error %v", err)
			}
		})
	}
	calls.Wait()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestBodiesAreSentInPieces: whole, and never more of it at once than the buffer
// that its connection may keep.
func TestBodiesAreSentInPieces(t *testing.T) {
	sent := strings.Repeat("0123456789abcdef", 20<<10)
	var got atomic.Value
	m := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		got.Store(fmt.Sprint(err, " ", len(raw), " ", string(raw) == sent))
		object(w)
	})
	if err := m.REST.Post().AbsPath("/api/v1/namespaces").Body([]byte(sent)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint("<nil> ", len(sent), " true"); got.Load() != want {
		t.Errorf("the API server got %v, want %s", got.Load(), want)
	}
	request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sent))
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(sent)), nil }
	request = inPieces(request)
	again, err := request.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	for what, body := range map[string]io.Reader{"first": request.Body, "again": again} {
		if n, err := body.Read(make([]byte, len(sent))); n > piece || err != nil {
			t.Errorf("%s: %d bytes at once, %v", what, n, err)
		}
	}
}
