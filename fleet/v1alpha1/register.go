package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of every kind of isthmus.
var GroupVersion = schema.GroupVersion{Group: "isthmus.dev", Version: "v1alpha1"}

// The kinds of the group.
const (
	FleetKind              = "Fleet"
	ApplicationNetworkKind = "ApplicationNetwork"
	MemberKind             = "Member"
)

// AddToScheme registers the kinds of the group with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&Fleet{}, &FleetList{},
		&ApplicationNetwork{}, &ApplicationNetworkList{},
		&Member{}, &MemberList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
