package source_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/isthmus-mesh/isthmus/reconciler/source"
)

// gitServer serves the real git over http or https and counts.
type gitServer struct {
	*httptest.Server
	// lists and packs are requests for references and for objects.
	lists, packs atomic.Int64
	// bytes of answers.
	bytes atomic.Int64
}

// serveGit serves the repositories below root with the real git. allow may refuse
// a request; nil allows all.
func serveGit(t *testing.T, root string, start func(http.Handler) *httptest.Server, allow func(*http.Request) bool) *gitServer {
	t.Helper()
	backend := &cgi.Handler{
		Path: filepath.Join(git(t, root, "--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	}
	s := &gitServer{}
	s.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allow != nil && !allow(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPost {
			s.packs.Add(1)
		} else {
			s.lists.Add(1)
		}
		backend.ServeHTTP(countedWriter{w, &s.bytes}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

type countedWriter struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (w countedWriter) Write(p []byte) (int, error) {
	w.bytes.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

// ca is the certificate of a TLS test server, PEM.
func ca(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// basic allows one user.
func basic(username, password string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		return u == username && p == password
	}
}

// newKey returns a private key, PEM, and its public half. A passphrase locks it.
func newKey(t *testing.T, passphrase string) ([]byte, ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), signer
}

// sshServer runs the real git-upload-pack for whoever has the key.
type sshServer struct {
	address string
	host    ssh.Signer
}

func serveSSH(t *testing.T, client ssh.PublicKey) sshServer {
	t.Helper()
	_, host := newKey(t, "")
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var under sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		under.Wait()
	})
	under.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			under.Go(func() { serveConn(conn, config) })
		}
	})
	return sshServer{listener.Addr().String(), host}
}

func serveConn(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for each := range channels {
		channel, requests, err := each.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			if request.Type != "exec" {
				_ = request.Reply(false, nil)
				continue
			}
			_ = request.Reply(true, nil)
			var command struct{ Line string }
			_ = ssh.Unmarshal(request.Payload, &command)
			status := runUploadPack(channel, command.Line)
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			_ = channel.Close()
		}
	}
}

func runUploadPack(channel ssh.Channel, line string) uint32 {
	program, _, _ := strings.Cut(line, " ")
	if program != "git-upload-pack" {
		return 127
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 126
	}
	if err := cmd.Start(); err != nil {
		return 126
	}
	go func() {
		_, _ = io.Copy(stdin, channel)
		_ = stdin.Close()
	}()
	if cmd.Wait() != nil {
		return 128
	}
	return 0
}

func (s sshServer) knownHosts() []byte {
	return []byte(knownhosts.Line([]string{knownhosts.Normalize(s.address)}, s.host.PublicKey()) + "\n")
}

// transports are the ways to one bare repository, each with what it takes.
func transports(t *testing.T, bare string) map[string]source.Options {
	t.Helper()
	root, name := filepath.Split(bare)
	identity, client := newKey(t, "open sesame")
	server := serveSSH(t, client.PublicKey())
	secure := serveGit(t, root, httptest.NewTLSServer, basic("bot", "s3cret"))
	return map[string]source.Options{
		"file":  {URL: "file://" + bare},
		"https": {URL: secure.URL + "/" + name, Credentials: source.Credentials{Username: "bot", Password: "s3cret", CA: ca(secure.Server)}},
		"ssh": {URL: "ssh://git@" + server.address + bare,
			Credentials: source.Credentials{Identity: identity, Password: "open sesame", KnownHosts: server.knownHosts()}},
	}
}
