package fleet

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const vaultAddressHint = "write the vault's address, https://<name>.vault.azure.net"

// vaultSuffixes are the DNS suffixes of Azure's vaults, by cloud.
var vaultSuffixes = map[v1alpha1.AzureCloud]string{
	v1alpha1.AzurePublic:     ".vault.azure.net",
	v1alpha1.AzureGovernment: ".vault.usgovcloudapi.net",
	v1alpha1.AzureChina:      ".vault.azure.cn",
}

func invalidVault(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	const path = "spec.trust.vault"
	vault := spec.Trust.Vault
	switch vault.Type {
	case v1alpha1.VaultDirectory:
		if vault.URL != "" {
			report(path+".url", "only with type KeyVault", "remove it")
		}
		if vault.Azure != nil {
			report(path+".azure", "only with type KeyVault", "remove it")
		}
	case v1alpha1.VaultKeyVault:
		invalidVaultAddress(vault, report)
		if vault.Azure != nil {
			invalidLogin(path+".azure", vault.Azure, report)
		}
	}
}

// invalidVaultAddress: the address is joined with paths, and its host decides
// which cloud's tokens it gets.
func invalidVaultAddress(vault v1alpha1.Vault, report field) {
	const path = "spec.trust.vault.url"
	address, err := url.Parse(vault.URL)
	switch {
	case vault.URL == "":
		report(path, "not set", vaultAddressHint)
	case err != nil || address.Scheme != "https" || address.Hostname() == "" || address.User != nil:
		report(path, "not an https address", vaultAddressHint)
	case strings.Trim(address.Path, "/") != "" || address.RawQuery != "" || address.Fragment != "":
		report(path, "has more than a host", vaultAddressHint)
	case strings.Contains(strings.ToLower(address.Host), ".managedhsm."):
		report(path, "a managed HSM keeps keys only, and members' CAs are secrets", "use a vault of the tier Premium, with spec.trust.root.key.hardware")
	case vault.Azure != nil && vault.Azure.Cloud != "":
		if cloud := vaultCloud(address); cloud != "" && cloud != vault.Azure.Cloud {
			report("spec.trust.vault.azure.cloud", fmt.Sprintf("the vault's address is one of the cloud %s", cloud), "remove it")
		}
	}
}

// VaultCloud returns the cloud that a Key Vault is in: the one that its login
// names, else that of its address, else Azure's public one.
func VaultCloud(vault v1alpha1.Vault) v1alpha1.AzureCloud {
	if vault.Azure != nil && vault.Azure.Cloud != "" {
		return vault.Azure.Cloud
	}
	if address, err := url.Parse(vault.URL); err == nil {
		return cmp.Or(vaultCloud(address), v1alpha1.AzurePublic)
	}
	return v1alpha1.AzurePublic
}

// vaultCloud returns the cloud whose vaults have such addresses; empty for none.
func vaultCloud(address *url.URL) v1alpha1.AzureCloud {
	for cloud, suffix := range vaultSuffixes {
		if strings.HasSuffix(strings.ToLower(address.Hostname()), suffix) {
			return cloud
		}
	}
	return ""
}

// unknownVaultAddress: a host that was written wrong cannot get a token, since
// the login asks the host for the vault's own domain first, but nor is it the vault.
// Another host can be meant, such as an emulator.
func unknownVaultAddress(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	vault := spec.Trust.Vault
	address, err := url.Parse(vault.URL)
	if vault.Type != v1alpha1.VaultKeyVault || err != nil || address.Hostname() == "" || vaultCloud(address) != "" {
		return
	}
	report("spec.trust.vault.url", fmt.Sprintf("%s is no address of a vault in Azure", quote(address.Hostname())),
		"those end with .vault.azure.net, .vault.usgovcloudapi.net or .vault.azure.cn")
}

// tier is one kind of certificate of a network.
type tier struct {
	name     string
	lifetime v1alpha1.CertificateLifetime
}

// tiers from the root down.
func tiers(trust v1alpha1.Trust) []tier {
	return []tier{{"root", trust.Root.CertificateLifetime}, {"intermediate", trust.Intermediate.CertificateLifetime}, {"workload", trust.Workload}}
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

const onlyKeyVault = "only with a vault of type KeyVault"

// invalidRoot: what only Azure Key Vault can do, and an emergency that replaces
// nothing.
func invalidRoot(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	const path = "spec.trust.root"
	root := spec.Trust.Root
	if spec.Trust.Vault.Type == v1alpha1.VaultDirectory {
		if root.Key.Name != "" {
			report(path+".key.name", onlyKeyVault, "remove it: in a directory each root has a key of its own")
		}
		if root.Key.Hardware {
			report(path+".key.hardware", onlyKeyVault, "remove it")
		}
	}
	if root.Emergency && root.ReplaceIssuedBefore == nil {
		report(path+".emergency", "replaces nothing without replaceIssuedBefore",
			"set replaceIssuedBefore to the time from which on roots are good, such as now")
	}
	for i, name := range root.ProceedWithout {
		if slices.Contains(root.ProceedWithout[:i], name) {
			report(fmt.Sprintf("%s.proceedWithout[%d]", path, i), fmt.Sprintf("%s is in the list twice", quote(name)), "")
		}
	}
}

// rootEmergency says what an emergency costs, before it is merged; and for as long
// as it stays, since the next replacement would cost the same.
func rootEmergency(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	root := spec.Trust.Root
	if !root.Emergency || root.ReplaceIssuedBefore == nil {
		return
	}
	report("spec.trust.root.emergency", "restarts all node proxies, gateways and waypoints of the network three times, "+
		"which cuts connections that are open longer than they drain, and goes on without members that cannot be reached, which are cut off until they are back",
		"without it the root is replaced in days and no connection is cut; remove it once the root is replaced")
}

// proceedWithoutStrangers says nothing when a file could not be read: the member
// may be in there.
func proceedWithoutStrangers(d *documents, report reporter) {
	if !d.whole {
		return
	}
	for _, at := range d.networks {
		for i, name := range at.network.Spec.Trust.Root.ProceedWithout {
			member := d.member(name)
			if member != nil && member.member.Spec.ApplicationNetwork == at.name {
				continue
			}
			report(at, fmt.Sprintf("spec.trust.root.proceedWithout[%d]", i),
				fmt.Sprintf("the network has no member %s", quote(name)), suggest(name, d.membersOf(at.name)))
		}
	}
}

// membersOf returns the names of a network's members.
func (d *documents) membersOf(network string) []string {
	var names []string
	for _, at := range d.members {
		if at.member.Spec.ApplicationNetwork == network {
			names = append(names, at.name)
		}
	}
	return names
}

// externalRoot: the certificate is made by somebody else, for as long as they
// like.
func externalRoot(d *documents, report reporter) {
	const path = "spec.trust.root.validity"
	for _, at := range d.networks {
		if at.network.Spec.Trust.Root.Issuer == v1alpha1.RootExternal && at.written(path) {
			report(at, path, "how long the root lives is up to its issuer, External",
				"it is what other lifetimes are checked against, and what the request for a certificate asks for")
		}
	}
}

// invalidDelivery: what reads a vault on the member needs one that it can reach.
func invalidDelivery(spec *v1alpha1.ApplicationNetworkSpec, report field) {
	const path = "spec.trust.delivery"
	delivery := spec.Trust.Delivery
	if delivery.Mode != v1alpha1.DeliveryDirect && spec.Trust.Vault.Type == v1alpha1.VaultDirectory {
		report(path+".mode", onlyKeyVault, "use Direct, or a Key Vault that members can read")
	}
	for _, part := range []struct {
		name string
		mode v1alpha1.DeliveryMode
		set  bool
		hint string
	}{
		{"store", v1alpha1.DeliveryExternalSecret, delivery.Store != nil, "name the store on the members that reads the vault"},
		{"azure", v1alpha1.DeliverySecretProviderClass, delivery.Azure != nil, "say by which identity members read the vault"},
	} {
		switch {
		case part.set && delivery.Mode != part.mode:
			report(path+"."+part.name, fmt.Sprintf("only with mode %s", part.mode), fmt.Sprintf("set mode: %s, or remove it", part.mode))
		case !part.set && delivery.Mode == part.mode:
			report(path+"."+part.name, "not set", part.hint)
		}
	}
}

// hostedDelivery: what reads the vault would have to be in the host, for a namespace
// of each member.
func hostedDelivery(d *documents, report reporter) {
	for _, at := range d.members {
		network := d.network(at.member.Spec.ApplicationNetwork)
		if network == nil || at.member.Spec.ControlPlane.Placement != v1alpha1.PlacementHosted {
			continue
		}
		if mode := network.network.Spec.Trust.Delivery.Mode; mode != v1alpha1.DeliveryDirect {
			report(at, "spec.controlPlane.placement", fmt.Sprintf("the network delivers CAs by %s, to members' own control planes only", mode),
				"use placement Member, or spec.trust.delivery.mode Direct in the network")
		}
	}
}

// invalidRevocation: what is revoked must not be in use any more, and must be
// on a list that somebody reads.
func invalidRevocation(d *documents, report reporter) {
	const path = "spec.trust.revokeIssuedBefore"
	for _, at := range d.members {
		trust, network := at.member.Spec.Trust, d.network(at.member.Spec.ApplicationNetwork)
		if trust == nil || trust.RevokeIssuedBefore == nil {
			continue
		}
		if network != nil && network.network.Spec.Trust.Revocation == v1alpha1.RevocationDisabled {
			report(at, path, fmt.Sprintf("nothing is revoked in the network %s", quote(network.name)),
				"set spec.trust.revocation of the network to CRL")
		}
		if replaced := trust.ReplaceIssuedBefore; replaced == nil || replaced.Before(trust.RevokeIssuedBefore) {
			report(at, path, "later than replaceIssuedBefore, so a CA that is in use would be revoked",
				"set replaceIssuedBefore to the same time or a later one")
		}
	}
}
