package member

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

const (
	portForwardProtocol = "portforward.k8s.io"
	// portForwardPing keeps what lies between from taking a quiet connection for a
	// dead one.
	portForwardPing = 5 * time.Second
	// maxRefusal of an API server that does not forward, in bytes.
	maxRefusal = 64 << 10
)

// DialPod connects to a port of a pod by way of the API server, as kubectl
// port-forward does; nothing listens on this machine. It needs the right to create
// pods/portforward, and no other: the newer way, by WebSockets, needs more. What
// the pod's node says when nobody listens there is the error of the first read.
//
// The member's limits hold until the connection stands; after that it is the
// caller's, to the Close that it has to get.
func (m *Member) DialPod(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	doing := fmt.Sprintf("forward port %d of pod %s/%s", port, namespace, pod)
	connection, err := m.upgrade(ctx, m.REST.Post().AbsPath("api", "v1", "namespaces", namespace, "pods", pod, "portforward"))
	if err != nil {
		return nil, Wrap(doing, err)
	}
	conn, err := openPort(connection, port)
	if err != nil {
		_ = connection.Close()
		return nil, Wrap(doing, err)
	}
	return conn, nil
}

// upgrade makes a connection of streams out of a request.
func (m *Member) upgrade(ctx context.Context, request *rest.Request) (httpstream.Connection, error) {
	tls, err := rest.TLSConfigFor(m.config)
	if err != nil {
		return nil, err
	}
	dialer, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: tls, Proxier: m.config.Proxy})
	if err != nil {
		return nil, err
	}
	upgrader := &upgrader{dialer: dialer}
	transport, err := rest.HTTPWrappersForConfig(m.config, upgrader)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, request.URL().String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(httpstream.HeaderProtocolVersion, portForwardProtocol)
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		return nil, errors.Join(refusal(response), upgrader.conn.Close())
	}
	connection, err := spdy.NewClientConnectionWithPings(upgrader.conn, portForwardPing)
	if err != nil {
		return nil, errors.Join(err, upgrader.conn.Close())
	}
	return connection, nil
}

// upgrader sends one request and keeps its connection.
type upgrader struct {
	dialer *spdy.SpdyRoundTripper
	conn   net.Conn
}

// RoundTrip, unlike that of the dialer, also ends with its context while an API
// server is silent.
func (u *upgrader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
	r.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
	conn, err := u.dialer.Dial(r)
	if err != nil {
		return nil, err
	}
	keep := context.AfterFunc(r.Context(), func() { _ = conn.Close() })
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = buffer(response)
	}
	if !keep() {
		err = context.Cause(r.Context())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	u.conn = conn
	return response, nil
}

// buffer reads what an API server says that does not forward.
func buffer(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxRefusal))
	response.Body = io.NopCloser(bytes.NewReader(text))
	return err
}

// refusal is the error of an API server that does not forward.
func refusal(response *http.Response) error {
	var said metav1.Status
	if err := json.NewDecoder(response.Body).Decode(&said); err == nil && said.Code > 0 {
		return &apierrors.StatusError{ErrStatus: said}
	}
	return apierrors.NewGenericServerResponse(response.StatusCode, "create", schema.GroupResource{Resource: "pods/portforward"}, "", "", 0, false)
}

// openPort opens the streams of one connection to a port.
func openPort(connection httpstream.Connection, port int) (net.Conn, error) {
	headers := http.Header{}
	headers.Set("port", strconv.Itoa(port))
	headers.Set("requestID", "0")
	headers.Set("streamType", "error")
	failures, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	// Closed for writing: we have no errors to tell.
	if err := failures.Close(); err != nil {
		return nil, err
	}
	headers.Set("streamType", "data")
	data, err := connection.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	// A pipe in between has the deadlines that a stream lacks.
	near, far := net.Pipe()
	p := &podConn{Conn: near, told: make(chan struct{})}
	go func() {
		defer close(p.told)
		if text, err := io.ReadAll(io.LimitReader(failures, maxRefusal)); err == nil && len(text) > 0 {
			p.failure = fmt.Errorf("the pod's node says: %s", text)
		}
	}()
	go func() {
		_, _ = io.Copy(data, far)
		_ = connection.Close()
	}()
	go func() {
		_, _ = io.Copy(far, data)
		// Why it ended comes in the other stream, at times a moment later.
		select {
		case <-p.told:
		case <-time.After(portForwardPing):
		}
		_ = connection.Close()
		_ = far.Close()
	}()
	return p, nil
}

// podConn is a connection to a port of a pod.
type podConn struct {
	net.Conn
	told    chan struct{} // closed when failure is known
	failure error
}

// Read tells why a connection ended that never was one.
func (p *podConn) Read(into []byte) (int, error) {
	n, err := p.Conn.Read(into)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-p.told:
		return n, cmp.Or(p.failure, err)
	default:
		return n, err
	}
}
