package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trust is the certificate hierarchy of a network.
//
// +kubebuilder:validation:XValidation:rule="(has(self.vault) && has(self.vault.type) && self.vault.type == 'KeyVault') || !has(self.root) || !has(self.root.key) || (!has(self.root.key.name) && !(has(self.root.key.hardware) && self.root.key.hardware))",message="root.key.name and root.key.hardware are for a vault of type KeyVault"
// +kubebuilder:validation:XValidation:rule="(has(self.vault) && has(self.vault.type) && self.vault.type == 'KeyVault') || !has(self.delivery) || !has(self.delivery.mode) || self.delivery.mode == 'Direct'",message="delivery.mode other than Direct is for a vault of type KeyVault"
type Trust struct {
	// Domain is the SPIFFE trust domain of every workload.
	// +kubebuilder:default="cluster.local"
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Domain string `json:"domain,omitempty"`

	// Vault is where the CA keys live.
	Vault Vault `json:"vault,omitempty"`

	// Root is the network's root CA.
	Root RootCA `json:"root,omitempty"`

	// Intermediate is each member's CA.
	Intermediate IntermediateCA `json:"intermediate,omitempty"`

	// Workload is each workload's certificate, valid for 10m or more. Defaults:
	// 24h, rotated at 50%, which is what the node proxy does and the only value.
	Workload CertificateLifetime `json:"workload,omitempty"`

	// Delivery says how a member's CA gets from the vault into the member.
	Delivery Delivery `json:"delivery,omitempty"`

	// Revocation says what becomes of certificates that are no longer to be
	// trusted before they expire.
	// +kubebuilder:default=Disabled
	Revocation Revocation `json:"revocation,omitempty"`
}

// VaultType is a kind of vault.
// +kubebuilder:validation:Enum=KeyVault;Directory
type VaultType string

// The kinds of vault.
const (
	// VaultKeyVault is an Azure Key Vault: the root key never leaves it.
	VaultKeyVault VaultType = "KeyVault"
	// VaultDirectory is a folder beside the reconciler, for demo, tests and
	// air-gapped fleets.
	VaultDirectory VaultType = "Directory"
)

// Vault is where CA keys live.
//
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'KeyVault') == has(self.url)",message="url is set with type KeyVault, and only then"
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'KeyVault') || !has(self.azure)",message="azure is set with type KeyVault only"
type Vault struct {
	// Type is the kind of vault.
	// +kubebuilder:default=Directory
	Type VaultType `json:"type,omitempty"`

	// URL of the Azure Key Vault, https; only with type KeyVault.
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url,omitempty"`

	// Azure says how the reconciler logs in to Azure; only with type KeyVault.
	Azure *AzureLogin `json:"azure,omitempty"`
}

// CertificateLifetime is how long certificates of one tier live.
type CertificateLifetime struct {
	// Validity is the lifetime of one certificate.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Validity *metav1.Duration `json:"validity,omitempty"`

	// RotateAt is the share of the lifetime after which a certificate is
	// replaced, in per cent, from 10% to 90%.
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]?%$`
	RotateAt string `json:"rotateAt,omitempty"`
}

// KeyAlgorithm is a kind of key for a CA.
// +kubebuilder:validation:Enum=ECDSA-P256;ECDSA-P384;RSA-3072;RSA-4096
type KeyAlgorithm string

// The kinds of key.
const (
	// KeyECDSAP256 is an elliptic curve key of 256 bits.
	KeyECDSAP256 KeyAlgorithm = "ECDSA-P256"
	// KeyECDSAP384 is an elliptic curve key of 384 bits.
	KeyECDSAP384 KeyAlgorithm = "ECDSA-P384"
	// KeyRSA3072 is an RSA key of 3072 bits.
	KeyRSA3072 KeyAlgorithm = "RSA-3072"
	// KeyRSA4096 is an RSA key of 4096 bits.
	KeyRSA4096 KeyAlgorithm = "RSA-4096"
)

// RootKey is the key of the next root CA that is made. It changes nothing about
// a root that is there.
type RootKey struct {
	// Algorithm of the key.
	// +kubebuilder:default="ECDSA-P256"
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`

	// Hardware keeps the key in a hardware security module of the vault; only with
	// a vault of type KeyVault, of the tier Premium.
	Hardware bool `json:"hardware,omitempty"`

	// Name of a key that is in the vault already, of the algorithm and with the
	// right to sign; only with a vault of type KeyVault. Another root needs
	// another name. Default: isthmus makes a key of its own for each root.
	// +kubebuilder:validation:MaxLength=127
	// +kubebuilder:validation:Pattern=`^[0-9a-zA-Z-]+$`
	Name string `json:"name,omitempty"`
}

// RootIssuer says who signs the root CA of a network.
// +kubebuilder:validation:Enum=SelfSigned;External
type RootIssuer string

// The issuers of a root CA.
const (
	// RootSelfSigned is a root of its own.
	RootSelfSigned RootIssuer = "SelfSigned"
	// RootExternal is a CA that a PKI of yours signs: `isthmus trust csr` prints the
	// request and `isthmus trust import` takes the certificate.
	RootExternal RootIssuer = "External"
)

// RootRotation says whether a replacement of the root goes on.
// +kubebuilder:validation:Enum=Proceed;Hold;Back
type RootRotation string

// The ways on.
const (
	// RotationProceed takes each step as soon as it is safe.
	RotationProceed RootRotation = "Proceed"
	// RotationHold stays at the step that the replacement is at.
	RotationHold RootRotation = "Hold"
	// RotationBack returns to the old root, as long as every member trusts it.
	RotationBack RootRotation = "Back"
)

// RootCA is the root of a network.
//
// +kubebuilder:validation:XValidation:rule="!has(self.emergency) || !self.emergency || has(self.replaceIssuedBefore)",message="emergency needs replaceIssuedBefore"
type RootCA struct {
	CertificateLifetime `json:",inline"`

	// Key is the key of the next root that is made.
	Key RootKey `json:"key,omitempty"`

	// Issuer says who signs the root.
	// +kubebuilder:default=SelfSigned
	Issuer RootIssuer `json:"issuer,omitempty"`

	// ReplaceIssuedBefore replaces a root that was issued before this time, with
	// the same care as when its time has come. Members go on without a gap.
	ReplaceIssuedBefore *metav1.Time `json:"replaceIssuedBefore,omitempty"`

	// Emergency replaces the root within minutes instead of days, because its key
	// may be known to others: in place of waiting for certificates to be renewed
	// it restarts the node proxies node by node, gateways and waypoints, which
	// cuts long connections. It does not wait for members that cannot be reached,
	// save in the last step. Only with replaceIssuedBefore.
	Emergency bool `json:"emergency,omitempty"`

	// Rotation says whether a replacement goes on, stays, or goes back.
	// +kubebuilder:default=Proceed
	Rotation RootRotation `json:"rotation,omitempty"`

	// ProceedWithout are members that cannot be reached and that a replacement
	// does not wait for until its last step: their workloads stop trusting those
	// of the others, and the others theirs, until they are back.
	// +kubebuilder:validation:MaxItems=1000
	ProceedWithout []string `json:"proceedWithout,omitempty"`
}

// IntermediateCA is the CA of each member.
type IntermediateCA struct {
	CertificateLifetime `json:",inline"`

	// ReplaceIssuedBefore replaces every member's CA that was issued before this
	// time, at once. Workloads notice nothing.
	ReplaceIssuedBefore *metav1.Time `json:"replaceIssuedBefore,omitempty"`
}

// DeliveryMode is a way for a member's CA into the member.
// +kubebuilder:validation:Enum=Direct;ExternalSecret;SecretProviderClass
type DeliveryMode string

// The ways into a member.
const (
	// DeliveryDirect: the reconciler writes the Secret into the member.
	DeliveryDirect DeliveryMode = "Direct"
	// DeliveryExternalSecret: the External Secrets Operator on the member reads
	// the vault.
	DeliveryExternalSecret DeliveryMode = "ExternalSecret"
	// DeliverySecretProviderClass: the Secrets Store CSI driver on the member, with
	// its provider for Azure, reads the vault.
	DeliverySecretProviderClass DeliveryMode = "SecretProviderClass"
)

// Delivery says how a member's CA gets from the vault into the member.
//
// +kubebuilder:validation:XValidation:rule="(has(self.mode) && self.mode == 'ExternalSecret') == has(self.store)",message="store is set with mode ExternalSecret, and only then"
// +kubebuilder:validation:XValidation:rule="(has(self.mode) && self.mode == 'SecretProviderClass') == has(self.azure)",message="azure is set with mode SecretProviderClass, and only then"
type Delivery struct {
	// Mode is the way into the member.
	// +kubebuilder:default=Direct
	Mode DeliveryMode `json:"mode,omitempty"`

	// Store is what the External Secrets Operator reads the vault by; it is on
	// every member already. Only with mode ExternalSecret.
	Store *SecretStore `json:"store,omitempty"`

	// Azure says how the CSI driver's provider logs in on the members; only with
	// mode SecretProviderClass.
	Azure *ProviderLogin `json:"azure,omitempty"`
}

// SecretStoreKind is a kind of store of the External Secrets Operator.
// +kubebuilder:validation:Enum=SecretStore;ClusterSecretStore
type SecretStoreKind string

// The kinds of store.
const (
	// StoreInNamespace is in the system namespace.
	StoreInNamespace SecretStoreKind = "SecretStore"
	// StoreInCluster is for the whole cluster.
	StoreInCluster SecretStoreKind = "ClusterSecretStore"
)

// SecretStore names a store of the External Secrets Operator.
type SecretStore struct {
	// Kind of the store.
	// +kubebuilder:default=ClusterSecretStore
	Kind SecretStoreKind `json:"kind,omitempty"`

	// Name of the store.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name"`
}

// ProviderIdentity is a way for the CSI driver's provider to log in.
// +kubebuilder:validation:Enum=WorkloadIdentity;ManagedIdentity
type ProviderIdentity string

// The ways to log in.
const (
	// ProviderWorkloadIdentity exchanges the token of istiod's ServiceAccount.
	ProviderWorkloadIdentity ProviderIdentity = "WorkloadIdentity"
	// ProviderManagedIdentity is an identity of the nodes.
	ProviderManagedIdentity ProviderIdentity = "ManagedIdentity"
)

// ProviderLogin says how the CSI driver's provider logs in to Azure.
type ProviderLogin struct {
	// Identity is the way to log in.
	// +kubebuilder:default=WorkloadIdentity
	Identity ProviderIdentity `json:"identity,omitempty"`

	// ClientID of the identity, a UUID, the same on every member.
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	ClientID string `json:"clientID"`

	// TenantID of the vault, a UUID.
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	TenantID string `json:"tenantID"`
}

// Revocation says what becomes of certificates that are no longer to be trusted.
// +kubebuilder:validation:Enum=Disabled;CRL
type Revocation string

// The ways to revoke.
const (
	// RevocationDisabled leaves them until they expire.
	RevocationDisabled Revocation = "Disabled"
	// RevocationCRL delivers a certificate revocation list to every member.
	RevocationCRL Revocation = "CRL"
)

// MemberTrust is what becomes of one member's CA.
type MemberTrust struct {
	// ReplaceIssuedBefore replaces the member's CA if it was issued before this
	// time, at once. Workloads notice nothing.
	ReplaceIssuedBefore *metav1.Time `json:"replaceIssuedBefore,omitempty"`

	// RevokeIssuedBefore revokes those CAs of the member that were issued before
	// this time, which is not after replaceIssuedBefore; only where the network's
	// revocation is CRL. Workloads with certificates of theirs are refused until
	// they have new ones, for which the member's proxies are restarted once.
	RevokeIssuedBefore *metav1.Time `json:"revokeIssuedBefore,omitempty"`
}
