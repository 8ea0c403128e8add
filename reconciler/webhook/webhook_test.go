package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/webhook"
)

var prod = types.NamespacedName{Namespace: "isthmus-system", Name: "prod"}

const token = "correct horse"

func sign(token, body string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// request as a server of the kind sends it.
func request(t *testing.T, kind v1alpha1.WebhookType, token, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, webhook.Path(prod), strings.NewReader(body))
	switch kind {
	case v1alpha1.WebhookGitHub:
		r.Header.Set("X-Hub-Signature-256", "sha256="+sign(token, body))
	case v1alpha1.WebhookGitea:
		r.Header.Set("X-Gitea-Signature", sign(token, body))
	case v1alpha1.WebhookBitbucket:
		r.Header.Set("X-Hub-Signature", "sha256="+sign(token, body))
	case v1alpha1.WebhookGitLab:
		r.Header.Set("X-Gitlab-Token", token)
	case v1alpha1.WebhookAzureDevOps:
		r.SetBasicAuth("anyone", token)
	}
	return r
}

var kinds = []v1alpha1.WebhookType{v1alpha1.WebhookGitHub, v1alpha1.WebhookGitLab, v1alpha1.WebhookGitea, v1alpha1.WebhookBitbucket, v1alpha1.WebhookAzureDevOps}

// TestReceiver: each kind of server is let in with its secret, and nobody else.
func TestReceiver(t *testing.T) {
	for _, kind := range kinds {
		for _, tt := range []struct {
			reason string
			change func(*http.Request)
			want   int
		}{
			{"as the server sends it", func(*http.Request) {}, http.StatusNoContent},
			{"another secret", func(r *http.Request) { *r = *request(t, kind, "wrong", "{}") }, http.StatusUnauthorized},
			{"no secret", func(r *http.Request) { r.Header = http.Header{} }, http.StatusUnauthorized},
			{"an empty secret", func(r *http.Request) { *r = *request(t, kind, "", "{}") }, http.StatusUnauthorized},
			{"the secret twice", func(r *http.Request) {
				for name, values := range r.Header {
					r.Header[name] = append(values, values...)
				}
			}, http.StatusUnauthorized},
			{"a fleet that is not there", func(r *http.Request) { r.URL.Path += "x" }, http.StatusUnauthorized},
			{"no path of a fleet", func(r *http.Request) { r.URL.Path = "/hook/prod" }, http.StatusNotFound},
			{"a path below a fleet's", func(r *http.Request) { r.URL.Path += "/more" }, http.StatusNotFound},
			{"a look with a browser", func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
			{"a body at the limit", func(r *http.Request) { *r = *request(t, kind, token, strings.Repeat("x", webhook.MaxBody)) }, http.StatusNoContent},
			{"a body over the limit", func(r *http.Request) { *r = *request(t, kind, token, strings.Repeat("x", webhook.MaxBody+1)) }, http.StatusRequestEntityTooLarge},
		} {
			pushed := 0
			receiver := webhook.New(webhook.Options{Pushed: func(fleet types.NamespacedName) {
				if pushed++; fleet != prod {
					t.Errorf("%s: %s: pushed to %s", kind, tt.reason, fleet)
				}
			}})
			receiver.Set(prod, webhook.Hook{Type: kind, Token: []byte(token)})
			r := request(t, kind, token, "{}")
			tt.change(r)
			w := httptest.NewRecorder()
			receiver.ServeHTTP(w, r)
			if w.Code != tt.want || (pushed == 1) != (tt.want == http.StatusNoContent) {
				t.Errorf("%s: %s: %d, pushed %d times, want %d", kind, tt.reason, w.Code, pushed, tt.want)
			}
			if w.Body.Len() > 0 {
				t.Errorf("%s: %s: the answer says %q", kind, tt.reason, w.Body)
			}
		}
	}
}

// TestSignatureIsOfTheBody: another body with the signature of one that was sent
// is refused.
func TestSignatureIsOfTheBody(t *testing.T) {
	for _, kind := range []v1alpha1.WebhookType{v1alpha1.WebhookGitHub, v1alpha1.WebhookGitea, v1alpha1.WebhookBitbucket} {
		receiver := webhook.New(webhook.Options{Pushed: func(types.NamespacedName) { t.Errorf("%s: pushed", kind) }})
		receiver.Set(prod, webhook.Hook{Type: kind, Token: []byte(token)})
		r := request(t, kind, token, `{"a":1}`)
		r.Body = io.NopCloser(strings.NewReader(`{"a":2}`))
		w := httptest.NewRecorder()
		if receiver.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", kind, w.Code)
		}
	}
}

// TestForgotten: a fleet whose webhook is gone, or whose token is empty, is as
// unknown as any other.
func TestForgotten(t *testing.T) {
	receiver := webhook.New(webhook.Options{Pushed: func(types.NamespacedName) { t.Error("pushed") }})
	for _, last := range []func(){
		func() { receiver.Remove(prod) },
		func() { receiver.Set(prod, webhook.Hook{Type: v1alpha1.WebhookGitLab}) },
	} {
		receiver.Set(prod, webhook.Hook{Type: v1alpha1.WebhookGitLab, Token: []byte(token)})
		last()
		for _, given := range []string{token, ""} {
			w := httptest.NewRecorder()
			if receiver.ServeHTTP(w, request(t, v1alpha1.WebhookGitLab, given, "")); w.Code != http.StatusUnauthorized {
				t.Errorf("token %q: %d", given, w.Code)
			}
		}
	}
}

// TestFlood: ten thousand requests, forged and real, through a real server, tell
// of a push twice (the first and what came after it), and leave nothing behind.
func TestFlood(t *testing.T) {
	const requests = 10_000
	var pushed, accepted, rejected atomic.Int64
	settled := make(chan struct{}, 2)
	receiver := webhook.New(webhook.Options{
		Gap:    time.Hour,
		Pushed: func(types.NamespacedName) { pushed.Add(1); settled <- struct{}{} },
		Count: func(result webhook.Result) {
			switch result {
			case webhook.ResultAccepted:
				accepted.Add(1)
			case webhook.ResultRejected:
				rejected.Add(1)
			default:
				t.Errorf("result %s", result)
			}
		},
	})
	receiver.Set(prod, webhook.Hook{Type: v1alpha1.WebhookGitLab, Token: []byte(token)})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := receiver.Serve(ctx, listener); err != nil {
			t.Error(err)
		}
	})
	before := runtime.NumGoroutine()
	transport := &http.Transport{MaxConnsPerHost: 50, MaxIdleConnsPerHost: 50}
	sender := &http.Client{Transport: transport}
	var senders sync.WaitGroup
	for s := range 50 {
		senders.Go(func() {
			for i := s; i < requests; i += 50 {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listener.Addr().String()+webhook.Path(prod), bytes.NewReader([]byte("{}")))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("X-Gitlab-Token", token)
				if i%2 == 1 {
					r.Header.Set("X-Gitlab-Token", fmt.Sprint(i))
				}
				response, err := sender.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
			}
		})
	}
	senders.Wait()
	<-settled
	if accepted.Load() != requests/2 || rejected.Load() != requests/2 || pushed.Load() != 1 {
		t.Errorf("%d accepted, %d rejected, pushed %d times, want %d, %d, 1 and one that waits", accepted.Load(), rejected.Load(), pushed.Load(), requests/2, requests/2)
	}
	transport.CloseIdleConnections()
	cancel()
	serving.Wait()
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), before)
		}
	}
}

// TestLastPushIsSeen: what comes within the gap is told when it is over.
func TestLastPushIsSeen(t *testing.T) {
	pushed := make(chan struct{}, 10)
	receiver := webhook.New(webhook.Options{Gap: 20 * time.Millisecond, Pushed: func(types.NamespacedName) { pushed <- struct{}{} }})
	receiver.Set(prod, webhook.Hook{Type: v1alpha1.WebhookGitLab, Token: []byte(token)})
	for range 3 {
		receiver.ServeHTTP(httptest.NewRecorder(), request(t, v1alpha1.WebhookGitLab, token, ""))
	}
	for i := range 2 {
		select {
		case <-pushed:
		case <-time.After(time.Minute):
			t.Fatalf("push %d was not told of", i+1)
		}
	}
}

// FuzzReceiver: no request without the secret passes, and none panics.
func FuzzReceiver(f *testing.F) {
	for _, kind := range kinds {
		f.Add(string(kind), "POST", webhook.Path(prod), "sha256=00", []byte("{}"))
	}
	f.Add("GitHub", "POST", webhook.Path(prod), "sha256="+sign("wrong", "{}"), []byte("{}"))
	f.Add("AzureDevOps", "POST", "/hook//x", "Basic "+strings.Repeat("=", 10), []byte{0xff})
	f.Fuzz(func(t *testing.T, kind, method, path, secret string, body []byte) {
		if secret == token || strings.Contains(secret, sign(token, string(body))) {
			return
		}
		receiver := webhook.New(webhook.Options{Pushed: func(types.NamespacedName) { t.Error("passed") }})
		receiver.Set(prod, webhook.Hook{Type: v1alpha1.WebhookType(kind), Token: []byte(token)})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Method, r.URL.Path = method, path
		for _, name := range []string{"X-Hub-Signature-256", "X-Hub-Signature", "X-Gitea-Signature", "X-Gitlab-Token", "Authorization"} {
			r.Header[name] = []string{secret}
		}
		w := httptest.NewRecorder()
		if receiver.ServeHTTP(w, r); w.Code < 400 {
			t.Errorf("%d", w.Code)
		}
	})
}
