package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
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
// member keeps the CA that it has and everything else goes on.
func TestKeyVault(t *testing.T) {
	t.Parallel() // it mostly waits
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east}, Istiods: []string{oneRelease}, LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	vault, err := keyvault.Start(keyvault.Options{PurgeProtection: true})
	check(t, err)
	t.Cleanup(vault.Close)
	vault.Entra.Secret = vaultPassword
	check(t, r.HubClient.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: vaultLogin},
		StringData: map[string]string{"clientSecret": vaultPassword},
	}))
	check(t, r.Repository.Copy(os.DirFS(filepath.Join(rig.Root(), "fleet-example"))))
	check(t, r.Repository.Remove(memberFile(west)))
	check(t, r.Repository.Replace(network, "    vault:\n      type: Directory\n", fmt.Sprintf(`    vault:
      type: KeyVault
      url: %s
      azure: {identity: ServicePrincipal, clientID: %s, tenantID: %s, secretRef: {name: %s}}
    root: {key: {algorithm: ECDSA-P384}}
`, vault.URL(), azuretest.Client, azuretest.Tenant, vaultLogin)))
	commit := push(t, r, "A member, and a Key Vault")
	options := reconciler.Options{MetricsAddress: "0"}
	options.KeyVault.HTTP = vault.HTTP()
	options.KeyVault.Clouds = map[v1alpha1.AzureCloud]cloud.Configuration{v1alpha1.AzurePublic: vault.Entra.Cloud()}
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
	stop()
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
