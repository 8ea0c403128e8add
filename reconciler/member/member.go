package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
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
	cache  discovery.CachedDiscoveryInterface
	mapper *restmapper.DeferredDiscoveryRESTMapper
	mu     sync.Mutex
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
	m.cache = memory.NewMemCacheClient(found)
	m.mapper = restmapper.NewDeferredDiscoveryRESTMapper(m.cache)
	return m, nil
}

// refreshKinds is how often an unknown kind makes us ask the API server again.
const refreshKinds = 2 * time.Second

// Mapping is the resource of a kind. For an unknown kind the API server is
// asked again, at most every two seconds; one that is not served is an error of
// reason [KindMissing]. That is only said where the API server has told what it
// serves in the kind's group: of a group that does not answer nothing is known.
func (m *Member) Mapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	mapping, err := m.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) && m.refresh() {
		mapping, err = m.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if meta.IsNoMatchError(err) {
		err = cmp.Or(m.untold(kind.Group), err)
	}
	if err != nil {
		return nil, Wrap(fmt.Sprintf("find the kind %s %s", kind.GroupVersion(), kind.Kind), err)
	}
	return mapping, nil
}

// untold is why it is not known what the API server serves in a group; nil if it
// is. The mapper passes over groups that did not answer.
func (m *Member) untold(group string) error {
	_, _, err := m.cache.ServerGroupsAndResources()
	failed := (*discovery.ErrGroupDiscoveryFailed)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	for version, cause := range failed.Groups {
		if version.Group == group && !apierrors.IsNotFound(cause) {
			return &Error{Reason: cmp.Or(apiReason(cause), ServerFailing), Doing: fmt.Sprintf("ask what is served in %s", version), Err: cause}
		}
	}
	return nil
}

// AnyMapping is the resource of a kind in the version asked for, or in another
// if the API server has stopped serving that one: for objects of old inventories.
func (m *Member) AnyMapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	mapping, err := m.Mapping(kind)
	if ReasonOf(err) != KindMissing {
		return mapping, err
	}
	mapping, err = m.mapper.RESTMapping(kind.GroupKind())
	if err != nil {
		return nil, Wrap(fmt.Sprintf("find the kind %s", kind.GroupKind()), err)
	}
	return mapping, nil
}

// Forget drops what is known about the kinds that the API server serves: after
// a CustomResourceDefinition came or went.
func (m *Member) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgot = time.Now()
	m.mapper.Reset()
}

// refresh forgets if that was not just done.
func (m *Member) refresh() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.forgot) < refreshKinds {
		return false
	}
	m.forgot = time.Now()
	m.mapper.Reset()
	return true
}

// Served are all kinds that the API server serves, as discovery lists them,
// in their preferred versions. Groups that do not answer (an aggregated API
// whose server is away) are silent: what they serve is not known.
func (m *Member) Served() (lists []*metav1.APIResourceList, silent []schema.GroupVersion, err error) {
	lists, err = discovery.ServerPreferredResources(m.cache)
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		return nil, nil, Wrap("list the kinds of the API server", err)
	}
	return lists, slices.Collect(maps.Keys(failed)), nil
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

// Close drops the member's idle connections. The member can still be used.
func (m *Member) Close() { m.http.CloseIdleConnections() }
