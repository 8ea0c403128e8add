package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// maxNodes that are named; a message is for a person.
	maxNodes = 5
	// askNodes is the least time between two lists of a DaemonSet's pods, which are
	// as many as the member has nodes.
	askNodes = 15 * time.Second
	// maxPods that are looked at.
	maxPods = 500
	// The number of a DaemonSet's pod template, on itself and on its pods. The
	// controller calls them deprecated, sets them, and decides by them as well.
	templateOfSet = "deprecated.daemonset.template.generation"
	templateOfPod = "pod-template-generation"
)

var podsResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// nodesBehind says on which nodes a DaemonSet that is not healthy does not run as
// it should; empty where its pods cannot be read or do not tell. Pods are listed
// now and then only; in between the last answer stands.
func (d *delivery) nodesBehind(ctx context.Context, set *unstructured.Unstructured) string {
	of := SubjectOf(set).key()
	if last := d.nodes; last.of == of && time.Since(last.at) < askNodes {
		return last.said
	}
	selected, _, _ := unstructured.NestedStringMap(set.Object, "spec", "selector", "matchLabels")
	if len(selected) == 0 {
		return ""
	}
	pods, err := d.target.member.Dynamic.Resource(podsResource).Namespace(set.GetNamespace()).List(ctx,
		metav1.ListOptions{LabelSelector: labels.SelectorFromSet(selected).String(), Limit: maxPods})
	said := ""
	if err == nil { // without the right to list pods the count has to do
		said = behind(set, pods.Items)
	}
	d.nodes = nodesSaid{of: of, at: time.Now(), said: said}
	return said
}

// nodesSaid is what was last said of the nodes of a DaemonSet.
type nodesSaid struct {
	of   Subject
	at   time.Time
	said string
}

// behind names the nodes whose pod is not of the DaemonSet's present template, or
// not ready.
func behind(set *unstructured.Unstructured, pods []unstructured.Unstructured) string {
	template := set.GetAnnotations()[templateOfSet]
	var nodes []string
	for _, pod := range pods {
		node, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
		of := pod.GetLabels()[templateOfPod]
		old := template != "" && of != "" && of != template
		ready := condition(&pod, "Ready")
		if node != "" && (old || ready == nil || ready.Status != metav1.ConditionTrue) {
			nodes = append(nodes, node)
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	said := "waiting for " + strings.Join(nodes[:min(len(nodes), maxNodes)], ", ")
	if more := len(nodes) - maxNodes; more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	if strategy, _, _ := unstructured.NestedString(set.Object, "spec", "updateStrategy", "type"); strategy == "OnDelete" {
		said += "; its pods are only replaced when somebody deletes them (updateStrategy OnDelete)"
	}
	return said
}

// ofNodes is how many nodes a DaemonSet has brought up to date.
func ofNodes(set *unstructured.Unstructured) string {
	return fmt.Sprintf("%d of %d nodes updated, %d available",
		countOf(set, "updatedNumberScheduled"), countOf(set, "desiredNumberScheduled"), countOf(set, "numberAvailable"))
}

// countOf is a number of a DaemonSet's status; zero if it does not say.
func countOf(set *unstructured.Unstructured, name string) int32 {
	n, _, _ := unstructured.NestedInt64(set.Object, "status", name)
	return int32(n) //nolint:gosec // G115: nodes of a cluster.
}
