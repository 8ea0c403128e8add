package member

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// refreshKinds is how often an unknown kind makes us ask the API server again.
const refreshKinds = 2 * time.Second

// Mapping is the resource of a kind. For an unknown kind the API server is
// asked again, at most every two seconds; one that is not served is an error of
// reason [KindMissing]. That is only said where the API server has told what it
// serves in the kind's group: of a group that does not answer nothing is known.
func (m *Member) Mapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	mapping, err := m.find(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) && m.refresh() {
		mapping, err = m.find(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, Wrap(fmt.Sprintf("find the kind %s %s", kind.GroupVersion(), kind.Kind), err)
	}
	return mapping, nil
}

// AnyMapping is the resource of a kind in the version asked for, or in another
// if the API server has stopped serving that one: for objects of old inventories.
func (m *Member) AnyMapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	mapping, err := m.Mapping(kind)
	if ReasonOf(err) != KindMissing {
		return mapping, err
	}
	mapping, err = m.find(kind.GroupKind())
	if err != nil {
		return nil, Wrap(fmt.Sprintf("find the kind %s", kind.GroupKind()), err)
	}
	return mapping, nil
}

// find is the resource of a kind by what is known of the API server, which is
// asked if nothing is.
func (m *Member) find(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	served, err := m.ask()
	if err != nil {
		return nil, err
	}
	mapping, err := served.kinds.mapper.RESTMapping(kind, versions...)
	if meta.IsNoMatchError(err) {
		err = cmp.Or(served.untold(kind.Group), err)
	}
	return mapping, err
}

// Forget drops what is known about the kinds that the API server serves: after
// a CustomResourceDefinition came or went.
func (m *Member) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.served, m.forgot = nil, time.Now()
}

// refresh forgets if that was not just done.
func (m *Member) refresh() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.forgot) < refreshKinds {
		return false
	}
	m.served, m.forgot = nil, time.Now()
	return true
}

// Served asks the API server for all kinds that it serves, in their preferred
// versions. Groups that do not answer (an aggregated API whose server is away)
// are silent: what they serve is not known.
func (m *Member) Served() (lists []*metav1.APIResourceList, silent []schema.GroupVersion, err error) {
	lists, err = discovery.ServerPreferredResources(m.Discovery)
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		return nil, nil, Wrap("list the kinds of the API server", err)
	}
	return lists, slices.Collect(maps.Keys(failed)), nil
}

// served is what one API server has told.
type served struct {
	kinds *kinds
	// silent are the groups that did not answer, and why.
	silent map[schema.GroupVersion]error
}

// untold is why it is not known what the API server serves in a group; nil if it
// is.
func (s *served) untold(group string) error {
	for version, cause := range s.silent {
		if version.Group == group && !apierrors.IsNotFound(cause) {
			return &Error{Reason: cmp.Or(apiReason(cause), ServerFailing), Doing: fmt.Sprintf("ask what is served in %s", version), Err: cause}
		}
	}
	return nil
}

// ask is what the API server serves. It is asked once at a time, and not again
// before that is forgotten.
func (m *Member) ask() (*served, error) {
	if known, _ := m.knownServed(); known != nil {
		return known, nil
	}
	m.asking.Lock()
	defer m.asking.Unlock()
	known, forgot := m.knownServed()
	if known != nil {
		return known, nil
	}
	groups, lists, err := m.Discovery.ServerGroupsAndResources()
	failed := (*discovery.ErrGroupDiscoveryFailed)(nil)
	if err != nil && (!errors.As(err, &failed) || groups == nil || lists == nil) {
		return nil, err
	}
	told := &served{}
	if failed != nil {
		told.silent = failed.Groups
	}
	if told.kinds, err = kindsOf(groups, lists); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgot.Equal(forgot) { // else something came or went while it answered
		m.served = told
	}
	return told, nil
}

func (m *Member) knownServed() (*served, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.served, m.forgot
}
