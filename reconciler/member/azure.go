package member

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
)

const (
	// aksScope is that of the AKS server application, the audience of every AKS API
	// server in every cloud.
	// Source: https://learn.microsoft.com/azure/aks/kubelogin-authentication
	aksScope = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
	// azureFresh is how long an answer of Azure about a cluster is good: its
	// addresses and CA hardly ever change.
	azureFresh = 6 * time.Hour
	// azureSuspect is the least time between two looks at a cluster that cannot be
	// reached by what is known of it.
	azureSuspect = time.Minute
)

// Azure reaches AKS clusters by their resource ids. What Azure says of a cluster
// is read once and kept; what is kept is used on while Azure does not answer.
// Safe for concurrent use.
type Azure struct {
	// Options of the members' connections.
	Options Options
	// HTTP makes the calls to Azure. Nil: the default.
	HTTP *http.Client
	// Clouds in place of Azure's own.
	Clouds map[v1alpha1.AzureCloud]cloud.Configuration

	now      func() time.Time
	mu       sync.Mutex
	logins   map[string]*azure.Login
	clusters map[string]*managedCluster
}

// NewAzure returns an Azure that knows nothing yet.
func NewAzure(o Options) *Azure {
	return &Azure{
		Options: o, Clouds: azure.Clouds(), now: time.Now, logins: map[string]*azure.Login{}, clusters: map[string]*managedCluster{},
	}
}

// ManagedCluster is an AKS cluster and how to log in to it.
type ManagedCluster struct {
	ResourceID string
	v1alpha1.Azure
	// Secret is that of an application, and SecretVersion changes with it.
	Secret        map[string][]byte
	SecretVersion string
}

// Reached is what a connection to an AKS cluster is made from.
type Reached struct {
	// Version changes when the address, the CA or the identity does.
	Version string
	cluster *managedCluster
	at      address
	options Options
}

// Reach finds out where a cluster is. It asks Azure the first time, when what it
// knows is old, and when the cluster could not be reached by it. An error has one
// of the reasons of this package; [ClusterGone] says that Azure knows that the
// cluster was deleted.
func (a *Azure) Reach(ctx context.Context, c ManagedCluster) (Reached, error) {
	c.Identity = cmp.Or(c.Identity, v1alpha1.AzureWorkloadIdentity)
	c.Cloud = cmp.Or(c.Cloud, v1alpha1.AzurePublic)
	cluster, err := a.cluster(c)
	if err != nil {
		return Reached{}, err
	}
	at, err := cluster.address(ctx)
	if err != nil {
		return Reached{}, err
	}
	sum := sha256.Sum256([]byte(cluster.key + "\x00" + at.server + "\x00" + string(at.ca)))
	return Reached{Version: hex.EncodeToString(sum[:]), cluster: cluster, at: at, options: a.Options}, nil
}

// Config is the configuration for the cluster: only its address and CA are
// Azure's, the token is made for the AKS server application by the identity.
func (r Reached) Config() *rest.Config {
	config := &rest.Config{
		Host:            r.at.server,
		TLSClientConfig: rest.TLSClientConfig{CAData: r.at.ca},
		UserAgent:       userAgent(r.options),
		QPS:             -1,
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bearer{cluster: r.cluster, next: next} })
	config.Wrap(newBudget(r.options).wrap)
	return config
}

// cluster is what is known of a cluster by one identity.
func (a *Azure) cluster(c ManagedCluster) (*managedCluster, error) {
	who := strings.Join([]string{string(c.Cloud), string(c.Identity), c.TenantID, c.ClientID, c.SecretVersion}, "\x00")
	key := strings.ToLower(c.ResourceID) + "\x00" + string(c.Endpoint) + "\x00" + who
	a.mu.Lock()
	defer a.mu.Unlock()
	if known := a.clusters[key]; known != nil {
		return known, nil
	}
	as := a.logins[who]
	if as == nil {
		config, ok := a.Clouds[c.Cloud]
		if !ok {
			return nil, &Error{Reason: AzureLoginRefused, Doing: fmt.Sprintf("spec.cluster.azure.cloud %q is not known", c.Cloud)}
		}
		var err error
		as, err = azure.New(azure.Identity{Kind: c.Identity, ClientID: c.ClientID, TenantID: c.TenantID, Secret: c.Secret}, azure.Options{
			Field: "spec.cluster.azure", Cloud: config, Scope: aksScope, UserAgent: DefaultUserAgent, HTTP: a.HTTP, Now: a.now,
		})
		if err != nil {
			return nil, err
		}
		a.logins[who] = as
	}
	// Secrets that were replaced do not stay in memory.
	used := map[*azure.Login]bool{as: true}
	for other, known := range a.clusters {
		if strings.HasPrefix(other, strings.ToLower(c.ResourceID)+"\x00") {
			delete(a.clusters, other)
			continue
		}
		used[known.login] = true
	}
	maps.DeleteFunc(a.logins, func(_ string, l *azure.Login) bool { return !used[l] })
	a.clusters[key] = &managedCluster{
		key: key, id: c.ResourceID, endpoint: c.Endpoint, login: as, now: a.now,
		timeout: cmp.Or(a.Options.Timeout, DefaultTimeout), turn: make(chan struct{}, 1),
	}
	return a.clusters[key], nil
}
