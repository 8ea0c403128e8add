package fleet

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

func invalidVault(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	const path = "spec.trust.vault.url"
	vault := spec.Trust.Vault
	switch vault.Type {
	case v1alpha1.VaultDirectory:
		if vault.URL != "" {
			report(path, "only with type KeyVault", "remove it")
		}
	case v1alpha1.VaultKeyVault:
		if vault.URL == "" {
			report(path, "not set", "write the vault's address, https://<name>.vault.azure.net")
		} else if address, err := url.Parse(vault.URL); err != nil || address.Scheme != "https" || address.Host == "" || address.User != nil {
			report(path, "not an https address", "write the vault's address, https://<name>.vault.azure.net")
		}
	}
}

// vaultNotSupported is an error and no warning: another vault in its place
// would make another root, and moving a mesh from one root to the next is work.
func vaultNotSupported(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	if spec.Trust.Vault.Type == v1alpha1.VaultKeyVault {
		report("spec.trust.vault.type", "KeyVault is not supported yet", "use Directory until it is")
	}
}

// tier is one kind of certificate of a network.
type tier struct {
	name     string
	lifetime v1alpha1.CertificateLifetime
}

// tiers from the root down.
func tiers(trust v1alpha1.Trust) []tier {
	return []tier{{"root", trust.Root}, {"intermediate", trust.Intermediate}, {"workload", trust.Workload}}
}

func (t tier) validity() time.Duration { return t.lifetime.Validity.Duration }

// rotateAt returns the share in per cent, 0 when it is none.
func (t tier) rotateAt() int {
	share, err := strconv.Atoi(strings.TrimSuffix(t.lifetime.RotateAt, "%"))
	if err != nil || share > 100 {
		return 0
	}
	return share
}

// shortestWorkload leaves the node proxies time to ask again.
const shortestWorkload = 10 * time.Minute

// invalidLifetime: no certificate can outlive its issuer, and up to the last
// moment before an issuer is replaced it signs certificates that live on.
func invalidLifetime(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	var issuer tier
	for _, tier := range tiers(spec.Trust) {
		path := "spec.trust." + tier.name + ".validity"
		left := issuer.lifetime.Validity
		switch {
		case tier.validity() <= 0:
			report(path, "must be more than 0", "")
		case tier.name == "workload" && (tier.validity() < shortestWorkload || tier.validity()%time.Second != 0):
			report(path, fmt.Sprintf("%s is not whole seconds, %s at least", hours(tier.validity()), hours(shortestWorkload)), "")
		case left == nil:
		case tier.validity() >= issuer.validity():
			report(path, fmt.Sprintf("%s is not shorter than the %s's %s", hours(tier.validity()), issuer.name, hours(issuer.validity())),
				"lifetimes nest: workload < intermediate < root")
		case issuer.rotateAt() > 0 && tier.validity() > issuer.validity()/100*time.Duration(100-issuer.rotateAt()):
			report(path, fmt.Sprintf("%s is more than what the %s has left when it is rotated at %s of %s", hours(tier.validity()),
				issuer.name, issuer.lifetime.RotateAt, hours(issuer.validity())), "shorten it, or rotate its issuer earlier")
		}
		issuer = tier
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

// invalidRotation: near its beginning a certificate is replaced all the time,
// near its end there is no time left to try again. The workloads' are replaced by
// the node proxies, at half of their life and at nothing else.
func invalidRotation(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	for _, tier := range tiers(spec.Trust) {
		if share := tier.rotateAt(); share < 10 || share > 90 {
			report("spec.trust."+tier.name+".rotateAt", fmt.Sprintf("%s is not between 10%% and 90%%", tier.lifetime.RotateAt), "")
		} else if tier.name == "workload" && tier.lifetime.RotateAt != defaultRotateAt {
			report("spec.trust.workload.rotateAt", "the node proxies replace certificates at half of their life",
				"use "+defaultRotateAt+", and a shorter validity to replace them more often")
		}
	}
}

func discoveryNotSupported(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	if spec.Discovery.Mode == v1alpha1.DiscoveryMessaging {
		report("spec.discovery.mode", "Messaging is not supported yet", "use RemoteCredentials")
	}
}

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
