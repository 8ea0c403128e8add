package member

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/restmapper"
)

// kinds are those that an API server serves. They take some 200 KiB, and members
// of one Kubernetes version with the same definitions have the same: all whose
// API servers answer alike share one value. It never changes; whoever gets
// another answer has another value.
type kinds struct {
	mapper meta.RESTMapper
}

// answer is the hash of what an API server said that it serves.
type answer [sha256.Size]byte

// allKinds are those that some member serves, by the answer. They are held
// weakly: what the last member has dropped goes with the next collection.
var allKinds = struct {
	sync.Mutex
	by map[answer]weak.Pointer[kinds]
}{by: map[answer]weak.Pointer[kinds]{}}

// kindsOf an answer to discovery: those of the members that got the same one, or
// new ones.
func kindsOf(groups []*metav1.APIGroup, lists []*metav1.APIResourceList) (*kinds, error) {
	told := grouped(groups, lists)
	raw, err := json.Marshal(told)
	if err != nil {
		return nil, fmt.Errorf("hash what the API server serves: %w", err)
	}
	sum := answer(sha256.Sum256(raw))
	allKinds.Lock()
	defer allKinds.Unlock()
	if known := allKinds.by[sum].Value(); known != nil {
		return known, nil
	}
	made := &kinds{mapper: restmapper.NewDiscoveryRESTMapper(told)}
	allKinds.by[sum] = weak.Make(made)
	runtime.AddCleanup(made, dropKinds, sum)
	return made, nil
}

// dropKinds forgets kinds that are gone, unless they have come anew.
func dropKinds(sum answer) {
	allKinds.Lock()
	defer allKinds.Unlock()
	if allKinds.by[sum].Value() == nil {
		delete(allKinds.by, sum)
	}
}

// grouped brings an answer into the form that a mapper takes, without what tells
// the API servers apart. Groups and versions keep their order, which is that of
// preference.
func grouped(groups []*metav1.APIGroup, lists []*metav1.APIResourceList) []*restmapper.APIGroupResources {
	resources := map[string][]metav1.APIResource{}
	for _, list := range lists {
		resources[list.GroupVersion] = list.APIResources
	}
	out := make([]*restmapper.APIGroupResources, 0, len(groups))
	for _, group := range groups {
		one := &restmapper.APIGroupResources{Group: *group, VersionedResources: map[string][]metav1.APIResource{}}
		one.Group.ServerAddressByClientCIDRs = nil
		for _, version := range group.Versions {
			if list, told := resources[version.GroupVersion]; told {
				one.VersionedResources[version.Version] = list
			}
		}
		out = append(out, one)
	}
	return out
}
