package apply

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure/azuretest"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
)

// TestAKS: a member that is reached by its resource id gets everything, and a
// token that is revoked on the way is replaced without anybody noticing.
func TestAKS(t *testing.T) {
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", filepath.Join(t.TempDir(), "token"))
	t.Setenv("AZURE_CLIENT_ID", azuretest.Client)
	t.Setenv("AZURE_TENANT_ID", azuretest.Tenant)
	if err := os.WriteFile(os.Getenv("AZURE_FEDERATED_TOKEN_FILE"), []byte("assertion"), 0o600); err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(cluster.Server())
	if err != nil {
		t.Fatal(err)
	}
	next, err := rest.TransportFor(cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	emulated := azuretest.Start(address, next)
	t.Cleanup(emulated.Close)
	emulated.Lock()
	emulated.Federated = "assertion"
	emulated.Unlock()
	azure := member.NewAzure(member.Options{})
	azure.HTTP = emulated.HTTP()
	azure.Clouds[v1alpha1.AzurePublic] = emulated.Cloud()
	reached, err := azure.Reach(t.Context(), member.ManagedCluster{ResourceID: azuretest.ResourceID})
	if err != nil {
		t.Fatal(err)
	}
	m, wire := connect(t, reached.Config())
	target, set := NewTarget(m), small(t, "aks")
	mustApply(t, target, set)
	emulated.Revoke()
	tokens, writes := emulated.Calls("token"), len(wire.Writes())
	mustApply(t, target, set)
	if more := len(wire.Writes()) - writes; more > 0 {
		t.Errorf("the second apply made %d writes", more)
	}
	mustRemove(t, target, set)
	if more := emulated.Calls("token") - tokens; more != 1 {
		t.Errorf("%d tokens for one that was revoked", more)
	}
	if emulated.Calls("get") != 1 || writes == 0 {
		t.Errorf("%d reads of the cluster in Azure, %d writes", emulated.Calls("get"), writes)
	}
}
