package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	// renewAhead is how long before its end a token is replaced.
	renewAhead = 5 * time.Minute
	// RenewRetry is the least time between two attempts to get a token after one
	// that failed.
	RenewRetry = 30 * time.Second
)

// Clouds are the configurations of Azure's clouds.
func Clouds() map[v1alpha1.AzureCloud]cloud.Configuration {
	return map[v1alpha1.AzureCloud]cloud.Configuration{
		v1alpha1.AzurePublic: cloud.AzurePublic, v1alpha1.AzureGovernment: cloud.AzureGovernment, v1alpha1.AzureChina: cloud.AzureChina,
	}
}

// Identity is who logs in, and how.
type Identity struct {
	// Kind is the way to log in. Default: WorkloadIdentity.
	Kind v1alpha1.AzureIdentity
	// ClientID and TenantID of the identity. Default: those of this pod.
	ClientID, TenantID string
	// Secret has what an application logs in with: clientSecret, or
	// clientCertificate with the certificate and its key as PEM.
	Secret map[string][]byte
}

// Options of a login.
type Options struct {
	// Field is where the fleet names the identity, for hints.
	Field string
	// Cloud has the authority. Default: the public cloud's.
	Cloud cloud.Configuration
	// Scope of the tokens that Token gives, as "audience/.default".
	Scope string
	// UserAgent of the calls.
	UserAgent string
	// HTTP makes the calls. Nil: the default.
	HTTP *http.Client
	// Now is the clock. Nil: the machine's.
	Now func() time.Time
}

// Login is one identity and its tokens. It is exactly the identity that it was
// made with: there is no chain that falls through to another, such as a
// developer's. It is an azcore.TokenCredential. Safe for concurrent use.
type Login struct {
	identity Identity
	o        Options

	// turn is held while the rest is used: a wait for it ends with its context.
	turn       chan struct{}
	credential azcore.TokenCredential
	token      azcore.AccessToken
	next       time.Time // no attempt before
	failed     error     // the last attempt's
}

// New prepares a login; no call is made yet. Its errors are of this package, as
// are those of all methods but GetToken.
func New(identity Identity, o Options) (*Login, error) {
	identity.Kind = cmp.Or(identity.Kind, v1alpha1.AzureWorkloadIdentity)
	if o.Cloud.ActiveDirectoryAuthorityHost == "" {
		o.Cloud = cloud.AzurePublic
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Login{identity: identity, o: o, turn: make(chan struct{}, 1)}
	return l, l.renew()
}

// renew makes the credential anew, and with it forgets every token of the old.
func (l *Login) renew() error {
	credential, err := l.make()
	if err != nil {
		// The library's message may quote what it could not read.
		return &Error{Kind: Refused, RetryAfter: RenewRetry, Doing: fmt.Sprintf("prepare the Azure identity %s: %s", l.identity.Kind, l.prepareHint())}
	}
	l.credential = credential
	return nil
}

func (l *Login) prepareHint() string {
	switch l.identity.Kind {
	case v1alpha1.AzureManagedIdentity:
		return "the identity cannot be used here"
	case v1alpha1.AzureServicePrincipal:
		return "the Secret has neither a clientSecret nor a readable clientCertificate with its key as PEM"
	}
	return "the reconciler's pod has no federated token or the identity no clientID and tenantID: label the pod azure.workload.identity/use=true and annotate its ServiceAccount, or name both in " + l.o.Field
}

func (l *Login) make() (azcore.TokenCredential, error) {
	options := l.ClientOptions()
	switch l.identity.Kind {
	case v1alpha1.AzureManagedIdentity:
		managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if l.identity.ClientID != "" {
			managed.ID = azidentity.ClientID(l.identity.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(managed)
	case v1alpha1.AzureServicePrincipal:
		if secret := l.identity.Secret["clientSecret"]; len(secret) > 0 {
			return azidentity.NewClientSecretCredential(l.identity.TenantID, l.identity.ClientID, string(secret),
				&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}
		chain, key, err := azidentity.ParseCertificates(l.identity.Secret["clientCertificate"], nil)
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(l.identity.TenantID, l.identity.ClientID, chain, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: options, ClientID: l.identity.ClientID, TenantID: l.identity.TenantID, DisableInstanceDiscovery: true,
	})
}

// ClientOptions of calls to Azure. Authorities are ours, not a user's, so nobody
// is asked whether they exist. An answer of 429 is not waited for here: the
// caller's turn ends and comes back.
func (l *Login) ClientOptions() policy.ClientOptions {
	options := policy.ClientOptions{
		Cloud: l.o.Cloud,
		Retry: policy.RetryOptions{
			MaxRetries: 2, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 5 * time.Second,
			StatusCodes: []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
		},
		Telemetry: policy.TelemetryOptions{ApplicationID: l.o.UserAgent},
	}
	if l.o.HTTP != nil {
		options.Transport = l.o.HTTP
	}
	return options
}

// Token is a token for the scope of the login. One that ends soon is replaced
// ahead; while that fails it is used on to its end.
func (l *Login) Token(ctx context.Context) (string, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now := l.o.Now()
	good := l.token.Token != "" && now.Before(l.token.ExpiresOn)
	ahead := l.token.ExpiresOn.Add(-renewAhead)
	if !l.token.RefreshOn.IsZero() && l.token.RefreshOn.Before(ahead) {
		ahead = l.token.RefreshOn
	}
	switch {
	case good && (now.Before(ahead) || now.Before(l.next)):
		return l.token.Token, nil
	case !good && now.Before(l.next):
		return "", l.failed
	}
	err := l.fetch(ctx, policy.TokenRequestOptions{})
	if err != nil && !good {
		return "", err
	}
	return l.token.Token, nil
}

// Again is another token than one that a server refused, with the claims that it
// asks for, if any.
func (l *Login) Again(ctx context.Context, refused, claims string) (string, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if l.token.Token != "" && l.token.Token != refused && claims == "" {
		return l.token.Token, nil // another call was faster
	}
	if l.o.Now().Before(l.next) {
		return "", cmp.Or[error](l.failed, &Error{Kind: TokenRefused, RetryAfter: RenewRetry, Doing: "log in again: was just done"})
	}
	// A credential keeps its token until that ends, whoever refuses it.
	if err := l.renew(); err != nil {
		return "", err
	}
	err := l.fetch(ctx, policy.TokenRequestOptions{Claims: claims})
	if err != nil {
		return "", err
	}
	l.next = l.o.Now().Add(RenewRetry)
	return l.token.Token, nil
}

// GetToken makes a Login the credential of Azure's clients. A vault names the
// tenant that it is in; an identity of another is an [*Error] that names both.
func (l *Login) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if own := l.tenant(); o.TenantID != "" && own != "" && !strings.EqualFold(own, o.TenantID) {
		return azcore.AccessToken{}, &Error{Kind: Refused, RetryAfter: RenewRetry, Doing: fmt.Sprintf(
			"log in to Azure by %s: wanted is an identity of tenant %q, this one is of %q: check tenantID and the address", l.identity.Kind, o.TenantID, own)}
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	credential := l.credential
	<-l.turn
	token, err := credential.GetToken(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err() // not every credential says that this is why
	}
	return token, err
}

// tenant is that of the identity, empty where it is not known: a managed
// identity's is Azure's to know.
func (l *Login) tenant() string {
	if l.identity.Kind == v1alpha1.AzureManagedIdentity {
		return ""
	}
	return cmp.Or(l.identity.TenantID, os.Getenv("AZURE_TENANT_ID"))
}

// Renew forgets the tokens that were given, at most once in [RenewRetry]; it
// reports whether it did. A credential keeps a token until its end, also one that
// was revoked.
func (l *Login) Renew(ctx context.Context) bool {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return false
	}
	if l.o.Now().Before(l.next) || l.renew() != nil {
		return false
	}
	l.next = l.o.Now().Add(RenewRetry)
	return true
}

func (l *Login) fetch(ctx context.Context, o policy.TokenRequestOptions) error {
	o.Scopes, o.EnableCAE = []string{l.o.Scope}, true
	token, err := l.credential.GetToken(ctx, o)
	if err != nil {
		refusal := l.Refusal(err)
		if ctx.Err() == nil {
			l.next, l.failed = l.o.Now().Add(refusal.RetryAfter), refusal
		}
		return refusal
	}
	l.token, l.failed, l.next = token, nil, time.Time{}
	return nil
}

var entraCode = regexp.MustCompile(`AADSTS\d+`)

// entraHints say what to do about the codes that people meet.
var entraHints = map[string]string{
	"AADSTS700016":  "the tenant has no such application: check clientID and tenantID",
	"AADSTS90002":   "there is no such tenant: check tenantID and cloud",
	"AADSTS7000215": "the client secret is wrong: put the secret's value, not its id, into the Secret",
	"AADSTS7000222": "the client secret has expired: put a new one into the Secret",
	"AADSTS700024":  "the federated token has expired: check the clock and the token volume of the reconciler's pod",
	"AADSTS70021":   "no federated credential of the identity matches: check its issuer, subject and audience",
	"AADSTS700211":  "no federated credential of the identity matches the issuer",
	"AADSTS700213":  "no federated credential of the identity matches the subject: it is the reconciler's ServiceAccount",
	"AADSTS700027":  "the application does not have the certificate",
}

// Refusal says why there is no token, and when to ask again. Entra's answers
// hold times and ids that differ each time, so only their code is taken.
func (l *Login) Refusal(err error) *Error {
	if own := (*Error)(nil); errors.As(err, &own) {
		return own
	}
	doing := fmt.Sprintf("log in to Azure by %s", l.identity.Kind)
	if kind := kindOf(err); kind != "" {
		return &Error{Kind: kind, Doing: doing + ": no answer", RetryAfter: RenewRetry}
	}
	refused := (*azidentity.AuthenticationFailedError)(nil)
	if !errors.As(err, &refused) || refused.RawResponse == nil {
		return &Error{Kind: Refused, Doing: doing + ": no token; " + l.prepareHint(), RetryAfter: RenewRetry}
	}
	switch code := refused.RawResponse.StatusCode; {
	case code == http.StatusTooManyRequests:
		return &Error{Kind: Throttled, Doing: doing + ": too many requests", RetryAfter: max(RenewRetry, RetryAfter(refused.RawResponse, l.o.Now()))}
	case code >= http.StatusInternalServerError:
		return &Error{Kind: Failing, Doing: fmt.Sprintf("%s: answer %d", doing, code), RetryAfter: RenewRetry}
	}
	what := fmt.Sprintf("%s: refused with %d", doing, refused.RawResponse.StatusCode)
	if code := entraCode.FindString(err.Error()); code != "" {
		what = fmt.Sprintf("%s: refused with %s: %s", doing, code,
			cmp.Or(entraHints[code], "see https://login.microsoftonline.com/error?code="+code[len("AADSTS"):]))
	}
	return &Error{Kind: Refused, Doing: what, RetryAfter: RenewRetry}
}

// RetryAfter is how long an answer asks to wait, at most an hour.
func RetryAfter(r *http.Response, now time.Time) time.Duration {
	value := r.Header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), time.Hour)
}
