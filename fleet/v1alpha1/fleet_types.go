package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fleet tells the hub which Git repository to follow. It is the only kind that
// is not itself in that repository.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=isthmus
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Fleet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   FleetSpec   `json:"spec"`
	Status FleetStatus `json:"status,omitempty"`
}

// FleetList is a list of Fleets.
//
// +kubebuilder:object:root=true
type FleetList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Fleet `json:"items"`
}

// FleetSpec says where the fleet's repository is and how often to look.
//
// +kubebuilder:validation:XValidation:rule="(has(self.tag) ? 1 : 0) + (has(self.semver) ? 1 : 0) + (has(self.commit) ? 1 : 0) <= 1",message="tag, semver and commit exclude each other"
type FleetSpec struct {
	// URL of the Git repository: https, http, ssh or file.
	// +kubebuilder:validation:Pattern=`^(https?|ssh|file)://.*$`
	URL string `json:"url"`

	// Branch to follow, unless tag, semver or commit say otherwise.
	// +kubebuilder:default="main"
	Branch string `json:"branch,omitempty"`

	// Tag to follow in place of a branch.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Tag string `json:"tag,omitempty"`

	// SemVer is a range of versions, such as ">=1.2.0 <2.0.0": the highest tag in
	// it is followed in place of a branch.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	SemVer string `json:"semver,omitempty"`

	// Commit to stay at, 40 hexadecimal digits; it has to be in the branch.
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{40}$`
	Commit string `json:"commit,omitempty"`

	// Path of the fleet inside the repository. Default: its root.
	Path string `json:"path,omitempty"`

	// Interval between looks at the repository.
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Interval metav1.Duration `json:"interval,omitempty"`

	// Timeout of one look.
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Timeout *metav1.Duration `json:"timeout,omitempty"`

	// SecretRef names a Secret beside the Fleet with the keys username and
	// password, or bearerToken, and ca.crt; for ssh identity, known_hosts and
	// password. They are those of Flux.
	SecretRef *LocalObjectReference `json:"secretRef,omitempty"`

	// ProxySecretRef names a Secret beside the Fleet with the keys address,
	// username and password of a proxy to the repository, as Flux has them; not
	// for ssh.
	ProxySecretRef *LocalObjectReference `json:"proxySecretRef,omitempty"`

	// Verify says whose signatures a commit needs before it is looked at.
	Verify *Verification `json:"verify,omitempty"`

	// Webhook lets the repository's server tell of pushes, so that they act at once
	// and not at the next look.
	Webhook *Webhook `json:"webhook,omitempty"`

	// Forge is told how far a commit is: by commit statuses, one of the whole and one of
	// each ring.
	Forge *Forge `json:"forge,omitempty"`

	// Member is the only member of the fleet to work on, for a reconciler that runs
	// inside that member and whose hub it is. Default: all.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]{1,22}[a-z0-9])$`
	Member string `json:"member,omitempty"`

	// Suspend stops following the repository; members stay as they are.
	Suspend bool `json:"suspend,omitempty"`
}

// VerificationMode says what has to be signed.
// +kubebuilder:validation:Enum=HEAD;Tag;TagAndHEAD
type VerificationMode string

// The verification modes, as Flux has them.
const (
	// VerifyHEAD: the commit.
	VerifyHEAD VerificationMode = "HEAD"
	// VerifyTag: the tag that leads to it.
	VerifyTag VerificationMode = "Tag"
	// VerifyTagAndHEAD: both.
	VerifyTagAndHEAD VerificationMode = "TagAndHEAD"
)

// Verification says whose signatures a commit needs.
type Verification struct {
	// Mode says what has to be signed. The tag is that of spec.tag or spec.semver.
	// +kubebuilder:default=HEAD
	Mode VerificationMode `json:"mode,omitempty"`

	// SecretRef names a Secret beside the Fleet with the public keys of those who
	// may sign, under any key: OpenPGP keys as armoured text, SSH keys as a file of
	// allowed signers.
	SecretRef LocalObjectReference `json:"secretRef"`
}

// WebhookType is a kind of server that tells of pushes.
// +kubebuilder:validation:Enum=GitHub;GitLab;Gitea;Bitbucket;AzureDevOps
type WebhookType string

// The kinds of server.
const (
	// WebhookGitHub signs what it sends, in X-Hub-Signature-256.
	WebhookGitHub WebhookType = "GitHub"
	// WebhookGitLab sends a token, in X-Gitlab-Token.
	WebhookGitLab WebhookType = "GitLab"
	// WebhookGitea signs what it sends, in X-Gitea-Signature.
	WebhookGitea WebhookType = "Gitea"
	// WebhookBitbucket signs what it sends, in X-Hub-Signature.
	WebhookBitbucket WebhookType = "Bitbucket"
	// WebhookAzureDevOps sends a user and a password.
	WebhookAzureDevOps WebhookType = "AzureDevOps"
)

// Webhook lets a server tell of pushes.
type Webhook struct {
	// Type of the server.
	Type WebhookType `json:"type"`

	// SecretRef names a Secret beside the Fleet whose key token is the secret that
	// the server was given.
	SecretRef LocalObjectReference `json:"secretRef"`
}

// ForgeType is a kind of server on which changes are reviewed.
// +kubebuilder:validation:Enum=GitHub;GitLab;Gitea;AzureDevOps
type ForgeType string

// The kinds of forge. Forgejo is Gitea.
const (
	ForgeGitHub      ForgeType = "GitHub"
	ForgeGitLab      ForgeType = "GitLab"
	ForgeGitea       ForgeType = "Gitea"
	ForgeAzureDevOps ForgeType = "AzureDevOps"
)

// Forge is where the fleet's repository is reviewed.
type Forge struct {
	// Type of the forge.
	Type ForgeType `json:"type"`

	// API is the URL below which it answers, such as https://api.github.com,
	// https://gitlab.com/api/v4, https://HOST/api/v1 for Gitea, and for Azure DevOps the
	// collection, https://dev.azure.com/ORGANISATION.
	// +kubebuilder:validation:Pattern=`^https?://`
	// +kubebuilder:validation:MaxLength=2048
	API string `json:"api"`

	// Repository is owner/name; for Azure DevOps project/repository.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Repository string `json:"repository"`

	// SecretRef names a Secret beside the Fleet with the key token, which may write
	// commit statuses and needs no more, and may have the key ca.crt.
	SecretRef LocalObjectReference `json:"secretRef"`
}

// LocalObjectReference names an object in the same namespace.
type LocalObjectReference struct {
	// Name of the object.
	Name string `json:"name"`
}

// FleetStatus is what the hub observes of the repository.
type FleetStatus struct {
	// ObservedGeneration of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Ready; Reconciling and Stalled only while true.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// LastHandledReconcileAt is the last handled value of the annotation
	// reconcile.fluxcd.io/requestedAt.
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`

	// AttemptedRevision is the last commit that was looked at.
	AttemptedRevision string `json:"attemptedRevision,omitempty"`

	// AcceptedRevision is the last commit that loaded, validated and rendered
	// whole: what members are held to.
	AcceptedRevision string `json:"acceptedRevision,omitempty"`

	// AppliedRevision is the last commit that every member has applied.
	AppliedRevision string `json:"appliedRevision,omitempty"`

	// WebhookPath is where the reconciler listens for the webhook. It is not a
	// secret: what is sent there is checked.
	WebhookPath string `json:"webhookPath,omitempty"`

	// Members in the accepted commit.
	Members int32 `json:"members,omitempty"`

	// ReadyMembers of them.
	ReadyMembers int32 `json:"readyMembers,omitempty"`

	// Problems of the attempted commit, at most twenty, each "file:line: path:
	// message".
	Problems []string `json:"problems,omitempty"`
}

// GetConditions returns the status conditions.
func (f *Fleet) GetConditions() []metav1.Condition { return f.Status.Conditions }

// SetConditions replaces the status conditions.
func (f *Fleet) SetConditions(c []metav1.Condition) { f.Status.Conditions = c }
