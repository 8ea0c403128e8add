package faultproxy

import (
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// start is a proxy before a server that answers as told.
func start(t *testing.T, serve http.HandlerFunc) *Proxy {
	t.Helper()
	server := httptest.NewUnstartedServer(serve)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	upstream, err := clientcmd.Write(api.Config{
		Clusters: map[string]*api.Cluster{"a": {Server: server.URL,
			CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}},
		AuthInfos:      map[string]*api.AuthInfo{"a": {Token: "upstream-token"}},
		Contexts:       map[string]*api.Context{"a": {Cluster: "a", AuthInfo: "a"}},
		CurrentContext: "a",
	})
	check(t, err)
	p, err := Start(Options{Upstream: upstream, Seed: 1})
	check(t, err)
	t.Cleanup(p.Close)
	return p
}

// hello answers every call with its path, and knows the proxy by its token.
func hello(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer upstream-token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = io.WriteString(w, "hello "+r.URL.RequestURI())
}

func client(t *testing.T, p *Proxy, http2 bool) *http.Client {
	t.Helper()
	config, err := clientcmd.RESTConfigFromKubeConfig(p.Kubeconfig())
	check(t, err)
	// With a dialer of its own a client shares no connection with others.
	config.Dial = (&net.Dialer{}).DialContext
	if !http2 {
		config.NextProtos = []string{"http/1.1"}
	}
	c, err := rest.HTTPClientFor(config)
	check(t, err)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// patience with answers that should come, and with those that should not.
const patience, impatience = 30 * time.Second, 300 * time.Millisecond

// get returns the code, the body and the protocol of an answer.
func get(c *http.Client, p *Proxy, path string) (int, string, string, error) {
	return getWithin(patience, c, p, path)
}

func getWithin(most time.Duration, c *http.Client, p *Proxy, path string) (int, string, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.listener.Addr().String()+path, nil)
	if err != nil {
		return 0, "", "", err
	}
	response, err := c.Do(r)
	if err != nil {
		return 0, "", "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), response.Proto, err
}

func TestPasses(t *testing.T) {
	p := start(t, hello)
	for proto, c := range map[string]*http.Client{"HTTP/2.0": client(t, p, true), "HTTP/1.1": client(t, p, false)} {
		code, body, spoken, err := get(c, p, "/api/v1?a=b")
		if err != nil || code != 200 || body != "hello /api/v1?a=b" || spoken != proto {
			t.Errorf("%s: %d %q by %s, error %v", proto, code, body, spoken, err)
		}
	}
	calls := p.Calls()
	if len(calls) != 2 || calls[0].Code != 200 && calls[0].Code != 0 || calls[1].Path != "/api/v1" || calls[1].Number != 2 {
		t.Errorf("calls: %+v", calls)
	}
	if strings.Contains(string(p.Kubeconfig()), "upstream-token") {
		t.Error("the credentials of the API server are handed out")
	}
}

func TestStrangersStayOut(t *testing.T) {
	p := start(t, hello)
	config, err := clientcmd.RESTConfigFromKubeConfig(p.Kubeconfig())
	check(t, err)
	config.BearerToken = "another"
	c, err := rest.HTTPClientFor(config)
	check(t, err)
	if code, _, _, err := get(c, p, "/"); code != http.StatusUnauthorized {
		t.Errorf("answer %d, error %v", code, err)
	}
}

// TestFaults shows each fault to clients of both protocols.
func TestFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		do    Fault
		hangs bool
		want  func(code int, body string, err error) bool
	}{
		"delay":       {Delay(time.Millisecond, 10*time.Millisecond), false, func(code int, body string, err error) bool { return err == nil && body == "hello /x" }},
		"reset":       {Reset, false, func(_ int, _ string, err error) bool { return broken(err) }},
		"lose":        {Lose, false, func(_ int, _ string, err error) bool { return broken(err) }},
		"silence":     {Silence, true, func(_ int, _ string, err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		"refuse":      {Refuse(503), false, func(code int, body string, err error) bool { return code == 503 && strings.Contains(body, `"Status"`) }},
		"throttle":    {Throttle(1500 * time.Millisecond), false, func(code int, _ string, err error) bool { return code == 429 }},
		"drip":        {Drip(1, time.Millisecond), false, func(_ int, body string, err error) bool { return err == nil && body == "hello /x" }},
		"drip slowly": {Drip(1, time.Minute), true, func(_ int, body string, err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		"cut body":    {CutBody(3), false, func(_ int, body string, err error) bool { return err != nil && len(body) <= 3 }},
		"short body":  {ShortBody(3), false, func(_ int, body string, err error) bool { return err == nil && body == "hel" }},
		"expire":      {Expire, false, func(code int, body string, err error) bool { return code == 410 && strings.Contains(body, "Expired") }},
	} {
		for _, http2 := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", name, http2), func(t *testing.T) {
				t.Parallel()
				p := start(t, hello)
				c := client(t, p, http2)
				// The client tries a call again that did not arrive on a used connection.
				p.Inject(Rule{Name: name, Match: On(http.MethodGet, "/x"), Do: tt.do})
				most := patience
				if tt.hangs {
					most = impatience
				}
				if code, body, _, err := getWithin(most, c, p, "/x"); !tt.want(code, body, err) {
					t.Errorf("%d %q, error %v", code, body, err)
				}
				if code, _, _, err := get(c, p, "/y"); err != nil || code != 200 {
					t.Errorf("another call: %d, error %v", code, err)
				}
				p.Heal()
				if code, body, _, err := get(c, p, "/x"); err != nil || body != "hello /x" {
					t.Errorf("after the fault: %d %q, error %v", code, body, err)
				}
			})
		}
	}
}

func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		err != nil && strings.Contains(err.Error(), "http2")
}

func TestLoseReachesTheServer(t *testing.T) {
	var reached atomic.Int32
	p := start(t, func(w http.ResponseWriter, _ *http.Request) { reached.Add(1); w.WriteHeader(200) })
	p.Inject(Rule{Do: Lose, Times: 1})
	if _, _, _, err := get(client(t, p, true), p, "/"); err == nil && reached.Load() != 2 || reached.Load() == 0 {
		t.Errorf("error %v, reached %d times", err, reached.Load())
	}
}

// TestBeforeAndAfter: what kills a client at a call knows whether it arrived.
func TestBeforeAndAfter(t *testing.T) {
	for name, tt := range map[string]struct {
		do      func(func()) Fault
		arrives int32
	}{"before": {Before, 0}, "after": {After, 1}} {
		var reached, told atomic.Int32
		p := start(t, func(w http.ResponseWriter, _ *http.Request) { reached.Add(1); w.WriteHeader(200) })
		p.Inject(Rule{Do: tt.do(func() { told.Store(1 + reached.Load()) })})
		_, _, _, err := getWithin(impatience, client(t, p, true), p, "/")
		if !errors.Is(err, context.DeadlineExceeded) || told.Load() != 1+tt.arrives || reached.Load() != tt.arrives {
			t.Errorf("%s: error %v, told %d, reached %d", name, err, told.Load(), reached.Load())
		}
	}
}

func TestConnections(t *testing.T) {
	p := start(t, hello)
	c := client(t, p, true)
	works := func(when string) {
		t.Helper()
		if code, _, _, err := get(c, p, "/"); err != nil || code != 200 {
			t.Errorf("%s: %d, error %v", when, code, err)
		}
	}
	works("at first")
	p.Mute()
	if _, _, _, err := getWithin(impatience, c, p, "/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("muted: error %v", err)
	}
	if _, _, _, err := getWithin(impatience, client(t, p, true), p, "/"); err == nil {
		t.Error("muted, with a new connection: an answer")
	}
	p.Heal()
	c = client(t, p, true)
	works("healed, with a new connection")
	p.MuteOpen()
	if _, _, _, err := getWithin(impatience, c, p, "/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connection forgotten: error %v", err)
	}
	c = client(t, p, true)
	works("a new connection beside a forgotten one")
	check(t, p.ChangeCertificate())
	c = client(t, p, true)
	if _, _, _, err := get(c, p, "/"); member.ReasonOf(err) != member.CertificateRejected {
		t.Errorf("another certificate: error %v", err)
	}
	p.Heal()
	works("with its own certificate again")
	p.ResetConnections()
	if code, _, _, err := get(c, p, "/"); err == nil && code != 200 || err != nil && !broken(err) {
		t.Errorf("after a reset: %d, error %v", code, err)
	}
	works("after a reset, by a new connection")
}

func TestServerGone(t *testing.T) {
	p := start(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, _, _, err := get(client(t, p, true), p, "/"); !broken(err) {
		t.Errorf("error %v, want a broken connection and no answer of the proxy's own", err)
	}
}

// TestChances: the same seed hits the same calls.
func TestChances(t *testing.T) {
	run := func() (codes []int) {
		p := start(t, hello)
		c := client(t, p, true)
		p.Inject(Rule{Name: "some", Match: Calls, Chance: 0.5, After: 2, Times: 5, Do: Refuse(500)})
		for range 30 {
			code, _, _, err := get(c, p, "/")
			check(t, err)
			codes = append(codes, code)
		}
		return codes
	}
	first, second := run(), run()
	if fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("one seed, two results:\n%v\n%v", first, second)
	}
	refused := 0
	for _, code := range first {
		if code == 500 {
			refused++
		}
	}
	if refused != 5 || first[0] != 200 || first[1] != 200 {
		t.Errorf("%v: want the first two to pass and five to be hit", first)
	}
}

func TestPages(t *testing.T) {
	p := start(t, hello)
	p.Inject(Rule{Do: Pages(2)})
	if _, body, _, _ := get(client(t, p, true), p, "/list?limit=500"); body != "hello /list?limit=2" {
		t.Errorf("body %q", body)
	}
}

func TestWatches(t *testing.T) {
	p := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, kind := range []string{"ADDED", "BOOKMARK", "MODIFIED"} {
			_, _ = fmt.Fprintf(w, `{"type":%q,"object":{}}`+"\n", kind)
			_ = http.NewResponseController(w).Flush()
		}
		if r.URL.Query().Has("stay") {
			<-r.Context().Done()
		}
	})
	c := client(t, p, true)
	for name, tt := range map[string]struct {
		do   Fault
		want []string
	}{
		"bookmarks": {NoBookmarks, []string{"ADDED", "MODIFIED"}},
		"all":       {DropEvents(func(string) bool { return true }), nil},
		"expired":   {ExpireWatch, []string{"ERROR"}},
	} {
		p.Inject(Rule{Match: Watches, Do: tt.do})
		_, body, _, err := get(c, p, "/watch?watch=true")
		var kinds []string
		for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
			_, rest, _ := strings.Cut(line, `"type":"`)
			if kind, _, _ := strings.Cut(rest, `"`); kind != "" {
				kinds = append(kinds, kind)
			}
		}
		if fmt.Sprint(kinds) != fmt.Sprint(tt.want) || err != nil {
			t.Errorf("%s: events %v, want %v (error %v)", name, kinds, tt.want, err)
		}
	}
	p.Inject(Rule{Match: Watches, Do: SilentWatch})
	if _, body, _, err := getWithin(impatience, c, p, "/watch?watch=true"); body != "" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent watch: %q, error %v", body, err)
	}
	p.Inject()
	if _, body, _, err := getWithin(impatience, c, p, "/watch?watch=true&stay=1"); strings.Count(body, "\n") != 3 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a watch that stays open: %q, error %v", body, err)
	}
}

// TestFramesOfProtobuf cuts what API servers send to clients that ask for it, in
// pieces of any size.
func TestFramesOfProtobuf(t *testing.T) {
	var stream []byte
	for _, kind := range []string{"ADDED", "BOOKMARK", "DELETED"} {
		event := &metav1.WatchEvent{Type: kind}
		event.Object.Raw = []byte("whatever\n")
		data, err := event.Marshal()
		check(t, err)
		stream = append(binary.BigEndian.AppendUint32(stream, uint32(len(data))), data...)
	}
	for size := 1; size <= len(stream); size++ {
		var kinds []string
		f := &frames{binary: true, dropped: func(kind string) bool { kinds = append(kinds, kind); return kind == "BOOKMARK" }}
		var out []byte
		for at := 0; at < len(stream); at += size {
			out = append(out, f.kept(stream[at:min(at+size, len(stream))])...)
		}
		if fmt.Sprint(kinds) != "[ADDED BOOKMARK DELETED]" || len(out) == 0 || strings.Contains(string(out), "BOOKMARK") {
			t.Fatalf("pieces of %d: events %v, %d bytes", size, kinds, len(out))
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
