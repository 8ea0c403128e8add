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
type FleetSpec struct {
	// URL of the Git repository: https, http or file.
	// +kubebuilder:validation:Pattern=`^(https?|file)://.*$`
	URL string `json:"url"`

	// Branch to follow.
	// +kubebuilder:default="main"
	Branch string `json:"branch,omitempty"`

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
	// password, or bearerToken, and ca.crt, as Flux has them.
	SecretRef *LocalObjectReference `json:"secretRef,omitempty"`

	// Suspend stops following the repository; members stay as they are.
	Suspend bool `json:"suspend,omitempty"`
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
