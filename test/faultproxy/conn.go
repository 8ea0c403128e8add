package faultproxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/util/cert"
)

// listener knows the connections that it accepted.
type listener struct {
	net.Listener

	mu    sync.Mutex
	muted bool
	open  map[*conn]bool
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, open: map[*conn]bool{}}
}

func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &conn{Conn: accepted, listener: l}
	c.silent.Store(l.muted)
	l.open[c] = true
	return c, nil
}

func (l *listener) conns() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.open))
}

func (l *listener) reset() {
	for _, c := range l.conns() {
		c.reset()
	}
}

func (l *listener) mute() {
	l.mu.Lock()
	l.muted = true
	l.mu.Unlock()
	l.muteOpen()
}

func (l *listener) unmute() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.muted = false
}

func (l *listener) muteOpen() {
	for _, c := range l.conns() {
		c.silent.Store(true)
	}
}

// conn can fall silent: it then takes everything and says nothing.
type conn struct {
	net.Conn
	listener *listener
	silent   atomic.Bool
}

func (c *conn) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	if !c.silent.Load() {
		return n, err
	}
	// Until the client has enough of it.
	_, _ = io.Copy(io.Discard, c.Conn)
	return 0, io.EOF
}

func (c *conn) Write(data []byte) (int, error) {
	if c.silent.Load() {
		return len(data), nil
	}
	return c.Conn.Write(data)
}

func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// reset closes the connection so that the other side gets a TCP reset.
func (c *conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

type connKey struct{}

// resetConnection breaks the connection that a request came on.
func resetConnection(r *http.Request) {
	over, ok := r.Context().Value(connKey{}).(net.Conn)
	if encrypted, is := over.(*tls.Conn); ok && is {
		over = encrypted.NetConn()
	}
	if c, ok := over.(*conn); ok {
		c.reset()
	}
	panic(http.ErrAbortHandler)
}

// newCertificate makes a certificate for 127.0.0.1 and the authority, PEM, by
// which it is known.
func newCertificate() (*tls.Certificate, []byte, error) {
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &pair, certificate, nil
}
