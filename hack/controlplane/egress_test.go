package controlplane

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

func TestEgressProxy(t *testing.T) {
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	go func() {
		conn, err := target.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn) // an echo
	}()
	socket := filepath.Join(t.TempDir(), "s")
	proxy, err := startEgressProxy(socket, func(host, port string) (string, error) {
		if host == "10.0.0.7" && port == "443" {
			return target.Addr().String(), nil
		}
		return "", errors.New("nobody there")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.stop()

	conn, status := connect(t, socket, "10.0.0.8:443")
	conn.Close()
	if status != http.StatusBadGateway {
		t.Errorf("unknown target: status %d, want a refusal", status)
	}
	conn, status = connect(t, socket, "10.0.0.7:443")
	defer conn.Close()
	if status != http.StatusOK {
		t.Fatalf("known target: status %d", status)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "hello" {
		t.Errorf("through the tunnel came %q, %v", answer, err)
	}
}

func connect(t *testing.T, socket, target string) (net.Conn, int) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close() // of an answer to CONNECT there is none to read
	return conn, response.StatusCode
}
