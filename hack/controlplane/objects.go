package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
)

// volatile kinds come and go by themselves and say nothing about what somebody
// left behind.
var volatile = map[string]bool{
	"events": true, "leases": true, "endpointslices": true, "endpoints": true,
	"controllerrevisions": true, "componentstatuses": true, "flowschemas": true,
}

// Objects returns every object of the cluster as "resource.group namespace/name",
// sorted, but for kinds that come and go by themselves (events, leases, endpoint
// slices). Two calls show what was added, or left behind, in between.
func (c *Cluster) Objects(ctx context.Context) ([]string, error) {
	config := c.RESTConfig()
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	lists, err := found.ServerPreferredResources()
	if err != nil {
		return nil, fmt.Errorf("list kinds: %w", err)
	}
	var out []string
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, kind := range list.APIResources {
			if volatile[kind.Name] || !slices.Contains(kind.Verbs, "list") {
				continue
			}
			names, err := names(ctx, client, group.WithResource(kind.Name))
			if err != nil {
				return nil, err
			}
			out = append(out, names...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func names(ctx context.Context, client metadata.Interface, resource schema.GroupVersionResource) ([]string, error) {
	list, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
	if err = ignoreGone(err); err != nil {
		return nil, fmt.Errorf("list %s: %w", resource.Resource, err)
	}
	if list == nil {
		return nil, errors.New("no list of " + resource.Resource)
	}
	var out []string
	for _, item := range list.Items {
		out = append(out, fmt.Sprintf("%s %s/%s", resource.GroupResource(), item.Namespace, item.Name))
	}
	return out, nil
}
