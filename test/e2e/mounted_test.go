package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/test/keyvault"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestMountedCA: a member's CA is in no Secret of it. A real istiod mounts what is in
// the vault, by the SecretProviderClass that isthmus delivers; it follows when the CA is
// replaced, starts anew with it, and does not start where the driver has nothing.
func TestMountedCA(t *testing.T) {
	t.Parallel() // it mostly waits
	vault := startVault(t)
	driver := newDriver(t, vault)
	r, options := newVaultRig(t, vault, rig.Options{
		Istiods: []string{otherRelease}, Cluster: controlplane.ClusterOptions{CSI: driver.mount},
	}, fmt.Sprintf("    delivery: {mode: SecretProviderClass, azure: {clientID: %s, tenantID: %s}}\n", azuretest.Client, azuretest.Tenant))
	member, err := r.ClientOf(east)
	check(t, err)
	check(t, member.Create(t.Context(), classCRD()))
	driver.serve(member)
	k := &kills{rig: r}
	k.commit = push(t, r, "A member that mounts its CA")
	runWith(t, r, options)
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), k.commit, 3*time.Minute))
	k.proven(t, time.Minute)
	mesh := startMesh(t, r, leafLife)
	k.expectIssuers(t, mesh)

	before := k.trustOf(t, east).Issued.Serial
	check(t, r.Repository.Replace(network, "    delivery:", fmt.Sprintf("    intermediate: {replaceIssuedBefore: %q}\n    delivery:", time.Now().UTC().Format(time.RFC3339))))
	check(t, r.WaitApplied(t.Context(), push(t, r, "Another CA"), time.Minute))
	check(t, rig.Eventually(t.Context(), 3*time.Minute, func() error { // the driver looks once a minute
		is := k.trustOf(t, east)
		if is.Issued.Serial == before || is.Proven == nil || is.Proven.Serial != is.Issued.Serial {
			return fmt.Errorf("issued %s, proven %+v, before %s: %s", is.Issued.Serial, is.Proven, before, is.Unproven)
		}
		return nil
	}))
	k.expectIssuers(t, mesh)
	k.restartIstiods(t)
	k.expectIssuers(t, mesh)

	driver.away.Store(true)
	check(t, member.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(system), client.MatchingLabels{"app": "istiod"}))
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		if driver.refused.Load() == 0 {
			return errors.New("no new pod of istiod has asked for its CA")
		}
		return nil
	}))
	for _, istiod := range r.Members[east].Istiods() {
		if istiod.Ready {
			t.Errorf("%s runs without a CA of the vault", istiod.Pod)
		}
	}
	driver.away.Store(false)
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		for _, istiod := range r.Members[east].Istiods() {
			if istiod.Ready {
				return nil
			}
		}
		return errors.New("istiod is not back")
	}))
	k.expectIssuers(t, mesh)
	check(t, r.WaitMember(t.Context(), east, time.Minute, status.TrustReady, metav1.ConditionTrue, status.ReasonTrustProven))
	if err := member.Get(t.Context(), client.ObjectKey{Namespace: system, Name: "cacerts"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the CA is in a Secret of the member, too: %v", err)
	}
	served := mesh.end(t)
	expectServed(t, served)
	t.Logf("the driver read the vault %d times", driver.mounts.Load())
}

// driver plays the Secrets Store CSI driver and its provider for Azure: what a
// SecretProviderClass names is read from the vault, one after the other, and all of it
// becomes files at once.
type driver struct {
	vault  *azsecrets.Client
	member atomic.Pointer[client.WithWatch]
	// away: the driver, or the vault for it, does not answer.
	away            atomic.Bool
	refused, mounts atomic.Int32
}

func newDriver(t *testing.T, vault *keyvault.Emulator) *driver {
	t.Helper()
	secrets, err := azsecrets.NewClient(vault.URL(), staticToken(vault.Entra.Token(keyvault.Audience)),
		&azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: vault.HTTP()}})
	check(t, err)
	return &driver{vault: secrets}
}

// staticToken is a credential that is logged in already.
type staticToken string

func (s staticToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(s), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// serve says where its SecretProviderClasses are.
func (d *driver) serve(member client.WithWatch) { d.member.Store(&member) }

func (d *driver) mount(ctx context.Context, namespace string, volume *corev1.CSIVolumeSource) (map[string][]byte, error) {
	member := d.member.Load()
	if d.away.Load() || member == nil {
		d.refused.Add(1)
		return nil, errors.New("the driver does not answer")
	}
	class := &unstructured.Unstructured{}
	class.SetAPIVersion("secrets-store.csi.x-k8s.io/v1")
	class.SetKind("SecretProviderClass")
	if err := (*member).Get(ctx, client.ObjectKey{Namespace: namespace, Name: volume.VolumeAttributes["secretProviderClass"]}, class); err != nil {
		return nil, err
	}
	provider, _, _ := unstructured.NestedString(class.Object, "spec", "provider")
	parameters, _, _ := unstructured.NestedStringMap(class.Object, "spec", "parameters")
	if volume.Driver != "secrets-store.csi.k8s.io" || provider != "azure" || parameters["keyvaultName"] != "emulated" || parameters["tenantID"] != azuretest.Tenant {
		return nil, fmt.Errorf("driver %q, provider %q of %q and %q", volume.Driver, provider, parameters["keyvaultName"], parameters["tenantID"])
	}
	var objects struct {
		Array []string `json:"array"`
	}
	if err := yaml.Unmarshal([]byte(parameters["objects"]), &objects); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, text := range objects.Array {
		var object struct {
			Name  string `json:"objectName"`
			Type  string `json:"objectType"`
			Alias string `json:"objectAlias"`
		}
		if err := yaml.Unmarshal([]byte(text), &object); err != nil || object.Type != "secret" {
			return nil, fmt.Errorf("object of type %q: %w", object.Type, err)
		}
		secret, err := d.vault.GetSecret(ctx, object.Name, "", nil)
		if err != nil {
			return nil, err
		}
		files[object.Alias] = []byte(*secret.Value)
	}
	d.mounts.Add(1)
	return files, nil
}

// classCRD is the kind SecretProviderClass, as far as an API server needs it.
func classCRD() *unstructured.Unstructured {
	names := map[string]any{"kind": "SecretProviderClass", "listKind": "SecretProviderClassList", "plural": "secretproviderclasses", "singular": "secretproviderclass"}
	spec := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "secretproviderclasses.secrets-store.csi.x-k8s.io"},
		"spec": map[string]any{
			"group": "secrets-store.csi.x-k8s.io", "scope": "Namespaced", "names": names,
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "properties": map[string]any{"spec": spec}}},
			}},
		},
	}}
}
