package reconciler

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/reconciler/trust/keyvault"
)

// vaults opens the vaults that networks name, each once.
type vaults struct {
	// directory has the CAs of networks that name no other vault; nil for none.
	directory *trust.Authority
	// options of Key Vaults, but for which one and as whom.
	options keyvault.Options
	// access reads the Secrets that logins are in.
	access *access
	now    func() time.Time

	mu   sync.Mutex
	open map[string]openVault // Key Vaults, by URL and identity
}

// openVault is a Key Vault with the version of the Secret that it was opened with.
type openVault struct {
	secret    string
	authority *trust.Authority
}

func newVaults(directory trust.Vault, o Options, access *access) *vaults {
	v := &vaults{options: o.KeyVault, access: access, now: time.Now, open: map[string]openVault{}}
	if directory != nil {
		v.directory = trust.NewAuthority(directory, v.now)
	}
	return v
}

// of returns the CAs that are in a network's vault.
func (v *vaults) of(ctx context.Context, network *v1alpha1.ApplicationNetwork) (*trust.Authority, *status.Failure) {
	spec := network.Spec.Trust.Vault
	if spec.Type == v1alpha1.VaultKeyVault {
		return v.keyVault(ctx, network)
	}
	if v.directory == nil {
		return nil, &status.Failure{Reason: status.ReasonCAUnavailable, Stalled: true,
			Message: fmt.Sprintf("network %q has its CA in a Directory, and the reconciler runs without one: name a folder with --vault, or an Azure Key Vault in spec.trust.vault", network.Name)}
	}
	return v.directory, nil
}

func (v *vaults) keyVault(ctx context.Context, network *v1alpha1.ApplicationNetwork) (*trust.Authority, *status.Failure) {
	spec, login := network.Spec.Trust.Vault, v1alpha1.AzureLogin{}
	if spec.Azure != nil {
		login = *spec.Azure
	}
	options := v.options
	options.URL, options.Cloud = spec.URL, fleet.VaultCloud(spec)
	options.Observe = func(op, code string) { keyVaultRequests.WithLabelValues(hostOf(spec.URL), op, code).Inc() }
	options.Identity = azure.Identity{Kind: login.Identity, ClientID: login.ClientID, TenantID: login.TenantID}
	version := ""
	if login.SecretRef != nil {
		secret, failure := v.access.secret(ctx, v.access.namespace, login.SecretRef.Name, "spec.trust.vault.azure.secretRef")
		if failure != nil {
			return nil, failure
		}
		options.Identity.Secret, version = secret.Data, versionOf(secret)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key := fmt.Sprint(options.URL, options.Cloud, login.Identity, login.ClientID, login.TenantID)
	if known, ok := v.open[key]; ok && known.secret == version {
		return known.authority, nil
	}
	vault, err := keyvault.Open(options)
	if err != nil {
		return nil, &status.Failure{Reason: status.ReasonCAUnavailable, Stalled: true, Message: err.Error()}
	}
	v.open[key] = openVault{secret: version, authority: trust.NewAuthority(vault, v.now)}
	return v.open[key].authority, nil
}

// hostOf is a vault as metrics name it.
func hostOf(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return address
	}
	return strings.ToLower(parsed.Hostname())
}

// OpenTrust opens the CAs of a network for a command: from the vault that the
// network names, or the folder of one that names none, which an age identity in a
// file reads if it is not empty. Secrets of logins are the reconciler's alone.
func OpenTrust(ctx context.Context, network *v1alpha1.ApplicationNetwork, directory, ageIdentity string) (*trust.Authority, error) {
	if azure := network.Spec.Trust.Vault.Azure; azure != nil && azure.SecretRef != nil {
		return nil, fmt.Errorf("network %q logs in to its vault by a Secret on the hub, which commands do not read: use an identity of this machine", network.Name)
	}
	vault, _, err := openDirectory(ctx, directory, ageIdentity)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	authority, failure := newVaults(vault, Options{}, nil).of(ctx, network)
	if failure != nil {
		return nil, errors.New(failure.Message)
	}
	return authority, nil
}

// TrustPolicy is what Git says of the CAs of a network.
func TrustPolicy(network *v1alpha1.ApplicationNetwork) trust.Policy { return policyOf(network, 0) }
