package reconciler

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// Pods of istiod would wait for a mount that never comes.
func TestMountedCAsAreRefused(t *testing.T) {
	for _, mode := range []v1alpha1.DeliveryMode{"", v1alpha1.DeliveryDirect, v1alpha1.DeliveryExternalSecret, v1alpha1.DeliverySecretProviderClass} {
		network := &v1alpha1.ApplicationNetwork{}
		network.Spec.Trust.Delivery.Mode = mode
		failure := notDelivered(&fleet.Fleet{Networks: []*v1alpha1.ApplicationNetwork{network}}, "")
		if want := mode == v1alpha1.DeliverySecretProviderClass; (failure != nil) != want || want && failure.Reason != status.ReasonNotSupported {
			t.Errorf("%q: %v", mode, failure)
		}
	}
}
