package keyvault

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/vaulttest"
	emulator "github.com/isthmus-mesh/isthmus/test/keyvault"
)

// s3cret is what an application logs in with.
const s3cret = "czNjcmV0"

// emulated starts a vault that takes an application's secret.
func emulated(t testing.TB, o emulator.Options) *emulator.Emulator {
	t.Helper()
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	e.Entra.Secret = s3cret
	return e
}

// open opens it with the real SDK: its own name, its own challenge.
func open(t testing.TB, e *emulator.Emulator, change ...func(*Options)) *Vault {
	t.Helper()
	o := Options{
		URL: e.URL(), HTTP: e.HTTP(),
		Clouds: map[v1alpha1.AzureCloud]cloud.Configuration{v1alpha1.AzurePublic: e.Entra.Cloud()},
		Identity: azure.Identity{
			Kind: v1alpha1.AzureServicePrincipal, ClientID: azuretest.Client, TenantID: azuretest.Tenant,
			Secret: map[string][]byte{"clientSecret": []byte(s3cret)},
		},
		Timeout: 3 * time.Minute, // a machine that is busy takes its time to make RSA keys
	}
	for _, change := range change {
		change(&o)
	}
	v, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVault: it is a vault, in software and with the limits of the service.
func TestVault(t *testing.T) {
	t.Parallel()
	e := emulated(t, emulator.Options{})
	vaulttest.Test(t, func(t *testing.T) trust.Vault { return open(t, e) })
	t.Cleanup(func() {
		if n := e.Answers(429); n > 0 {
			t.Errorf("%d answers of 429: the limits were not kept", n)
		}
	})
}
