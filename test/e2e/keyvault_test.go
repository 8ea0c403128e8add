package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/keyvault"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// vaultLogin is the Secret of the hub by which the reconciler logs in.
const vaultLogin, vaultPassword = "vault-login", "czNjcmV0LW9mLWUyZQ"

// TestKeyVault: the root of a network is in a Key Vault, spoken to by the real SDK;
// an idle fleet asks it nothing; and while it is away, also across a restart, the
// member keeps the CA that it has and everything else goes on; also in the middle of
// the replacement of the root.
func TestKeyVault(t *testing.T) {
	t.Parallel() // it mostly waits
	vault := startVault(t)
	r, options := newVaultRig(t, vault, rig.Options{Istiods: []string{oneRelease}}, rootOfTheVault)
	options.LeafLife = leafLife
	commit := push(t, r, "A member, and a Key Vault")
	stop := runWith(t, r, options)
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, 3*time.Minute))
	trusts := func(s metav1.ConditionStatus, reason string) {
		t.Helper()
		check(t, r.WaitMember(t.Context(), east, 2*time.Minute, status.TrustReady, s, reason))
	}
	trusts(metav1.ConditionTrue, status.ReasonTrustProven)
	first := caOfMember(t, r)
	if root := certificateIn(t, first.Data["root-cert.pem"]); root.SignatureAlgorithm != x509.ECDSAWithSHA384 || vault.Calls("keys/sign") == 0 {
		t.Errorf("the root is signed by %s, after %d signatures of the vault", root.SignatureAlgorithm, vault.Calls("keys/sign"))
	}
	m, err := r.Member(t.Context(), east)
	check(t, err)
	if key := bytes.TrimSpace(first.Data["ca-key.pem"]); len(key) < 60 || bytes.Contains([]byte(fmt.Sprint(m)), key[28:60]) {
		t.Error("the member's key is missing, or in its status")
	}

	idle := vault.Answers(200)
	check(t, r.Request(t.Context()))
	check(t, r.Repository.Write("README.md", "Words.\n"))
	check(t, r.WaitApplied(t.Context(), push(t, r, "Words"), time.Minute))
	if now := vault.Answers(200); now != idle {
		t.Errorf("the vault was asked %d times for a commit of words", now-idle)
	}

	vault.Break(keyvault.Faults{Down: true})
	stop()
	stop = runWith(t, r, options)
	check(t, r.Repository.Replace(network, "mtls: Permissive", "mtls: Strict"))
	check(t, r.WaitApplied(t.Context(), push(t, r, "Strict"), 3*time.Minute))
	trusts(metav1.ConditionFalse, status.ReasonCAUnavailable)
	if during := caOfMember(t, r); !sameData(first.Data, during.Data) || during.UID != first.UID {
		t.Error("the CA changed while the vault was away")
	}
	vault.Mend()
	trusts(metav1.ConditionTrue, status.ReasonTrustProven)
	if after := caOfMember(t, r); !sameData(first.Data, after.Data) {
		t.Error("the CA changed when the vault was back")
	}
	testVaultAwayInARotation(t, r, vault)
	stop()
}

// testVaultAwayInARotation replaces the root, and takes the vault away in the middle of
// it: the member keeps the CA that it has and says for how long, its workloads get
// certificates and accept each other, and all goes on when the vault is back.
func testVaultAwayInARotation(t *testing.T, r *rig.Rig, vault *keyvault.Emulator) {
	k, mesh := &kills{rig: r}, startMesh(t, r, leafLife)
	before, err := k.networkTrust(t.Context())
	check(t, err)
	check(t, r.Repository.Replace(network, rootOfTheVault, fmt.Sprintf("    root: {key: {algorithm: ECDSA-P384}, replaceIssuedBefore: %q}\n", time.Now().UTC().Format(time.RFC3339))))
	push(t, r, "Another root")
	k.followRoot(t, len(before.Roots)+1, func(step string, isNew bool) {
		if step != "TrustBoth" || !isNew {
			return
		}
		check(t, rig.Eventually(t.Context(), time.Minute, func() error {
			if is := k.trustOf(t, east); is.Proven == nil || len(is.Proven.Trusts) != 2 {
				return fmt.Errorf("it is not proven to trust both: %s", is.Unproven)
			}
			return nil
		}))
		ca := caOfMember(t, r)
		vault.Break(keyvault.Faults{Down: true})
		check(t, r.WaitMember(t.Context(), east, 2*time.Minute, status.TrustReady, metav1.ConditionFalse, status.ReasonCAUnavailable))
		m, err := r.Member(t.Context(), east)
		check(t, err)
		lasts := k.trustOf(t, east).Issued.NotAfter.UTC().Format(time.RFC3339)
		if said := rig.Condition(m.Status.Conditions, status.TrustReady); !strings.Contains(said, lasts) {
			t.Errorf("the condition does not say that the CA lasts until %s: %s", lasts, said)
		}
		for end := time.Now().Add(leafLife); time.Now().Before(end); time.Sleep(time.Second) {
			if now := caOfMember(t, r); !sameData(ca.Data, now.Data) || now.UID != ca.UID {
				t.Fatal("the CA changed while the vault was away")
			}
		}
		vault.Mend()
	})
	k.proven(t, time.Minute)
	expectServed(t, mesh.end(t), "AB")
}

const rootOfTheVault = "    root: {key: {algorithm: ECDSA-P384}}\n"

func startVault(t *testing.T) *keyvault.Emulator {
	t.Helper()
	vault, err := keyvault.Start(keyvault.Options{PurgeProtection: true})
	check(t, err)
	t.Cleanup(vault.Close)
	vault.Entra.Secret = vaultPassword
	return vault
}

// newVaultRig has one member, whose network has its CA in a vault, and besides in
// spec.trust what is given. Nothing is pushed yet.
func newVaultRig(t *testing.T, vault *keyvault.Emulator, o rig.Options, besides string) (*rig.Rig, reconciler.Options) {
	t.Helper()
	o.Members, o.LogDir, o.Progress = []string{east}, logDir(t), os.Stderr
	r, err := rig.Start(context.WithoutCancel(t.Context()), o)
	check(t, err)
	t.Cleanup(r.Stop)
	check(t, r.HubClient.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: vaultLogin},
		StringData: map[string]string{"clientSecret": vaultPassword},
	}))
	check(t, r.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	check(t, r.Repository.Remove(memberFile(west)))
	check(t, r.Repository.Replace(network, `version: "1.30.4"`, fmt.Sprintf("version: %q", o.Istiods[0])))
	check(t, r.Repository.Replace(network, "    vault:\n      type: Directory\n", fmt.Sprintf(`    vault:
      type: KeyVault
      url: %s
      azure: {identity: ServicePrincipal, clientID: %s, tenantID: %s, secretRef: {name: %s}}
`, vault.URL(), azuretest.Client, azuretest.Tenant, vaultLogin)+besides))
	options := reconciler.Options{MetricsAddress: "0"}
	options.KeyVault.HTTP = vault.HTTP()
	options.KeyVault.Clouds = map[v1alpha1.AzureCloud]cloud.Configuration{v1alpha1.AzurePublic: vault.Entra.Cloud()}
	return r, options
}

func caOfMember(t *testing.T, r *rig.Rig) corev1.Secret {
	t.Helper()
	member, err := r.ClientOf(east)
	check(t, err)
	var secret corev1.Secret
	check(t, member.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "cacerts"}, &secret))
	return secret
}

func sameData(a, b map[string][]byte) bool {
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			return false
		}
	}
	return len(a) == len(b)
}

func certificateIn(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("not PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return certificate
}
