package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

// Port is the one that nodes give as their kubelet's.
const Port = 10250

const (
	idleTimeout     = 4 * time.Hour // kubelet's own
	creationTimeout = 30 * time.Second
)

// A Server is the part of a kubelet's API that the API server calls for
// pods/portforward.
type Server struct {
	runner   *Runner
	listener net.Listener
	server   *http.Server
}

// Serve answers for the pods of a Runner on a free port of 127.0.0.1, until Close.
// Who may call is decided by the TLS configuration alone.
func Serve(runner *Runner, config *tls.Config) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	s := &Server{runner: runner, listener: listener}
	mux := http.NewServeMux()
	mux.HandleFunc("/portForward/{namespace}/{pod}", s.portForward)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: creationTimeout}
	// A stream takes the whole connection over, which HTTP/2 does not have.
	config = config.Clone()
	config.NextProtos = []string{"http/1.1"}
	go func() { _ = s.server.Serve(tls.NewListener(listener, config)) }() // ends by Close
	return s, nil
}

// Address is where it listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close ends it. Streams end with their pods or clients.
func (s *Server) Close() { _ = s.server.Close() }

func (s *Server) portForward(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("namespace") + "/" + r.PathValue("pod")
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, s.runner, name, "", options, idleTimeout, creationTimeout, portforward.SupportedProtocols)
}

// PortForward carries one connection between a stream and a port of a pod, named
// "namespace/pod", until either side ends.
func (r *Runner) PortForward(ctx context.Context, name, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	address, err := r.address(name, port)
	if err != nil {
		return err
	}
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, stream)
		_ = server.Close()
	}()
	// Closed by the other direction, or not taken any more: the client is gone.
	if _, err = io.Copy(stream, server); errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (r *Runner) address(name string, port int32) (string, error) {
	for _, running := range r.Running() {
		if running.Namespace+"/"+running.Pod != name {
			continue
		}
		if address, ok := running.Address(port); ok {
			return address, nil
		}
		return "", fmt.Errorf("pod %s does not listen on port %d", name, port)
	}
	return "", fmt.Errorf("pod %s is no process", name)
}
