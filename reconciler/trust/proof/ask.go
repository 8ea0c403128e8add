package proof

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/isthmus-mesh/isthmus/reconciler/istiod"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

const (
	// Account whose token istiod is shown. Its CA takes any account of the cluster
	// and signs for that account's identity. This one is in every namespace, and has
	// no rights that nobody gave it.
	Account = "default"
	// audience that istiod wants in tokens.
	audience = "istio-ca"
	// port of istiod's CA.
	port = 15012
	// RootsName is the ConfigMap that istiod writes into every namespace.
	RootsName = "istio-ca-root-cert"
	rootsKey  = "root-cert.pem"
	// tokenLife is the shortest that Kubernetes gives; the certificate that is asked
	// for lives as long, and nobody keeps its key.
	tokenLife = 10 * time.Minute
	// timeout of one replica, and how many are asked at once.
	timeout, atOnce = 20 * time.Second, 4
	// maxRoots bounds what is read as certificates, in bytes.
	maxRoots = 256 << 10
)

// ErrForeign says that an istiod has a CA of its own making, or of another network.
var ErrForeign = errors.New("its own certificate is not from a root of the network: it has made a CA itself, or has one of another network")

// Question says whom to ask.
type Question struct {
	// Namespace of istiod.
	Namespace string
	// Roots of the network: istiod's own certificate has to come from one of them.
	Roots []*x509.Certificate
}

// Ask finds out what a member's istiods do. An error means that nothing was found
// out because the member's API failed; what one istiod did not answer is in the
// Answer.
func Ask(ctx context.Context, m *member.Member, q Question) (Answer, error) {
	var a Answer
	pods, err := istiod.Pods(ctx, m, q.Namespace)
	if err != nil {
		return a, err
	}
	a.Published, a.PublishedErr = published(ctx, m, q.Namespace)
	if reason := member.ReasonOf(a.PublishedErr); reason != "" && reason != member.Unclassified {
		return a, a.PublishedErr
	}
	if a.PublishedErr != nil {
		return a, nil // nothing could be proven
	}
	token, err := tokenOf(ctx, m, q.Namespace)
	if member.ReasonOf(err) == member.AccessDenied {
		a.Denied = fmt.Sprintf("create tokens of the account %s/%s", q.Namespace, Account)
		return a, nil
	} else if err != nil {
		return a, err
	}
	a.Replicas = make([]Replica, len(pods))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, pod := range pods {
		group.Go(func() error {
			a.Replicas[i] = askOne(ctx, m, q, pod, token)
			return nil
		})
	}
	_ = group.Wait() // nobody returns one
	for _, r := range a.Replicas {
		if member.ReasonOf(r.Err) == member.AccessDenied {
			a.Denied = fmt.Sprintf("create pods/portforward in namespace %s", q.Namespace)
		}
	}
	return a, ctx.Err()
}

// published are the roots that istiod gives to a namespace.
func published(ctx context.Context, m *member.Member, namespace string) ([]*x509.Certificate, error) {
	raw, err := m.REST.Get().AbsPath("api", "v1", "namespaces", namespace, "configmaps", RootsName).DoRaw(ctx)
	if err != nil {
		return nil, member.Wrap("read ConfigMap "+RootsName, err)
	}
	var config corev1.ConfigMap
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", RootsName, err)
	}
	roots, err := certificates(config.Data[rootsKey])
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", RootsName, err)
	}
	return roots, nil
}

// tokenOf makes a token that istiod takes.
func tokenOf(ctx context.Context, m *member.Member, namespace string) (string, error) {
	made, err := m.Token(ctx, namespace, Account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: ptr.To(int64(tokenLife.Seconds()))},
	})
	if err != nil {
		return "", member.Wrap("make a token to ask istiod with", err)
	}
	return made.Status.Token, nil
}

// askOne has one istiod sign a certificate.
func askOne(ctx context.Context, m *member.Member, q Question, pod, token string) Replica {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := Replica{Pod: pod}
	conn, err := dial(ctx, m, q, pod)
	if err != nil {
		r.Err = err
		return r
	}
	r.Chain, r.Roots, r.Err = sign(ctx, conn, token)
	return r
}

// dial connects to the CA of an istiod that shows a certificate of the network.
func dial(ctx context.Context, m *member.Member, q Question, pod string) (net.Conn, error) {
	conn, err := m.DialPod(ctx, q.Namespace, pod, port)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, root := range q.Roots {
		roots.AddCert(root)
	}
	secured := tls.Client(conn, &tls.Config{
		RootCAs: roots, ServerName: "istiod." + q.Namespace + ".svc", MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
	})
	err = secured.HandshakeContext(ctx)
	if err == nil {
		return secured, nil
	}
	_ = conn.Close()
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return nil, ErrForeign
	}
	return nil, fmt.Errorf("connect to its CA: %w", err)
}

// sign has a key signed that is then forgotten. It closes the connection.
func sign(ctx context.Context, conn net.Conn, token string) (chain, roots []*x509.Certificate, err error) {
	defer conn.Close()
	request, err := newRequest()
	if err != nil {
		return nil, nil, err
	}
	// TLS is there already: an error of it has a type only outside of gRPC.
	client, err := grpc.NewClient("passthrough:///istiod", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return conn, nil }))
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	answer, err := istio.NewIstioCertificateServiceClient(client).CreateCertificate(ctx, request)
	if err != nil {
		return nil, nil, fmt.Errorf("ask for a certificate: %s: %s", status.Code(err), status.Convert(err).Message())
	}
	return read(answer.GetCertChain())
}

func newRequest() (*istio.IstioCertificateRequest, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	return &istio.IstioCertificateRequest{
		Csr:              string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})),
		ValidityDuration: int64(tokenLife.Seconds()),
	}, nil
}

// read takes istiod's answer apart: the certificate and its chain, one each, and
// all roots in the last element.
func read(answer []string) (chain, roots []*x509.Certificate, err error) {
	if len(answer) < 2 {
		return nil, nil, errors.New("its answer has no roots")
	}
	if chain, err = certificates(strings.Join(answer[:len(answer)-1], "\n")); err != nil {
		return nil, nil, fmt.Errorf("read its answer: %w", err)
	}
	if roots, err = certificates(answer[len(answer)-1]); err != nil {
		return nil, nil, fmt.Errorf("read its roots: %w", err)
	}
	return chain, roots, nil
}

// certificates reads PEM that holds nothing else.
func certificates(text string) ([]*x509.Certificate, error) {
	if len(text) > maxRoots {
		return nil, fmt.Errorf("more than %d bytes", maxRoots)
	}
	var out []*x509.Certificate
	for rest := []byte(text); len(bytes.TrimSpace(rest)) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("not certificates in PEM")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("a certificate does not parse")
		}
		out = append(out, certificate)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificates")
	}
	return out, nil
}
