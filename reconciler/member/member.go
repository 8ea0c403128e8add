package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Member is one reachable cluster: its clients, which share one connection,
// one budget and one view of the kinds that it serves. Safe for concurrent use.
type Member struct {
	// Dynamic reads and writes whole objects.
	Dynamic dynamic.Interface
	// Metadata reads and writes objects and returns only their metadata: what
	// a Secret holds is never received.
	Metadata metadata.Interface
	// Discovery asks the API server, without a cache.
	Discovery discovery.DiscoveryInterface
	// REST speaks to any path; its answers are raw.
	REST rest.Interface

	// config is what DialPod connects with, which cannot use http.
	config *rest.Config
	clock  clock
	http   *http.Client

	// asking is held while the API server is asked what it serves.
	asking sync.Mutex
	// mu guards what follows.
	mu sync.Mutex
	// served is what the API server serves; nil for not asked since forgot.
	served *served
	forgot time.Time
}

// Connect makes the clients of a member. It makes no call; a member that cannot
// be reached shows in the first one.
func Connect(config *rest.Config) (*Member, error) {
	m := &Member{config: rest.CopyConfig(config)}
	config = m.config
	config.Wrap(m.clock.wrap)
	var err error
	if m.http, err = rest.HTTPClientFor(config); err != nil {
		return nil, Wrap("prepare the connection", err)
	}
	if m.Dynamic, err = dynamic.NewForConfigAndClient(config, m.http); err != nil {
		return nil, Wrap("prepare the connection", err)
	}
	if m.Metadata, err = metadata.NewForConfigAndClient(config, m.http); err != nil {
		return nil, Wrap("prepare the connection", err)
	}
	found, err := discovery.NewDiscoveryClientForConfigAndClient(config, m.http)
	if err != nil {
		return nil, Wrap("prepare the connection", err)
	}
	m.Discovery, m.REST = found, found.RESTClient()
	return m, nil
}

// ClusterUID is the identity of a cluster: the uid of its namespace
// kube-system, which stays for the cluster's life and moves with a restored
// backup.
func (m *Member) ClusterUID(ctx context.Context) (types.UID, error) {
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	system, err := m.Metadata.Resource(namespaces).Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", Wrap("read the identity of the cluster", err)
	}
	return system.UID, nil
}

// Kubernetes is the version of the API server, such as "1.34.1".
func (m *Member) Kubernetes() (string, error) {
	found, err := m.Discovery.ServerVersion()
	if err != nil {
		return "", Wrap("read the version of the API server", err)
	}
	parsed, err := version.ParseSemantic(found.GitVersion)
	if err != nil {
		return "", Wrap("read the version of the API server", err)
	}
	return fmt.Sprintf("%d.%d.%d", parsed.Major(), parsed.Minor(), parsed.Patch()), nil
}

// Endpoint is where the member's API server is, and how it is verified.
type Endpoint struct {
	// Server is its URL, TLSServerName the name that its certificate has; empty for
	// the URL's.
	Server, TLSServerName string
	// CA is PEM text; empty for what the system trusts.
	CA []byte
	// Unverified: an administrator's flag has it not be verified.
	Unverified bool
}

// Endpoint that the member is reached at.
func (m *Member) Endpoint() Endpoint {
	tls := m.config.TLSClientConfig
	return Endpoint{Server: m.config.Host, TLSServerName: tls.ServerName, CA: tls.CAData, Unverified: tls.Insecure}
}

// Token makes a token of a service account. Errors do not tell any of the answer.
func (m *Member) Token(ctx context.Context, namespace, account string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	request.TypeMeta = metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenRequest"}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	result := m.REST.Post().AbsPath("api", "v1", "namespaces", namespace, "serviceaccounts", account, "token").
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err // with what the API server did not find, which a raw answer lacks
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, err
	}
	var made authenticationv1.TokenRequest
	if err := json.Unmarshal(raw, &made); err != nil {
		return nil, errors.New("the answer cannot be read")
	}
	return &made, nil
}

// Close drops the member's idle connections. The member can still be used.
func (m *Member) Close() { m.http.CloseIdleConnections() }
