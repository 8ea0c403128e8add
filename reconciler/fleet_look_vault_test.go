package reconciler

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// A directory in place of a Key Vault would make another root.
func TestKeyVaultIsNotDelivered(t *testing.T) {
	network := &v1alpha1.ApplicationNetwork{}
	f := &fleet.Fleet{Networks: []*v1alpha1.ApplicationNetwork{network}}
	network.Spec.Trust.Vault.Type = v1alpha1.VaultDirectory
	if failure := notDelivered(f, ""); failure != nil {
		t.Errorf("a directory is refused: %v", failure)
	}
	network.Spec.Trust.Vault.Type = v1alpha1.VaultKeyVault
	if failure := notDelivered(f, ""); failure == nil || failure.Reason != status.ReasonNotSupported {
		t.Errorf("notDelivered = %v, want the reason %s", failure, status.ReasonNotSupported)
	}
}
