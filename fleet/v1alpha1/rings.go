package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// RingOf returns the name of the ring in which a member of the network receives a
// change: the first whose selector it matches; "" if there is none.
func (n *ApplicationNetwork) RingOf(member *Member) string {
	for _, ring := range n.Spec.Rollout.Rings {
		if ring.Selector == nil { // the last one: whoever is left
			return ring.Name
		}
		// A selector that does not parse is refused before.
		selector, err := metav1.LabelSelectorAsSelector(ring.Selector)
		if err == nil && selector.Matches(labels.Set(member.Labels)) {
			return ring.Name
		}
	}
	return ""
}
