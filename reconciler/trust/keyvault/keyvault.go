package keyvault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/fleet/vaultname"
	"github.com/isthmus-mesh/isthmus/reconciler/azure"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
)

const (
	// apiVersion of all calls. It has all that is used, and sovereign clouds are
	// behind the public one with newer ones.
	apiVersion = "7.4"
	// DefaultTimeout of one call, with its repetitions.
	DefaultTimeout = 30 * time.Second
	// DefaultShare of the service's limits.
	DefaultShare = 0.75
	// settle is how old the first version of a name must be to stay the first: the
	// service dates versions in whole seconds, and its machines' clocks differ.
	settle = 2 * time.Second
	// throttles is how often a call is tried again after 429.
	throttles = 3
)

// domains are those of vaults in each cloud.
// Source: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
var domains = map[v1alpha1.AzureCloud]string{
	v1alpha1.AzurePublic: "vault.azure.net", v1alpha1.AzureGovernment: "vault.usgovcloudapi.net", v1alpha1.AzureChina: "vault.azure.cn",
}

// Options say which vault, and as whom.
type Options struct {
	// URL of the vault: https://NAME.vault.azure.net, or of a sovereign cloud.
	URL string
	// Cloud of the vault and of its identity. Default: the one that URL is in.
	Cloud v1alpha1.AzureCloud
	// Identity that logs in.
	Identity azure.Identity
	// Credential in place of an identity, for tests and commands of people.
	Credential azcore.TokenCredential
	// Clouds in place of Azure's own authorities.
	Clouds map[v1alpha1.AzureCloud]cloud.Configuration
	// HTTP makes the calls. Nil: the default.
	HTTP *http.Client
	// Emulator allows any https URL, and tokens for whatever service it asks for.
	// Only for tests and demos.
	Emulator bool
	// Timeout of one call, with its repetitions. Default: DefaultTimeout.
	Timeout time.Duration
	// Share of the service's limits that this process uses, above 0. Default:
	// DefaultShare, which leaves some for people and for other replicas.
	Share float64
	// UserAgent of the calls. Default: isthmus.
	UserAgent string
	// Observe is told of every HTTP call: its operation, such as "key_sign", and the
	// status of the answer, or "error" for none. Nil: nobody.
	Observe func(op, code string)
	// Now is the clock. Nil: the machine's.
	Now func() time.Time
}

// Vault is a [trust.Vault] and [trust.Clock] in Azure Key Vault. Safe for
// concurrent use, also by several processes.
type Vault struct {
	o       Options
	host    string
	login   *azure.Login // nil with a credential of the options
	keys    *azkeys.Client
	secrets *azsecrets.Client
	wire    *wire
	limits  *limiter
	settle  time.Duration // of tests, else the constant

	mu sync.Mutex
	// refused is the last refusal of the login, which stands until then.
	refused error
	until   time.Time
	// first has the first versions of keys, and of secrets that were created, by
	// kind and path: they do not change.
	first map[string]string
	// ours are the secrets whose tag was seen to be their path's.
	ours map[string]bool
}

var (
	_ trust.Vault = (*Vault)(nil)
	_ trust.Clock = (*Vault)(nil)
)

// Open returns the vault. It makes no call yet, so that a vault that is away holds
// up no start; its errors are those of the options.
func Open(o Options) (*Vault, error) {
	o.Cloud = cmp.Or(o.Cloud, cloudOf(o.URL))
	o.Timeout, o.Share = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.Share, DefaultShare)
	o.UserAgent = cmp.Or(o.UserAgent, "isthmus")
	if o.Clouds == nil {
		o.Clouds = azure.Clouds()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(string, string) {}
	}
	address, err := checkURL(o)
	if err != nil {
		return nil, err
	}
	v := &Vault{o: o, host: address.Host, limits: newLimiter(o.Share), settle: settle, first: map[string]string{}, ours: map[string]bool{}}
	if o.Credential == nil {
		v.login, err = azure.New(o.Identity, azure.Options{
			Field: "spec.trust.vault.azure", Cloud: o.Clouds[o.Cloud], UserAgent: o.UserAgent, HTTP: o.HTTP, Now: o.Now,
		})
		if err != nil {
			return nil, fmt.Errorf("open vault %q: %w", v.host, err)
		}
	}
	v.wire = &wire{next: transport(o.HTTP), host: v.host, observe: o.Observe, now: o.Now}
	if !o.Emulator {
		v.wire.resource = "https://" + domains[o.Cloud]
	}
	return v, v.clients(address.String(), (*credentials)(v))
}

// cloudOf is the cloud that a vault's address is in, Public for others.
func cloudOf(address string) v1alpha1.AzureCloud {
	if parsed, err := url.Parse(address); err == nil {
		for cloud, domain := range domains {
			if strings.HasSuffix(strings.ToLower(parsed.Hostname()), "."+domain) {
				return cloud
			}
		}
	}
	return v1alpha1.AzurePublic
}

var vaultHost = regexp.MustCompile(`^[a-z][a-z0-9-]{1,22}[a-z0-9]$`)

func checkURL(o Options) (*url.URL, error) {
	address, err := url.Parse(o.URL)
	if err != nil || address.Scheme != "https" || address.Host == "" || address.User != nil || address.RawQuery != "" || strings.Trim(address.Path, "/") != "" {
		return nil, fmt.Errorf("vault url %q: want https://NAME.%s", o.URL, domains[o.Cloud])
	}
	address.Path, address.Host = "", strings.ToLower(address.Host)
	domain, known := domains[o.Cloud]
	if !known {
		return nil, fmt.Errorf("vault url %q: cloud %q is not known", o.URL, o.Cloud)
	}
	if o.Emulator {
		return address, nil
	}
	name, in, _ := strings.Cut(address.Host, ".")
	for other, elsewhere := range domains {
		if in == elsewhere && in != domain {
			return nil, fmt.Errorf("vault url %q is of cloud %s, and the fleet names %s: leave out spec.trust.vault.azure.cloud", o.URL, other, o.Cloud)
		}
	}
	if in != domain || !vaultHost.MatchString(name) {
		return nil, fmt.Errorf("vault url %q: want https://NAME.%s", o.URL, domain)
	}
	return address, nil
}

// transport is that of a client, or the default one with more connections to one
// host.
func transport(client *http.Client) http.RoundTripper {
	if client != nil && client.Transport != nil {
		return client.Transport
	}
	made, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	made = made.Clone()
	made.MaxIdleConnsPerHost = 32
	return made
}

func (v *Vault) clients(address string, credential azcore.TokenCredential) error {
	options := azcore.ClientOptions{
		APIVersion: apiVersion,
		Cloud:      v.o.Clouds[v.o.Cloud],
		Telemetry:  policy.TelemetryOptions{ApplicationID: v.o.UserAgent},
		// An answer that leads elsewhere is an error: no token follows it.
		Transport: &http.Client{Transport: v.wire, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Retry: policy.RetryOptions{
			MaxRetries: 2, RetryDelay: 400 * time.Millisecond, MaxRetryDelay: 5 * time.Second,
			TryTimeout: v.o.Timeout / 2, ShouldRetry: v.retries,
		},
	}
	var err error
	if v.keys, err = azkeys.NewClient(address, credential, &azkeys.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: v.o.Emulator}); err != nil {
		return fmt.Errorf("open vault %q: %w", v.host, err)
	}
	v.secrets, err = azsecrets.NewClient(address, credential, &azsecrets.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: v.o.Emulator})
	if err != nil {
		return fmt.Errorf("open vault %q: %w", v.host, err)
	}
	return nil
}

// retries says whether the SDK tries a call again: after no answer and after those
// that pass, where there is time for it. An answer of 429 is waited for by the
// limiter, with all other calls.
func (v *Vault) retries(response *http.Response, err error) bool {
	if err != nil {
		return true
	}
	switch response.StatusCode {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		deadline, bounded := response.Request.Context().Deadline()
		return !bounded || azure.RetryAfter(response, v.o.Now()) < time.Until(deadline)
	}
	return false
}

// credentials gives the tokens of the vault's login, with errors that may be shown.
type credentials Vault

// GetToken asks nobody again while a refusal stands.
func (c *credentials) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	v := (*Vault)(c)
	if v.login == nil {
		token, err := v.o.Credential.GetToken(ctx, o)
		if err != nil && ctx.Err() == nil {
			err = &azure.Error{Kind: azure.Refused, Doing: "the credential gives no token"} // its own words may hold anything
		}
		return token, err
	}
	v.mu.Lock()
	refused, until := v.refused, v.until
	v.mu.Unlock()
	if refused != nil && v.o.Now().Before(until) {
		return azcore.AccessToken{}, refused
	}
	token, err := v.login.GetToken(ctx, o)
	var told error
	if err != nil {
		refusal := v.login.Refusal(err)
		until, told = v.o.Now().Add(refusal.RetryAfter), refusal
	}
	if ctx.Err() == nil {
		v.mu.Lock()
		v.refused, v.until = told, until
		v.mu.Unlock()
	}
	return token, told
}

// Identity names the vault: two fleets with one identity share their CAs.
func (v *Vault) Identity(context.Context) (string, error) { return v.host, nil }

// Skew implements [trust.Clock], by the Date of the vault's last answer, which has
// whole seconds.
func (v *Vault) Skew() (time.Duration, bool) {
	if skew := v.wire.skew.Load(); skew != nil {
		return *skew, true
	}
	return 0, false
}

// call makes one call, within the limits of the vault and of time.
func (v *Vault) call(ctx context.Context, op operation, name string, send func(context.Context) error) error {
	renewed := false
	for try := 1; ; try++ {
		if ctx.Err() != nil {
			return v.explain(ctx, op, name, ctx.Err())
		}
		if wait := v.limits.wait(ctx, op.budget, op.cost); wait > 0 {
			return &trust.VaultError{
				Reason: trust.VaultThrottled, Op: fmt.Sprintf("%s %q of %s", op.doing, name, v.host),
				Message: "no turn within the time for it: the vault's limits are used up", RetryAfter: wait,
			}
		}
		err := v.send(ctx, op, send)
		a, answered := answerOf(err, v.o.Now())
		switch {
		case answered && a.status == http.StatusTooManyRequests:
			v.limits.hold(op.budget, max(a.retryAfter, time.Second))
			if try <= throttles {
				continue
			}
		case answered && a.status == http.StatusUnauthorized && !renewed && v.login != nil && v.login.Renew(ctx):
			// The token may have been revoked, or be from before a right was given.
			renewed = true
			continue
		}
		return v.explain(ctx, op, name, err)
	}
}

func (v *Vault) send(ctx context.Context, op operation, send func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(withOp(ctx, op.name), v.o.Timeout)
	defer cancel()
	return send(ctx)
}

// found is one version of a key or secret, as lists have them.
type found struct {
	version string
	created time.Time
	tags    map[string]*string
}

// listed are all versions of a name, page by page; none where the vault has none.
func (v *Vault) listed(ctx context.Context, op operation, path string, more func() bool, next func(context.Context) ([]found, error)) ([]found, error) {
	var versions []found
	for more() {
		err := v.call(ctx, op, path, func(ctx context.Context) error {
			page, err := next(ctx)
			if slices.ContainsFunc(page, func(f found) bool { return f.version == "" }) {
				return v.unreadable(op, path)
			}
			versions = append(versions, page...)
			return err
		})
		if missing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// settled returns the versions of a name in their order, once the first of them
// stays the first. Versions of one second are in the order of their ids, as nobody
// knows better.
func (v *Vault) settled(ctx context.Context, op operation, name string, list func(context.Context) ([]found, error)) ([]found, error) {
	for {
		versions, err := list(ctx)
		if err != nil || len(versions) == 0 {
			return nil, err
		}
		slices.SortFunc(versions, func(a, b found) int {
			return cmp.Or(a.created.Compare(b.created), strings.Compare(a.version, b.version))
		})
		skew, _ := v.Skew()
		age := v.o.Now().Add(-skew).Sub(versions[0].created)
		if age >= v.settle {
			return versions, nil
		}
		if !sleep(ctx, min(v.settle-age, v.settle+time.Second)) {
			return nil, v.explain(ctx, op, name, ctx.Err())
		}
	}
}

// ownTags are those that the vault's entries have of us.
const (
	nameTag = "isthmus-name"
	// createdTag marks a version that counts only if it was the first, by a nonce.
	createdTag = "isthmus-created"
)

// checkTag refuses what belongs to another path: two paths have never one name,
// but somebody else may have used ours.
func (v *Vault) checkTag(op operation, path string, tags map[string]*string) error {
	owner := tags[nameTag]
	if owner == nil || *owner == path || !strings.Contains(path, "/") {
		return nil
	}
	return &trust.VaultError{
		Reason: trust.VaultCorrupt, Op: fmt.Sprintf("%s %q of %s", op.doing, path, v.host),
		Message: fmt.Sprintf("its entry %q has the tag %s of %q", vaultname.KeyVault(path), nameTag, *owner),
		Hint:    "something else uses the vault: give the mesh one of its own",
	}
}

// missing is whether the vault has said that something is not there.
func missing(err error) bool { return errors.Is(err, trust.ErrNotFound) }
