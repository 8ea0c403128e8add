package controlplane

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// An egressProxy stands where kube-proxy and the pod network would: the API
// server sends it "CONNECT <cluster IP>:<port>" for every webhook call, and it
// connects to the local process that is the pod. Targets without such a process
// are refused at once, which is what a webhook without endpoints looks like.
type egressProxy struct {
	// resolve maps host and port, as the API server names them, to an address of
	// this machine.
	resolve func(host, port string) (string, error)

	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]bool // nil when stopped
	serving  sync.WaitGroup
}

func startEgressProxy(socket string, resolve func(host, port string) (string, error)) (*egressProxy, error) {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen for webhook calls: %w", err)
	}
	p := &egressProxy{resolve: resolve, listener: listener, open: map[net.Conn]bool{}}
	p.serving.Go(p.serve)
	return p, nil
}

func (p *egressProxy) serve() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed by stop
		}
		if p.track(conn) {
			p.serving.Go(func() {
				defer p.untrack(conn)
				p.handle(conn)
			})
		}
	}
}

func (p *egressProxy) handle(client net.Conn) {
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	server, err := p.dial(request)
	if err != nil {
		fmt.Fprintf(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n%s\n", err)
		return
	}
	if !p.track(server) {
		return
	}
	defer p.untrack(server)
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	p.serving.Go(func() {
		_, _ = io.Copy(server, reader) // ends when either side closes
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
}

func (p *egressProxy) dial(request *http.Request) (net.Conn, error) {
	if request.Method != http.MethodConnect {
		return nil, fmt.Errorf("method %q is not CONNECT", request.Method)
	}
	host, port, err := net.SplitHostPort(request.Host)
	if err != nil {
		return nil, err
	}
	address, err := p.resolve(host, port)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", address)
}

func (p *egressProxy) track(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		_ = conn.Close()
		return false
	}
	p.open[conn] = true
	return true
}

func (p *egressProxy) untrack(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *egressProxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	for conn := range p.open {
		_ = conn.Close()
	}
	p.open = nil
	p.mu.Unlock()
	p.serving.Wait()
}
