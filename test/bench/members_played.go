package main

import (
	"context"
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

// played is a kind whose controller is not there: what it would write into the
// status of an object; nil where that is there already.
type played struct {
	resource schema.GroupVersionResource
	status   func(*unstructured.Unstructured) map[string]any
}

var (
	playedGateways = played{
		schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gateways"}, gatewayStatus,
	}
	playedWorkloads = []played{
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, deploymentStatus},
		{schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}, daemonSetStatus},
	}
)

// play programs Gateways, as istiod would, until ctx ends; and, where there are no
// controllers, says that workloads are rolled out.
func (g *ground) play(ctx context.Context, cluster *controlplane.Cluster, workloads bool) error {
	client, err := dynamic.NewForConfig(cluster.RESTConfig())
	if err != nil {
		return err
	}
	parts := []played{playedGateways}
	if workloads {
		parts = append(parts, playedWorkloads...)
	}
	for _, p := range parts {
		g.playing.Go(func() {
			for ctx.Err() == nil {
				p.follow(ctx, client.Resource(p.resource))
				select { // a watch that ends is begun again
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	return nil
}

func (p played) follow(ctx context.Context, client dynamic.NamespaceableResourceInterface) {
	events, err := client.Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		if !ok {
			return
		}
		status := p.status(object)
		if status == nil {
			continue
		}
		patch, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			return
		}
		_, err = client.Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return // the next watch begins with what is there, this object among it
		}
	}
}

func gatewayStatus(gateway *unstructured.Unstructured) map[string]any {
	generation := gateway.GetGeneration()
	all, _, _ := unstructured.NestedSlice(gateway.Object, "status", "conditions")
	for _, one := range all {
		if fields, ok := one.(map[string]any); ok && fields["type"] == "Programmed" && fields["status"] == "True" && fields["observedGeneration"] == generation {
			return nil
		}
	}
	var conditions []any
	for _, kind := range []string{"Accepted", "Programmed"} {
		conditions = append(conditions, map[string]any{
			"type": kind, "status": "True", "reason": kind, "message": "played", "observedGeneration": generation,
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		})
	}
	return map[string]any{"conditions": conditions, "addresses": []any{map[string]any{"type": "IPAddress", "value": "192.0.2.1"}}}
}

func deploymentStatus(deployment *unstructured.Unstructured) map[string]any {
	replicas, ok, _ := unstructured.NestedInt64(deployment.Object, "spec", "replicas")
	if !ok {
		replicas = 1
	}
	now := time.Now().UTC().Format(time.RFC3339)
	return unlessSeen(deployment, map[string]any{
		"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
		"conditions": []any{
			map[string]any{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": "played", "lastTransitionTime": now, "lastUpdateTime": now},
			map[string]any{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": "played", "lastTransitionTime": now, "lastUpdateTime": now},
		},
	})
}

// playedNodes is how many nodes a DaemonSet has a pod on.
const playedNodes = 2

func daemonSetStatus(set *unstructured.Unstructured) map[string]any {
	return unlessSeen(set, map[string]any{
		"desiredNumberScheduled": playedNodes, "currentNumberScheduled": playedNodes, "updatedNumberScheduled": playedNodes,
		"numberReady": playedNodes, "numberAvailable": playedNodes, "numberMisscheduled": 0,
	})
}

// unlessSeen is the status of the object's generation; nil if it has one.
func unlessSeen(object *unstructured.Unstructured, status map[string]any) map[string]any {
	if seen, _, _ := unstructured.NestedInt64(object.Object, "status", "observedGeneration"); seen == object.GetGeneration() {
		return nil
	}
	status["observedGeneration"] = object.GetGeneration()
	return status
}
