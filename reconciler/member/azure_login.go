package member

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

const (
	// aksServer is the AKS server application, the audience of every AKS API
	// server in every cloud.
	// Source: https://learn.microsoft.com/azure/aks/kubelogin-authentication
	aksServer = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"
	// renewAhead is how long before its end a token is replaced.
	renewAhead = 5 * time.Minute
	// renewRetry is the least time between two attempts to replace a token that is
	// still good.
	renewRetry = 30 * time.Second
)

// login is one identity and its token for AKS clusters. It is exactly the
// identity that the fleet names: there is no chain that falls through to
// another, such as a developer's.
type login struct {
	spec   v1alpha1.Azure
	secret map[string][]byte
	http   *http.Client
	cloud  cloud.Configuration
	now    func() time.Time

	// turn is held while the rest is used: a wait for it ends with its context.
	turn       chan struct{}
	credential azcore.TokenCredential
	token      azcore.AccessToken
	next       time.Time // no attempt before
	failed     error     // the last attempt's
}

// renew makes the credential anew, and with it forgets every token of the old.
func (l *login) renew() error {
	credential, err := l.make()
	if err != nil {
		// The library's message may quote what it could not read.
		return &Error{Reason: AzureLoginRefused, Doing: fmt.Sprintf("prepare the Azure identity %s: %s", l.spec.Identity, prepareHint[l.spec.Identity])}
	}
	l.credential = credential
	return nil
}

var prepareHint = map[v1alpha1.AzureIdentity]string{
	v1alpha1.AzureWorkloadIdentity: "the reconciler's pod has no federated token or the identity no clientID and tenantID: label the pod azure.workload.identity/use=true and annotate its ServiceAccount, or name both in spec.cluster.azure",
	v1alpha1.AzureManagedIdentity:  "the identity cannot be used here",
	v1alpha1.AzureServicePrincipal: "the Secret has neither a clientSecret nor a readable clientCertificate with its key as PEM",
}

func (l *login) make() (azcore.TokenCredential, error) {
	options := l.options()
	switch l.spec.Identity {
	case v1alpha1.AzureManagedIdentity:
		managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if l.spec.ClientID != "" {
			managed.ID = azidentity.ClientID(l.spec.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(managed)
	case v1alpha1.AzureServicePrincipal:
		if secret := l.secret["clientSecret"]; len(secret) > 0 {
			return azidentity.NewClientSecretCredential(l.spec.TenantID, l.spec.ClientID, string(secret),
				&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}
		chain, key, err := azidentity.ParseCertificates(l.secret["clientCertificate"], nil)
		if err != nil {
			return nil, err
		}
		return azidentity.NewClientCertificateCredential(l.spec.TenantID, l.spec.ClientID, chain, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: options, ClientID: l.spec.ClientID, TenantID: l.spec.TenantID, DisableInstanceDiscovery: true,
	})
}

// options of every call to Azure. Authorities are ours, not a user's, so nobody
// is asked whether they exist. An answer of 429 is not waited for here: the
// member's turn ends and comes back.
func (l *login) options() policy.ClientOptions {
	options := policy.ClientOptions{
		Cloud: l.cloud,
		Retry: policy.RetryOptions{
			MaxRetries: 2, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 5 * time.Second,
			StatusCodes: []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout},
		},
		Telemetry: policy.TelemetryOptions{ApplicationID: DefaultUserAgent},
	}
	if l.http != nil {
		options.Transport = l.http
	}
	return options
}

// aks is a token for AKS clusters. One that ends soon is replaced ahead; while
// that fails it is used on to its end.
func (l *login) aks(ctx context.Context) (string, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now := l.now()
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

// again is another token than one that an API server refused, with the claims
// that it asks for, if any.
func (l *login) again(ctx context.Context, refused, claims string) (string, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if l.token.Token != "" && l.token.Token != refused && claims == "" {
		return l.token.Token, nil // another call was faster
	}
	if l.now().Before(l.next) {
		return "", cmp.Or[error](l.failed, &Error{Reason: CredentialsRejected, Doing: "log in again: was just done"})
	}
	// A credential keeps its token until that ends, whoever refuses it.
	if err := l.renew(); err != nil {
		return "", err
	}
	err := l.fetch(ctx, policy.TokenRequestOptions{Claims: claims})
	if err != nil {
		return "", err
	}
	l.next = l.now().Add(renewRetry)
	return l.token.Token, nil
}

// GetToken is for calls to Azure itself.
func (l *login) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return azcore.AccessToken{}, ctx.Err()
	}
	credential := l.credential
	<-l.turn
	return credential.GetToken(ctx, o)
}

func (l *login) fetch(ctx context.Context, o policy.TokenRequestOptions) error {
	o.Scopes, o.EnableCAE = []string{aksServer}, true
	token, err := l.credential.GetToken(ctx, o)
	if err != nil {
		after, err := l.refusal(err)
		if ctx.Err() == nil {
			l.next, l.failed = l.now().Add(after), err
		}
		return err
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

// refusal says why there is no token, and when to ask again. Entra's answers
// hold times and ids that differ each time, so only their code is taken.
func (l *login) refusal(err error) (time.Duration, error) {
	doing := fmt.Sprintf("log in to Azure by %s", l.spec.Identity)
	if reason := transportReason(err); reason == Canceled || reason == Unreachable {
		return renewRetry, &Error{Reason: reason, Doing: doing + ": no answer"}
	}
	refused := (*azidentity.AuthenticationFailedError)(nil)
	if !errors.As(err, &refused) || refused.RawResponse == nil {
		return renewRetry, &Error{Reason: AzureLoginRefused, Doing: doing + ": no token; " + prepareHint[l.spec.Identity]}
	}
	switch code := refused.RawResponse.StatusCode; {
	case code == http.StatusTooManyRequests:
		return max(renewRetry, retryAfter(refused.RawResponse, l.now())), &Error{Reason: Throttled, Doing: doing + ": too many requests"}
	case code >= http.StatusInternalServerError:
		return renewRetry, &Error{Reason: ServerFailing, Doing: fmt.Sprintf("%s: answer %d", doing, code)}
	}
	if code := entraCode.FindString(err.Error()); code != "" {
		return renewRetry, &Error{Reason: AzureLoginRefused, Doing: fmt.Sprintf("%s: refused with %s: %s", doing, code,
			cmp.Or(entraHints[code], "see https://login.microsoftonline.com/error?code="+code[len("AADSTS"):]))}
	}
	return renewRetry, &Error{Reason: AzureLoginRefused, Doing: fmt.Sprintf("%s: refused with %d", doing, refused.RawResponse.StatusCode)}
}

// retryAfter is how long an answer asks to wait, at most an hour.
func retryAfter(r *http.Response, now time.Time) time.Duration {
	value := r.Header.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), time.Hour)
}

// bearer puts the identity's token on every call to an AKS cluster.
type bearer struct {
	cluster *managedCluster
	next    http.RoundTripper
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (b *bearer) WrappedRoundTripper() http.RoundTripper { return b.next }

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.cluster.login.aks(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	response, err := b.send(r, token)
	if err != nil || response.StatusCode != http.StatusUnauthorized || (r.Body != nil && r.GetBody == nil) {
		return response, err
	}
	// Once: the token may have been revoked, or the server asks for more claims.
	another, err := b.cluster.login.again(r.Context(), token, claimsOf(response))
	if err != nil {
		return response, nil //nolint:nilerr // the server's refusal is the answer, and says more
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	_ = response.Body.Close()
	retry := r.Clone(r.Context())
	if r.GetBody != nil {
		if retry.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return b.send(retry, another)
}

func (b *bearer) send(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := b.next.RoundTrip(r)
	if err != nil && r.Context().Err() == nil {
		b.cluster.suspect.Store(true) // it may be elsewhere now, or have another CA
	}
	return response, err
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
}

var claims = regexp.MustCompile(`claims="([A-Za-z0-9+/=_-]+)"`)

// claimsOf are the claims that a refusal asks for, as continuous access
// evaluation has it; empty for none.
func claimsOf(r *http.Response) string {
	for _, challenge := range r.Header.Values("WWW-Authenticate") {
		if found := claims.FindStringSubmatch(challenge); found != nil {
			for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding, base64.URLEncoding, base64.RawStdEncoding} {
				if raw, err := encoding.DecodeString(found[1]); err == nil {
					return string(raw)
				}
			}
		}
	}
	return ""
}
