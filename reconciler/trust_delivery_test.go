package reconciler

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// TestSetOfDeliveryModes: only the mode Direct has a key in the set, and only a
// mounted CA has files in the vault, and makes one that is left in a Secret
// superfluous.
func TestSetOfDeliveryModes(t *testing.T) {
	_, _, chain := twoRoots(t)
	for mode, want := range map[v1alpha1.DeliveryMode]struct {
		secrets int
		mounted bool
	}{
		"":                                   {secrets: 1},
		v1alpha1.DeliveryDirect:              {secrets: 1},
		v1alpha1.DeliveryExternalSecret:      {},
		v1alpha1.DeliverySecretProviderClass: {mounted: true},
	} {
		network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
		network.Spec.Trust.Delivery.Mode = mode
		set, err := setOf(desired{network: network}, chain)
		must(t, err)
		if len(set.Secrets) != want.secrets || set.MountedCA != want.mounted {
			t.Errorf("%q: %d Secrets, mounted: %t", mode, len(set.Secrets), set.MountedCA)
		}
		if files := policyOf(network, 0).Files; files != want.mounted {
			t.Errorf("%q: files in the vault: %t", mode, files)
		}
	}
}

// away is a vault that does not answer.
type away struct{ trust.Vault }

func (away) Get(context.Context, string) (trust.Document, error) {
	return trust.Document{}, &trust.VaultError{Reason: trust.VaultUnavailable, Op: "get", Message: "no answer"}
}

// TestMountedCAWhileTheVaultIsAway: a process that starts then has no copy of the CA,
// and goes on with the member's bundle all the same; not with one of a member that
// never had a CA.
func TestMountedCAWhileTheVaultIsAway(t *testing.T) {
	vault, err := trust.OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	must(t, err)
	network := &v1alpha1.ApplicationNetwork{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	network.Spec.Trust.Delivery.Mode = v1alpha1.DeliverySecretProviderClass
	l := newLedger(newVaults(vault, Options{}, nil), Options{Log: logr.Discard()}, newWakes())
	l.vaults.directory = trust.NewAuthority(away{vault}, time.Now)
	r := &memberReconciler{ledger: l, now: time.Now}
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Name: "east"}}
	want := desired{network: network}
	if _, failure := r.authorize(t.Context(), &connection{}, m, want); failure == nil {
		t.Error("a member that never had a CA is delivered to without one")
	}
	m.Status.Trust = &v1alpha1.MemberTrustStatus{Issued: &v1alpha1.IssuedTrust{Signer: "a", Serial: "1"}}
	given, failure := r.authorize(t.Context(), &connection{}, m, want)
	if failure != nil || given.unavailable == "" {
		t.Fatalf("%+v, said: %q", failure, given.unavailable)
	}
	if set, err := setOf(want, given.chain); err != nil || !set.MountedCA {
		t.Errorf("the set: %v", err)
	}
	r.prove(t.Context(), &connection{}, m, given)
	if m.Status.Trust.Proven != nil || m.Status.Trust.Unproven != "" {
		t.Errorf("proven without knowing of what: %+v", m.Status.Trust)
	}
	report := newReport(nil, nil, m)
	report.delivered(want, given.chain, m)
	if len(m.Status.Certificates) > 0 {
		t.Errorf("certificates that nobody has seen: %v", m.Status.Certificates)
	}
}
