package apisim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Version of Kubernetes that members claim to be.
const Version = "v1.36.3"

// Simulator is a set of members. Safe for concurrent use.
type Simulator struct {
	key    *ecdsa.PrivateKey
	merger *merger
	counts counters

	mu      sync.Mutex
	servers []*http.Server
}

// New returns a simulator without members.
func New() (*Simulator, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return &Simulator{key: key, merger: newMerger()}, nil
}

// Counts are the requests that members were asked.
type Counts struct {
	// Reads are gets and lists, discovery and version; Watches those that were
	// opened; DryRuns and Writes what would change or changes something; Tokens those
	// that accounts were asked for, Forwards ports of pods.
	Reads, Watches, DryRuns, Writes, Tokens, Forwards int64
}

// Total of all requests.
func (c Counts) Total() int64 {
	return c.Reads + c.Watches + c.DryRuns + c.Writes + c.Tokens + c.Forwards
}

// Minus is what came since an earlier count.
func (c Counts) Minus(before Counts) Counts {
	return Counts{
		c.Reads - before.Reads, c.Watches - before.Watches, c.DryRuns - before.DryRuns, c.Writes - before.Writes,
		c.Tokens - before.Tokens, c.Forwards - before.Forwards,
	}
}

type counters struct{ reads, watches, dryRuns, writes, tokens, forwards atomic.Int64 }

// Counts of all members since the start.
func (s *Simulator) Counts() Counts {
	c := &s.counts
	return Counts{c.reads.Load(), c.watches.Load(), c.dryRuns.Load(), c.writes.Load(), c.tokens.Load(), c.forwards.Load()}
}

// AddMember starts one more member on a port of 127.0.0.1 and returns a
// kubeconfig for it. The member has some objects from the start, with manager
// "before"; definitions come before what they define.
func (s *Simulator) AddMember(name string, has ...*unstructured.Unstructured) ([]byte, error) {
	certificate, ca, err := s.certificate(name)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for member %q: %w", name, err)
	}
	token := rand.Text()
	m, err := newMember(s, token, has)
	if err != nil {
		_ = listener.Close() // nobody has used it
		return nil, fmt.Errorf("member %q: %w", name, err)
	}
	server := &http.Server{
		Handler: m, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		// A client that breaks off is its own business.
		ErrorLog: log.New(discard{}, "", 0),
	}
	s.mu.Lock()
	s.servers = append(s.servers, server)
	s.mu.Unlock()
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends by Close
	return clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: "https://" + listener.Addr().String(), CertificateAuthorityData: ca,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	})
}

// Close ends all members and their connections.
func (s *Simulator) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.servers {
		_ = server.Close() // nothing is left to be saved
	}
	s.servers = nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// certificate of a member, which is its own authority.
func (s *Simulator) certificate(name string) (tls.Certificate, []byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("make the certificate of member %q: %w", name, err)
	}
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: s.key}
	return pair, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
