package v1alpha1

// Review says what a change of the fleet has to keep to.
type Review struct {
	// Policies that a change must not violate. Those of the fleet before the change
	// count, too: a change does not free itself of one that it takes out.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Policies []ReviewPolicy `json:"policies,omitempty"`

	// Accept names built-in policies whose violation is meant. Take them out again
	// afterwards.
	// +kubebuilder:validation:MaxItems=16
	Accept []BuiltinPolicy `json:"accept,omitempty"`
}

// BuiltinPolicy is a policy that every network has.
// +kubebuilder:validation:Enum=DeletionGuard;NoMTLSDowngrade;NoPublicGateway;NoSystemNamespaceMove
type BuiltinPolicy string

// The built-in policies.
const (
	// PolicyDeletionGuard: the reconciler would stop at the deletion guard.
	PolicyDeletionGuard BuiltinPolicy = "DeletionGuard"
	// PolicyNoMTLSDowngrade: plain text is not taken again where it was refused.
	PolicyNoMTLSDowngrade BuiltinPolicy = "NoMTLSDowngrade"
	// PolicyNoPublicGateway: no east-west gateway becomes reachable from the internet.
	PolicyNoPublicGateway BuiltinPolicy = "NoPublicGateway"
	// PolicyNoSystemNamespaceMove: the reconciler would refuse the system namespace.
	PolicyNoSystemNamespaceMove BuiltinPolicy = "NoSystemNamespaceMove"
)

// ReviewPolicy is a rule in CEL over what a change does.
type ReviewPolicy struct {
	// Name of the policy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Name string `json:"name"`

	// Rule is an expression in CEL that is true of a change that may pass. It sees
	// risk, effects, members, rings, restarts and objects of the change in this network.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Rule string `json:"rule"`

	// Message says what to do about a violation.
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`

	// Severity of a violation: Error fails the review, Warning is only shown.
	// +kubebuilder:default=Error
	Severity PolicySeverity `json:"severity,omitempty"`
}

// PolicySeverity says what a violation does.
// +kubebuilder:validation:Enum=Error;Warning
type PolicySeverity string

// The severities.
const (
	PolicyError   PolicySeverity = "Error"
	PolicyWarning PolicySeverity = "Warning"
)
