package ambient

import (
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
)

// secretCA is the name of the Secret that istiod takes its CA from, and of what
// stands for it in a bundle.
const secretCA = "cacerts"

// mountedCA is where istiod finds its CA when somebody else than the reconciler
// brings it. The charts mount the Secret elsewhere, and two volumes cannot be in one
// place.
const mountedCA = "/var/run/secrets/isthmus/cacerts"

// reference returns what on the member brings its CA there, nil where the
// reconciler does. Bundles never hold keys.
func reference(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) map[string]any {
	switch network.Spec.Trust.Delivery.Mode {
	case v1alpha1.DeliveryExternalSecret:
		return externalSecret(network, member)
	case v1alpha1.DeliverySecretProviderClass:
		return secretProviderClass(network, member)
	default:
		return nil
	}
}

// externalSecret makes the Secret from the member's entry in the vault, whose
// content is one JSON object with the Secret's keys, so that all of them change
// together. It makes a Secret without an owner, which stays when this goes: istiod
// would make a CA of its own in its place.
func externalSecret(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) map[string]any {
	store := network.Spec.Trust.Delivery.Store
	return map[string]any{
		"apiVersion": "external-secrets.io/v1",
		"kind":       "ExternalSecret",
		"metadata":   map[string]any{"name": secretCA, "namespace": network.Spec.DataPlane.Namespace},
		"spec": map[string]any{
			"refreshInterval": "5m",
			"secretStoreRef":  map[string]any{"kind": string(store.Kind), "name": store.Name},
			"target":          map[string]any{"name": secretCA, "creationPolicy": "Orphan", "deletionPolicy": "Retain"},
			"dataFrom": []any{map[string]any{"extract": map[string]any{
				"key": vaultname.KeyVault(vaultname.Member(network.Name, member.Name)),
			}}},
		},
	}
}

// clouds are what the CSI driver's provider calls the clouds.
var clouds = map[v1alpha1.AzureCloud]string{
	v1alpha1.AzurePublic:     "AzurePublicCloud",
	v1alpha1.AzureGovernment: "AzureUSGovernmentCloud",
	v1alpha1.AzureChina:      "AzureChinaCloud",
}

// secretProviderClass has istiod's pods mount the member's CA from the vault. The
// provider cannot take an entry apart, so each file has one. A pod does not start
// before the vault was read: unlike a Secret, which may be missing, a mounted CA
// never leaves istiod to make its own.
func secretProviderClass(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) map[string]any {
	trust := network.Spec.Trust
	login := trust.Delivery.Azure
	parameters := map[string]any{
		"keyvaultName": vaultOf(trust.Vault.URL),
		"cloudName":    clouds[fleet.VaultCloud(trust.Vault)],
		"tenantID":     login.TenantID,
		"objects":      mountedFiles(network, member),
	}
	if login.Identity == v1alpha1.ProviderManagedIdentity {
		parameters["useVMManagedIdentity"], parameters["userAssignedIdentityID"] = "true", login.ClientID
	} else {
		parameters["clientID"] = login.ClientID
	}
	return map[string]any{
		"apiVersion": "secrets-store.csi.x-k8s.io/v1",
		"kind":       "SecretProviderClass",
		"metadata":   map[string]any{"name": secretCA, "namespace": network.Spec.DataPlane.Namespace},
		"spec":       map[string]any{"provider": "azure", "parameters": parameters},
	}
}

// vaultOf returns a vault's name, which begins its address.
func vaultOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return "" // loading a fleet refuses it
	}
	name, _, _ := strings.Cut(parsed.Hostname(), ".")
	return name
}

// mountedFiles returns the list of files in the form that the provider reads: YAML
// in YAML in YAML. It reads them in the list's order, which matters.
func mountedFiles(network *v1alpha1.ApplicationNetwork, member *v1alpha1.Member) string {
	var array []string
	for _, file := range vaultname.Files(network.Spec.Trust.Revocation == v1alpha1.RevocationCRL) {
		array = append(array, encode(map[string]string{
			"objectName":  vaultname.KeyVault(vaultname.File(network.Name, member.Name, file)),
			"objectType":  "secret",
			"objectAlias": file,
		}))
	}
	return encode(map[string]any{"array": array})
}

func encode(value any) string {
	text, err := yaml.Marshal(value)
	if err != nil {
		panic("encode the files of a CA: " + err.Error()) // strings always encode
	}
	return string(text)
}

// mountCA has istiod wait for its CA where not the reconciler brings it, which does
// so before istiod. The charts' own volume may be empty, and istiod would then make a
// CA of its own.
func mountCA(values map[string]any, mode v1alpha1.DeliveryMode) {
	volume := map[string]any{"name": "isthmus-cacerts"}
	switch mode {
	case v1alpha1.DeliveryExternalSecret:
		volume["secret"] = map[string]any{"secretName": secretCA}
	case v1alpha1.DeliverySecretProviderClass:
		volume["csi"] = map[string]any{
			"driver": "secrets-store.csi.k8s.io", "readOnly": true,
			"volumeAttributes": map[string]any{"secretProviderClass": secretCA},
		}
	default:
		return
	}
	mount(values, volume, mountedCA)
	values["env"].(map[string]any)["ROOT_CA_DIR"] = mountedCA
}

// mountPeerTokens has istiod find the tokens that it reads its peers with as files,
// so that another token does not change a peer's kubeconfig: istiod would connect
// anew, and may lose the peer's gateways by it. There are none before the first peer.
func mountPeerTokens(values map[string]any) {
	mount(values, map[string]any{
		"name":   v1alpha1.PeerTokens,
		"secret": map[string]any{"secretName": v1alpha1.PeerTokens, "optional": true},
	}, v1alpha1.PeerTokensPath)
	values["env"].(map[string]any)["PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS"] = "tokenFile"
}

// mount adds a volume, to read only, to those of istiod's chart.
func mount(values, volume map[string]any, path string) {
	volumes, _ := values["volumes"].([]any)
	mounts, _ := values["volumeMounts"].([]any)
	values["volumes"] = append(volumes, volume)
	values["volumeMounts"] = append(mounts, map[string]any{"name": volume["name"], "mountPath": path, "readOnly": true})
}
