package v1alpha1

// DriftMode says what becomes of a difference that somebody else made.
// +kubebuilder:validation:Enum=Correct;Report
type DriftMode string

// The drift modes.
const (
	// DriftCorrect puts it back at once.
	DriftCorrect DriftMode = "Correct"
	// DriftReport says what differs and who made it, and leaves it.
	DriftReport DriftMode = "Report"
)

// DriftAnnotation on an object that members receive sets its own drift mode.
const DriftAnnotation = "isthmus.dev/drift"

// Drift says what becomes of changes that others make on members.
type Drift struct {
	// Mode for all objects that do not say it themselves, by the annotation
	// isthmus.dev/drift. Secrets of the CA are put back in any mode. Default:
	// Correct.
	Mode DriftMode `json:"mode,omitempty"`

	// Ignore names fields that others may change, beside those that are always
	// theirs. A member's are added to its network's.
	// +kubebuilder:validation:MaxItems=64
	Ignore []DriftIgnore `json:"ignore,omitempty"`
}

// DriftIgnore names fields of some objects that others may change: isthmus sets
// them when it makes the object, and leaves them alone afterwards.
type DriftIgnore struct {
	// Group of the objects' kind; empty for the core group.
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// Kind of the objects.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`

	// Namespace of the objects. Default: any.
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// Name of the objects. Default: any.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// Fields as JSON pointers, such as /spec/replicas; what is below them is meant
	// too.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Fields []JSONPointer `json:"fields"`
}

// JSONPointer names a field, as RFC 6901 has it. A field that says what or whose
// an object is cannot be named.
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:Pattern=`^(/([^/~]|~[01])+)+$`
type JSONPointer string
