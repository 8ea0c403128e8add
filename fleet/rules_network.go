package fleet

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// reservedNamespace: what runs in the system namespace must not depend on the
// data plane that it runs, nor what Kubernetes itself runs.
func reservedNamespace(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	if strings.HasPrefix(spec.DataPlane.Namespace, "kube-") {
		report("spec.dataPlane.namespace", fmt.Sprintf("%s belongs to Kubernetes", quote(spec.DataPlane.Namespace)), "")
	}
	for i, namespace := range spec.Namespaces {
		path := fmt.Sprintf("spec.namespaces[%d].name", i)
		switch {
		case namespace.Name == spec.DataPlane.Namespace:
			report(path, fmt.Sprintf("%s is the system namespace, which is never enrolled", quote(namespace.Name)), "")
		case strings.HasPrefix(namespace.Name, "kube-"):
			report(path, fmt.Sprintf("%s belongs to Kubernetes and is never enrolled", quote(namespace.Name)), "")
		}
	}
}

func invalidUpgrade(upgrade *v1alpha1.Upgrade, report field) {
	if upgrade.Mode == v1alpha1.UpgradeSelfManaged && upgrade.Channel != "" {
		report("spec.upgrade.channel", "only with mode FullyManaged", "set mode: FullyManaged, or name a version")
	}
	if upgrade.Mode == v1alpha1.UpgradeFullyManaged && upgrade.Version != "" {
		report("spec.upgrade.version", "only with mode SelfManaged", "set mode: SelfManaged, or follow the channel alone")
	}
}

func invalidRing(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	for i, ring := range spec.Rollout.Rings {
		path := fmt.Sprintf("spec.rollout.rings[%d]", i)
		if ring.Selector == nil {
			if i < len(spec.Rollout.Rings)-1 {
				report(path, "without a selector it takes every member, and the rings after it have none", "give it a selector, or make it the last")
			}
			continue
		}
		if _, err := metav1.LabelSelectorAsSelector(ring.Selector); err != nil {
			report(path+".selector", fmt.Sprintf("not a selector: %v", err), "")
		}
	}
}

// hours returns the duration without the parts that are zero: "24h", "1h30m".
func hours(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
