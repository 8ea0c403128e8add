package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// Credentials say where credentials for registries come from. At most one is
// set; with none, registries are read anonymously.
type Credentials struct {
	// Docker takes those of docker and helm, credential helpers included: for a
	// person's own machine.
	Docker bool
	// File is a docker config.json of which only what is in it counts: programs
	// that it names are not run.
	File string
}

// registry reads one repository.
type registry struct{ repository *remote.Repository }

// open prepares to read a repository; nothing is sent yet.
func (f *Fetcher) open(repository string) (registry, error) {
	r, err := remote.NewRepository(repository)
	if err != nil {
		return registry{}, &invalid{ChartInvalid, "the repository has no valid name"}
	}
	credential, err := f.options.Credentials.function()
	if err != nil {
		return registry{}, &invalid{RegistryCredentialsRejected, err.Error()}
	}
	r.PlainHTTP = isLoopback(r.Reference.Registry)
	r.Client = &auth.Client{
		Client: &http.Client{Transport: retry.NewTransport(f.http.Transport)},
		// A cache per repository: a token of one must not be shown to another.
		Cache: auth.NewCache(), Credential: credential,
	}
	return registry{r}, nil
}

func (c Credentials) function() (auth.CredentialFunc, error) {
	switch {
	case c.Docker:
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read docker's credentials: %w", err)
		}
		return checked(credentials.Credential(store)), nil
	case c.File != "":
		store, err := credentials.NewFileStore(c.File)
		if err != nil {
			return nil, fmt.Errorf("read the credentials in %q: %w", c.File, err)
		}
		return checked(credentials.Credential(store)), nil
	}
	return auth.StaticCredential("", auth.EmptyCredential), nil
}

// checked gives the errors of a credential helper their reason.
func checked(get auth.CredentialFunc) auth.CredentialFunc {
	return func(ctx context.Context, host string) (auth.Credential, error) {
		credential, err := get(ctx, host)
		if err != nil {
			err = &invalid{RegistryCredentialsRejected, fmt.Sprintf("read the credentials for %q: %s", host, err)}
		}
		return credential, err
	}
}

// isLoopback tells whether a registry is on this machine: there, and nowhere
// else, plain HTTP is spoken.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && address.IsLoopback())
}

// manifest returns what the registry says is the manifest; it is not verified.
func (r registry) manifest(ctx context.Context, digest string) ([]byte, error) {
	_, content, err := r.repository.Manifests().FetchReference(ctx, digest)
	return read(content, maxManifest, err)
}

// blob returns what the registry says is the blob; it is not verified.
func (r registry) blob(ctx context.Context, blob ocispec.Descriptor) ([]byte, error) {
	content, err := r.repository.Blobs().Fetch(ctx, blob)
	return read(content, maxPacked, err)
}

func read(content io.ReadCloser, limit int64, err error) ([]byte, error) {
	if err != nil {
		return nil, registryError(err)
	}
	defer func() { _ = content.Close() }()
	data, err := readAll(content, limit)
	if errors.Is(err, errTooLarge) {
		return nil, &invalid{ChartInvalid, err.Error()}
	}
	if err != nil {
		return nil, &invalid{RegistryUnreachable, "read from the registry: " + err.Error()}
	}
	return data, nil
}

// registryError classifies the error of a request. Addresses are left out: those that
// registries redirect to have signatures in them.
func registryError(err error) error {
	var known *invalid
	var answer *errcode.ErrorResponse
	var exchange *url.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &answer):
		return &invalid{reasonOfStatus(answer.StatusCode), "the registry answers " + statusText(answer)}
	case errors.Is(err, errdef.ErrNotFound):
		return &invalid{ChartNotFound, "the registry does not have it"}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return &invalid{RegistryCredentialsRejected, "the registry wants credentials"}
	case errors.As(err, &exchange):
		return &invalid{RegistryUnreachable, "the registry cannot be reached: " + exchange.Err.Error()}
	}
	return &invalid{ChartDigestMismatch, "the registry's answer is not what was asked for"}
}

func reasonOfStatus(code int) Reason {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return RegistryCredentialsRejected
	case http.StatusNotFound:
		return ChartNotFound
	}
	return RegistryUnreachable
}

// statusText is the code and what the registry calls it, such as "404 MANIFEST_UNKNOWN".
func statusText(answer *errcode.ErrorResponse) string {
	text := fmt.Sprint(answer.StatusCode)
	if len(answer.Errors) > 0 && answer.Errors[0].Code != "" {
		return text + " " + answer.Errors[0].Code
	}
	return text + " " + http.StatusText(answer.StatusCode)
}
