package faultproxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
)

// Options of a proxy.
type Options struct {
	// Upstream is the kubeconfig of the API server. The proxy uses its credentials
	// for whoever comes with the proxy's token.
	Upstream []byte
	// Seed of the rules' chances; zero picks one.
	Seed uint64
}

// Proxy is a running proxy.
type Proxy struct {
	kubeconfig  []byte
	token       string
	seed        uint64
	listener    *listener
	server      *http.Server
	upstream    http.Handler
	certificate *tls.Certificate

	mu      sync.Mutex
	random  *mathrand.Rand
	counter membertest.Counter
	calls   []Call
	rules   []*rule
	wrong   *tls.Certificate // served instead, nil for none
}

// Call is one request that came to the proxy.
type Call struct {
	membertest.Call
	// At is when it came.
	At time.Time
	// Code of the answer; 0 while there is none, or if there never was.
	Code int
	// Rules that acted on it, by name.
	Rules []string
}

// Start starts a proxy on a port of 127.0.0.1. Close must be called.
func Start(o Options) (*Proxy, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(o.Upstream)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of the API server: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare the way to the API server: %w", err)
	}
	config.NextProtos = []string{"http/1.1"}
	upgrades, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("prepare upgrades of connections: %w", err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	p := &Proxy{seed: o.Seed, upstream: forward(target, transport, upgrades)}
	if p.seed == 0 {
		p.seed = mathrand.Uint64()
	}
	p.random = mathrand.New(mathrand.NewPCG(p.seed, 0))
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails, by its documentation
	p.token = "faultproxy-" + hex.EncodeToString(secret)
	return p, p.listen()
}

func (p *Proxy) listen() error {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	p.listener = newListener(open)
	certificate, authority, err := newCertificate()
	if err != nil {
		_ = open.Close()
		return err
	}
	p.certificate = certificate
	p.kubeconfig, err = clientcmd.Write(api.Config{
		Clusters:       map[string]*api.Cluster{"member": {Server: "https://" + open.Addr().String(), CertificateAuthorityData: authority}},
		AuthInfos:      map[string]*api.AuthInfo{"member": {Token: p.token}},
		Contexts:       map[string]*api.Context{"member": {Cluster: "member", AuthInfo: "member"}},
		CurrentContext: "member",
	})
	if err != nil {
		_ = open.Close()
		return fmt.Errorf("write the proxy's kubeconfig: %w", err)
	}
	p.server = &http.Server{
		Handler:           http.HandlerFunc(p.serve),
		TLSConfig:         &tls.Config{GetCertificate: p.present, NextProtos: []string{"h2", "http/1.1"}},
		ErrorLog:          log.New(io.Discard, "", 0), // faults are what it is for
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = p.server.ServeTLS(p.listener, "", "") }() // ends with Close
	return nil
}

// Close ends the proxy and every connection.
func (p *Proxy) Close() {
	_ = p.server.Close()
	p.listener.reset()
}

// Kubeconfig leads to the API server by way of the proxy.
func (p *Proxy) Kubeconfig() []byte { return slices.Clone(p.kubeconfig) }

// Token is the secret by which a client of the proxy is known.
func (p *Proxy) Token() string { return p.token }

// Seed of the rules' chances.
func (p *Proxy) Seed() uint64 { return p.seed }

// Calls that came since the start or the last Reset, in order.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.calls)
}

// Count is how many of them a match takes; nil takes all.
func (p *Proxy) Count(match Match) int {
	n := 0
	for _, c := range p.Calls() {
		if match == nil || match(c.Call) {
			n++
		}
	}
	return n
}

// Reset drops the record of calls; they are counted from one again.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls, p.counter = nil, membertest.Counter{}
}

// Heal ends every fault: rules, muted connections, the wrong certificate.
func (p *Proxy) Heal() {
	p.Inject()
	p.listener.unmute()
	p.mu.Lock()
	wrong := p.wrong != nil
	p.wrong = nil
	p.mu.Unlock()
	if wrong {
		p.ResetConnections()
	}
}

// ResetConnections breaks all open connections by a TCP reset.
func (p *Proxy) ResetConnections() { p.listener.reset() }

// Mute makes every connection silent, without closing it: those that are open,
// for ever, and new ones, which are accepted and never answered, until Heal.
func (p *Proxy) Mute() { p.listener.mute() }

// MuteOpen makes the connections that are open now silent, for ever and without
// closing them, as a gateway does that forgot them. New ones work.
func (p *Proxy) MuteOpen() { p.listener.muteOpen() }

// ChangeCertificate makes the proxy present a certificate of another authority
// until Heal, and breaks the connections that know the right one.
func (p *Proxy) ChangeCertificate() error {
	wrong, _, err := newCertificate()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.wrong = wrong
	p.mu.Unlock()
	p.ResetConnections()
	return nil
}

func (p *Proxy) present(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wrong != nil {
		return p.wrong, nil
	}
	return p.certificate, nil
}

// serve records a call and lets the rules that hit it act, the first outermost.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	index, hit := p.record(r)
	answer := &answer{ResponseWriter: w, told: func(code int) { p.answered(index, code) }}
	if r.Header.Get("Authorization") != "Bearer "+p.token {
		writeStatus(answer, http.StatusUnauthorized, "Unauthorized", "the proxy does not know this token")
		return
	}
	r.Header.Del("Authorization")
	x := &Exchange{Writer: answer, Request: r, Call: hit.call, proxy: p, rules: hit.rules}
	x.Pass()
}

type hit struct {
	call  membertest.Call
	rules []*rule
}

func (p *Proxy) record(r *http.Request) (int, hit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := hit{call: p.counter.Count(r)}
	recorded := Call{Call: h.call, At: time.Now()}
	for _, rule := range p.rules {
		if rule.hits(h.call, p.random) {
			h.rules = append(h.rules, rule)
			recorded.Rules = append(recorded.Rules, rule.Name)
		}
	}
	p.calls = append(p.calls, recorded)
	return h.call.Number - 1, h
}

func (p *Proxy) answered(index, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index < len(p.calls) && p.calls[index].Code == 0 {
		p.calls[index].Code = code
	}
}

// chance is a number in [0, 1) from the proxy's seed.
func (p *Proxy) chance() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64()
}

// answer sees the code of an answer.
type answer struct {
	http.ResponseWriter
	told func(int)
}

func (a *answer) WriteHeader(code int) {
	a.told(code)
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController flush.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// forward passes calls on to the API server. Where that does not answer, the
// client's connection breaks: the proxy has no answers of its own.
func forward(target *url.URL, transport, upgrades http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport:     eitherTransport{transport, upgrades},
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
		},
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, _ error) {
			if r.Context().Err() == nil { // else the client gave up, and its connection is fine
				resetConnection(r)
			}
		},
	}
}

// eitherTransport takes calls that become something else, as kubectl port-forward
// does, over HTTP/1.1: HTTP/2 has no such thing.
type eitherTransport struct{ calls, upgrades http.RoundTripper }

func (t eitherTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		return t.upgrades.RoundTrip(r)
	}
	return t.calls.RoundTrip(r)
}
