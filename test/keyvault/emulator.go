package keyvault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
)

// Host is the emulator's name, which its certificate has, besides localhost and
// the machine's own addresses.
const Host = "emulated.vault.azure.net"

// Audience is that of the tokens that it takes.
const Audience = "https://vault.azure.net"

// Options of an emulator.
type Options struct {
	// Address to listen on. Default: a free port of 127.0.0.1.
	Address string
	// PurgeProtection keeps what was deleted from being purged.
	PurgeProtection bool
	// Standard is a vault without hardware keys; the default is a premium one.
	Standard bool
	// NoLimits takes any number of calls.
	NoLimits bool
	// Now is the clock. Nil: the machine's.
	Now func() time.Time
}

// Emulator is one vault.
type Emulator struct {
	// Entra gives the tokens that the vault takes.
	Entra *azuretest.Azure

	o        Options
	ca       []byte
	roots    *x509.CertPool
	listener net.Listener
	server   *http.Server
	done     chan struct{}

	mu      sync.Mutex
	objects map[string]*object
	faults  Faults
	calls   map[string]int
	windows map[string][]spent

	// Answers are given while mu is held.
	answersMu sync.Mutex
	answers   map[int]int
}

// Start starts one, with an authority of its own. Close ends it.
func Start(o Options) (*Emulator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	certificate, ca, err := serverCertificate(Host, "localhost")
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Address)
	if err != nil {
		return nil, err
	}
	e := &Emulator{
		Entra: azuretest.StartEntra(), o: o, ca: ca, roots: x509.NewCertPool(), listener: listener, done: make(chan struct{}),
		objects: map[string]*object{}, calls: map[string]int{}, answers: map[int]int{}, windows: map[string][]spent{},
	}
	e.roots.AppendCertsFromPEM(ca)
	e.server = &http.Server{Handler: http.HandlerFunc(e.serve), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)} // faults are meant
	go func() {
		defer close(e.done)
		_ = e.server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}))
	}()
	return e, nil
}

// Close ends it.
func (e *Emulator) Close() {
	_ = e.server.Close()
	<-e.done
	e.Entra.Close()
}

// URL of the vault by its name; [Emulator.HTTP] finds it there.
func (e *Emulator) URL() string { return "https://" + Host }

// Address is where it listens.
func (e *Emulator) Address() string { return e.listener.Addr().String() }

// CA is what its certificate is checked with, as PEM.
func (e *Emulator) CA() []byte { return e.ca }

// HTTP is a client that reaches the vault by its name, and its authority.
func (e *Emulator) HTTP() *http.Client {
	vault := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: e.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, e.Address())
		},
		MaxIdleConnsPerHost: 64,
	}
	return &http.Client{Transport: byHost{vault: vault, rest: e.Entra.HTTP().Transport}}
}

type byHost struct {
	vault *http.Transport
	rest  http.RoundTripper
}

func (b byHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Hostname() == Host {
		return b.vault.RoundTrip(r)
	}
	return b.rest.RoundTrip(r)
}

func (b byHost) CloseIdleConnections() { b.vault.CloseIdleConnections() }

// Calls is how often an operation was asked for, such as "keys/sign", with those
// that were refused.
func (e *Emulator) Calls(op string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[op]
}

// Answers is how many answers had a status.
func (e *Emulator) Answers(status int) int {
	e.answersMu.Lock()
	defer e.answersMu.Unlock()
	return e.answers[status]
}

// request is one call, taken apart.
type request struct {
	w http.ResponseWriter
	*http.Request
	// kind is keys, secrets, deletedkeys or deletedsecrets.
	kind, name, version, action string
	op                          string
}

// actions may follow a name without a version.
var actions = map[string]bool{"versions": true, "create": true, "rotate": true, "recover": true, "sign": true}

// read takes a path apart: /keys/name/version/action, where the last two may be
// missing, or either.
func read(w http.ResponseWriter, r *http.Request) *request {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), "/"), "/")
	q := &request{w: w, Request: r, kind: parts[0]}
	if len(parts) > 1 {
		q.name = parts[1]
	}
	switch rest := parts[min(2, len(parts)):]; {
	case len(rest) == 1 && actions[rest[0]]:
		q.action = rest[0]
	case len(rest) == 1:
		q.version = rest[0]
	case len(rest) == 2:
		q.version, q.action = rest[0], rest[1]
	}
	verb := q.action
	if verb == "" {
		verb = map[string]string{http.MethodGet: "get", http.MethodPut: "set", http.MethodPatch: "update", http.MethodDelete: "delete"}[r.Method]
		if verb == "get" && q.name == "" {
			verb = "list"
		}
	}
	q.op = q.kind + "/" + verb
	return q
}

func (e *Emulator) serve(w http.ResponseWriter, r *http.Request) {
	counted := &counting{ResponseWriter: w, e: e}
	q := read(counted, r)
	e.mu.Lock()
	e.calls[q.op]++
	fault := e.faults.take(q.op, &e.faults)
	e.mu.Unlock()
	w.Header().Set("Date", e.o.Now().Add(fault.Skew).UTC().Format(http.TimeFormat))
	w.Header().Set("X-Ms-Keyvault-Service-Version", "emulated")
	if !e.broken(q, fault) && e.authenticated(q, fault) && e.known(q) && e.within(q) {
		e.answer(q)
	}
}

// counting counts answers by their status.
type counting struct {
	http.ResponseWriter
	e    *Emulator
	told bool
}

func (c *counting) WriteHeader(status int) {
	if !c.told {
		c.told = true
		c.e.answersMu.Lock()
		c.e.answers[status]++
		c.e.answersMu.Unlock()
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// authenticated answers calls that have no good token, as the service does before
// it looks at anything else.
func (e *Emulator) authenticated(q *request, fault Faults) bool {
	challenge := `Bearer authorization="` + e.Entra.URL() + "/" + azuretest.Tenant + `", resource="` + Audience + `"`
	token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	why := ""
	switch {
	case fault.Challenge != "":
		challenge, why = fault.Challenge, "AKV10000: Request is missing a Bearer or PoP token."
	case !ok:
		why = "AKV10000: Request is missing a Bearer or PoP token."
	case e.Entra.Refuses(token, Audience) != "":
		challenge += `, error="invalid_token", error_description="the token is ` + strings.ReplaceAll(e.Entra.Refuses(token, Audience), `"`, "'") + `"`
		why = "AKV10022: Invalid token: " + e.Entra.Refuses(token, Audience)
	case !claimed(fault.Claims, e.Entra.Claims(token)):
		challenge += `, error="insufficient_claims", claims="` + claims(fault.Claims) + `"`
		why = "AKV10099: Continuous access evaluation resulted in a challenge."
	default:
		return true
	}
	q.w.Header().Set("WWW-Authenticate", challenge)
	q.refuse(http.StatusUnauthorized, "Unauthorized", why)
	return false
}

// versions of the API that the service has.
var versions = map[string]bool{
	"7.0": true, "7.1": true, "7.2": true, "7.3": true, "7.4": true, "7.5": true, "7.6": true, "2025-07-01": true, "2026-04-01": true,
}

func (e *Emulator) known(q *request) bool {
	version := q.URL.Query().Get("api-version")
	switch {
	case version == "":
		q.refuse(http.StatusBadRequest, "BadParameter", "api-version must be specified")
	case !versions[version]:
		q.refuse(http.StatusBadRequest, "BadParameter", "The specified version ("+version+") is not recognized. Consider using the latest supported version (2025-07-01).")
	default:
		return true
	}
	return false
}

// id is the address of an object or of a version of it, as the caller knows the
// vault.
func (q *request) id(kind, name, version string) string {
	path, _ := url.JoinPath("https://"+strings.TrimSuffix(q.Host, ":443"), kind, name, version)
	return strings.TrimSuffix(path, "/")
}
