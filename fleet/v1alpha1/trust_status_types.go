package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MemberTrustStatus is how far a member has followed its network's CAs.
type MemberTrustStatus struct {
	// Issued is the CA that the vault has for the member. Empty: not known.
	Issued *IssuedTrust `json:"issued,omitempty"`

	// Proven is what all replicas of the member's istiod were last found to do.
	// Empty: nothing was proven yet, or what they did was wrong.
	Proven *ProvenTrust `json:"proven,omitempty"`

	// Unproven says why what is issued is not proven; empty when it is.
	// +kubebuilder:validation:MaxLength=1024
	Unproven string `json:"unproven,omitempty"`

	// RestartedAfter is the newest time for which all proxies that were started
	// before it are known to have been restarted.
	RestartedAfter *metav1.Time `json:"restartedAfter,omitempty"`

	// Restarting says what a restart of proxies waits for; empty when none is under
	// way.
	// +kubebuilder:validation:MaxLength=1024
	Restarting string `json:"restarting,omitempty"`
}

// IssuedTrust is a CA as the vault has it; never its key.
type IssuedTrust struct {
	// Trusts are the roots that workloads are to trust. None: no CA was issued yet.
	// +kubebuilder:validation:MaxItems=16
	Trusts []TrustedRoot `json:"trusts,omitempty"`

	// TrustsSince is since when the list of roots is what it is.
	TrustsSince *metav1.Time `json:"trustsSince,omitempty"`

	// Signer is the fingerprint of the root CA that signed the member's.
	Signer string `json:"signer,omitempty"`

	// SignerSince is since when it does.
	SignerSince *metav1.Time `json:"signerSince,omitempty"`

	// Joined is when the first CA was issued, if the cluster had none of the network
	// before.
	Joined *metav1.Time `json:"joined,omitempty"`

	// Serial number of the member's CA, hexadecimal.
	Serial string `json:"serial,omitempty"`

	// NotBefore is from when on the member's CA is valid.
	NotBefore *metav1.Time `json:"notBefore,omitempty"`

	// NotAfter is when the member's CA expires.
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
}

// ProvenTrust is what a member's istiods do.
type ProvenTrust struct {
	// Trusts are the roots that istiod has workloads trust, with the time since when
	// every look has found them.
	// +kubebuilder:validation:MaxItems=16
	Trusts []TrustedRoot `json:"trusts,omitempty"`

	// TrustsSince is since when the whole list is what it is.
	TrustsSince *metav1.Time `json:"trustsSince,omitempty"`

	// Signer is the fingerprint of the root CA behind the certificates that istiod
	// signs. Empty: not proven.
	Signer string `json:"signer,omitempty"`

	// SignerSince is since when every look has found it.
	SignerSince *metav1.Time `json:"signerSince,omitempty"`

	// Serial number of the CA that istiod signs with, hexadecimal.
	Serial string `json:"serial,omitempty"`

	// At is the time of the look that found the current state, or confirmed it last.
	At *metav1.Time `json:"at,omitempty"`
}

// TrustedRoot is a root that workloads trust.
type TrustedRoot struct {
	// Fingerprint of the self-signed certificate: SHA-256 of its DER form, in
	// lower-case hexadecimal.
	Fingerprint string `json:"fingerprint"`

	// Since when.
	Since metav1.Time `json:"since"`
}

// NetworkTrustStatus is where a network's CAs are.
type NetworkTrustStatus struct {
	// Step of the rotation of the root: Settled, NewRoot, TrustBoth, SignByNew or
	// TrustNew.
	Step string `json:"step,omitempty"`

	// Why the step is what it is.
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why,omitempty"`

	// NextAt is when time alone brings the next step.
	NextAt *metav1.Time `json:"nextAt,omitempty"`

	// Rotation is spec.trust.root.rotation as it was acted on last.
	Rotation string `json:"rotation,omitempty"`

	// RotationSince is since when it is what it is; none for always.
	RotationSince *metav1.Time `json:"rotationSince,omitempty"`

	// Blockers are what the step waits for, at most twenty.
	Blockers []TrustBlocker `json:"blockers,omitempty"`

	// Roots are the generations of the root that are in the vault.
	// +kubebuilder:validation:MaxItems=64
	Roots []RootStatus `json:"roots,omitempty"`
}

// TrustBlocker is what a step waits for.
type TrustBlocker struct {
	// Member that is waited for; empty for what concerns the network.
	Member string `json:"member,omitempty"`

	// Reason is Unknown, Unreachable, Unproven, Restart, Waiting, Hold, Import or Vault.
	Reason string `json:"reason"`

	// Message says it in words.
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// Until is when time alone removes it.
	Until *metav1.Time `json:"until,omitempty"`
}

// RootStatus is one generation of a network's root CA.
type RootStatus struct {
	// Generation counts from 1.
	Generation int32 `json:"generation"`

	// Fingerprint of the certificate that workloads trust.
	Fingerprint string `json:"fingerprint"`

	// Signer is the fingerprint of the certificate that signs members' CAs; the same
	// unless the root is signed by another PKI.
	Signer string `json:"signer"`

	// Subject of the certificate that signs.
	Subject string `json:"subject,omitempty"`

	// Serial number of the certificate that signs, hexadecimal.
	Serial string `json:"serial"`

	// NotBefore is from when on it is valid.
	NotBefore metav1.Time `json:"notBefore"`

	// NotAfter is when it expires.
	NotAfter metav1.Time `json:"notAfter"`

	// State is New or Old while the root is rotated, Current for one that is alone,
	// and Retired for one that no member has any more.
	State string `json:"state"`
}
