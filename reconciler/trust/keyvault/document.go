package keyvault

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

// maxDocument is the service's limit of a secret.
const maxDocument = 25 << 10

// Get implements [trust.Vault].
func (v *Vault) Get(ctx context.Context, path string) (trust.Document, error) {
	secret, err := v.secretAt(ctx, path, "")
	if err != nil {
		return trust.Document{}, err
	}
	if secret.Tags[createdTag] == nil {
		return v.document(path, secret)
	}
	// A version that was created counts only if it was the first.
	version := secret.ID.Version()
	current, err := v.current(ctx, path, version)
	if err != nil {
		return trust.Document{}, err
	}
	if current != version {
		if secret, err = v.secretAt(ctx, path, current); err != nil {
			return trust.Document{}, err
		}
	}
	return v.document(path, secret)
}

// secretAt reads a version, the newest for the empty one.
func (v *Vault) secretAt(ctx context.Context, path, version string) (azsecrets.Secret, error) {
	var secret azsecrets.Secret
	err := v.call(ctx, getSecret, path, func(ctx context.Context) error {
		response, err := v.secrets.GetSecret(ctx, vaultname.KeyVault(path), version, nil)
		secret = response.Secret
		return err
	})
	if err != nil {
		return azsecrets.Secret{}, err
	}
	if secret.Value == nil || secret.ID == nil {
		return azsecrets.Secret{}, v.unreadable(getSecret, path)
	}
	if err := v.checkTag(getSecret, path, secret.Tags); err != nil {
		return azsecrets.Secret{}, err
	}
	v.mu.Lock()
	v.ours[path] = true
	v.mu.Unlock()
	return secret, nil
}

// current is the version that counts, where the newest was created by somebody:
// the last that was put, or else the first.
func (v *Vault) current(ctx context.Context, path, newest string) (string, error) {
	v.mu.Lock()
	first := v.first["secret "+path]
	v.mu.Unlock()
	if first == newest {
		return newest, nil
	}
	versions, err := v.settledSecret(ctx, path)
	if err != nil {
		return "", err
	}
	if len(versions) == 0 {
		return "", fmt.Errorf("%s %q of %s: %w", getSecret.doing, path, v.host, trust.ErrNotFound)
	}
	current := versions[0]
	for _, version := range versions[1:] {
		if version.tags[createdTag] == nil {
			current = version
		}
	}
	return current.version, nil
}

// settledSecret returns the versions of a secret in their order, and remembers the
// first.
func (v *Vault) settledSecret(ctx context.Context, path string) ([]found, error) {
	versions, err := v.settled(ctx, listSecret, path, func(ctx context.Context) ([]found, error) { return v.listSecret(ctx, path) })
	if err == nil && len(versions) > 0 {
		v.mu.Lock()
		v.first["secret "+path] = versions[0].version
		v.mu.Unlock()
	}
	return versions, err
}

func (v *Vault) listSecret(ctx context.Context, path string) ([]found, error) {
	pager := v.secrets.NewListSecretPropertiesVersionsPager(vaultname.KeyVault(path), nil)
	return v.listed(ctx, listSecret, path, pager.More, func(ctx context.Context) ([]found, error) {
		page, err := pager.NextPage(ctx)
		versions := make([]found, len(page.Value))
		for i, item := range page.Value {
			if item != nil && item.ID != nil && item.Attributes != nil && item.Attributes.Created != nil {
				versions[i] = found{version: item.ID.Version(), created: *item.Attributes.Created, tags: item.Tags}
			}
		}
		return versions, err
	})
}

// document takes our tags off again.
func (v *Vault) document(path string, secret azsecrets.Secret) (trust.Document, error) {
	d := trust.Document{Data: []byte(*secret.Value)}
	for name, value := range secret.Tags {
		if name == nameTag || name == createdTag || value == nil {
			continue
		}
		if d.Tags == nil {
			d.Tags = map[string]string{}
		}
		d.Tags[name] = *value
	}
	if secret.Attributes == nil {
		return trust.Document{}, v.unreadable(getSecret, path)
	}
	if end := secret.Attributes.Expires; end != nil {
		d.NotAfter = end.UTC()
	}
	return d, nil
}

// Create implements [trust.Vault]. It takes up to two seconds.
func (v *Vault) Create(ctx context.Context, path string, d trust.Document) error {
	versions, err := v.listSecret(ctx, path)
	if err != nil {
		return err
	}
	exists := fmt.Errorf("%s %q of %s: %w", setSecret.doing, path, v.host, trust.ErrExists)
	if len(versions) > 0 {
		return exists
	}
	nonce := rand.Text()
	if err := v.set(ctx, path, d, map[string]*string{createdTag: &nonce}); err != nil {
		return err
	}
	// What was made just now cannot be settled yet: no call for that.
	sleep(ctx, v.settle)
	if versions, err = v.settledSecret(ctx, path); err != nil {
		return err
	}
	if len(versions) == 0 {
		return v.unreadable(listSecret, path)
	}
	// By the nonce and not by the version: a call that was repeated has made two.
	if first := versions[0].tags[createdTag]; first == nil || *first != nonce {
		return exists
	}
	return nil
}

// Put implements [trust.Vault].
func (v *Vault) Put(ctx context.Context, path string, d trust.Document) error {
	v.mu.Lock()
	ours := v.ours[path]
	v.mu.Unlock()
	if !ours {
		// What somebody else keeps under the name is not overwritten.
		if _, err := v.secretAt(ctx, path, ""); err != nil && !missing(err) {
			return err
		}
	}
	return v.set(ctx, path, d, nil)
}

// set writes a version, and checks that the vault has it.
func (v *Vault) set(ctx context.Context, path string, d trust.Document, tags map[string]*string) error {
	op := fmt.Sprintf("%s %q of %s", setSecret.doing, path, v.host)
	if len(d.Data) == 0 || len(d.Data) > maxDocument || !utf8.Valid(d.Data) {
		return fmt.Errorf("%s: %d bytes; Key Vault takes text of 1 to %d", op, len(d.Data), maxDocument)
	}
	parameters := azsecrets.SetSecretParameters{
		Value: to.Ptr(string(d.Data)), ContentType: to.Ptr("application/x-pem-file"),
		SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(true)},
		Tags:             map[string]*string{nameTag: &path},
	}
	if json.Valid(d.Data) {
		parameters.ContentType = to.Ptr("application/json")
	}
	if !d.NotAfter.IsZero() {
		parameters.SecretAttributes.Expires = to.Ptr(d.NotAfter.UTC())
	}
	for name, value := range d.Tags {
		parameters.Tags[name] = to.Ptr(value)
	}
	for name, value := range tags {
		parameters.Tags[name] = value
	}
	return v.call(ctx, setSecret, path, func(ctx context.Context) error {
		response, err := v.secrets.SetSecret(ctx, vaultname.KeyVault(path), parameters, nil)
		if err == nil && (response.Value == nil || *response.Value != string(d.Data)) {
			return v.unreadable(setSecret, path)
		}
		return err
	})
}
