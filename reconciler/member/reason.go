package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/isthmus-mesh/isthmus/reconciler/azure"
)

// Reason is why a member cannot be used. Values are frozen once released:
// conditions, metrics and people act on them.
type Reason string

// The reasons. Those that only a person can change are said by [Reason.Stalls].
const (
	// KubeconfigRefused: the kubeconfig has what we do not accept.
	KubeconfigRefused Reason = "KubeconfigRefused"
	// Unreachable: no answer, or none in time.
	Unreachable Reason = "Unreachable"
	// CertificateRejected: we do not trust the API server's certificate.
	CertificateRejected Reason = "CertificateRejected"
	// CredentialsRejected: the API server does not know us.
	CredentialsRejected Reason = "CredentialsRejected"
	// AccessDenied: the API server knows us, and we may not.
	AccessDenied Reason = "AccessDenied"
	// AzureLoginRefused: Azure does not give the identity a token.
	AzureLoginRefused Reason = "AzureLoginRefused"
	// ClusterGone: Azure knows that the cluster was deleted.
	ClusterGone Reason = "ClusterGone"
	// Throttled: the API server asks us to come later.
	Throttled Reason = "Throttled"
	// ServerFailing: the API server answers with an error of its own, or with what
	// cannot be read.
	ServerFailing Reason = "ServerFailing"
	// KindMissing: the API server does not serve a kind that is needed.
	KindMissing Reason = "KindMissing"
	// Fenced: another replica of isthmus works on the member now; nothing was sent.
	Fenced Reason = "Fenced"
	// HubProtected: the member is the hub, and the call would change what isthmus
	// itself lives from; nothing was sent.
	HubProtected Reason = "HubProtected"
	// Canceled: the caller gave up.
	Canceled Reason = "Canceled"
	// Unclassified: none of the others.
	Unclassified Reason = "Unclassified"
)

// Stalls reports whether waiting does not help: somebody has to act.
func (r Reason) Stalls() bool {
	switch r {
	case KubeconfigRefused, CertificateRejected, CredentialsRejected, AccessDenied, HubProtected, AzureLoginRefused, ClusterGone:
		return true
	}
	return false
}

// Error is a failure to reach or use a member, with its reason.
type Error struct {
	Reason Reason
	// Doing is what failed, such as "read the version of the API server".
	Doing string
	// Err is the cause, nil where there is none besides Doing.
	Err error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Doing
	}
	return fmt.Sprintf("%s: %v", e.Doing, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Wrap puts what was being done and the reason of err around it; nil stays nil.
func Wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Reason: ReasonOf(err), Doing: doing, Err: err}
}

// ReasonOf classifies an error of any call to a member. It is empty for nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if own := (*Error)(nil); errors.As(err, &own) {
		return own.Reason
	}
	if login := (*azure.Error)(nil); errors.As(err, &login) {
		return loginReasons[login.Kind]
	}
	if reason := apiReason(err); reason != "" {
		return reason
	}
	return transportReason(err)
}

// loginReasons are the reasons of logins to Azure.
var loginReasons = map[azure.Kind]Reason{
	azure.Refused: AzureLoginRefused, azure.TokenRefused: CredentialsRejected, azure.Throttled: Throttled,
	azure.Failing: ServerFailing, azure.Unreachable: Unreachable, azure.Canceled: Canceled,
}

// apiReason is the reason of an answer of the API server, empty for others.
func apiReason(err error) Reason {
	switch {
	case meta.IsNoMatchError(err):
		return KindMissing
	case apierrors.IsUnauthorized(err):
		return CredentialsRejected
	case apierrors.IsForbidden(err):
		return AccessDenied
	case apierrors.IsTooManyRequests(err):
		return Throttled
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Code >= 500 {
		return ServerFailing
	}
	return ""
}

func transportReason(err error) Reason {
	var (
		unverified *tls.CertificateVerificationError
		authority  x509.UnknownAuthorityError
		host       x509.HostnameError
		invalid    x509.CertificateInvalidError
		alert      tls.AlertError
		network    net.Error
		transport  *url.Error
		unreadable *json.SyntaxError
	)
	switch {
	case errors.As(err, &unverified), errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return CertificateRejected
	case errors.As(err, &alert):
		return CredentialsRejected
	case errors.Is(err, context.Canceled):
		return Canceled
	// A url.Error is an exchange that broke off: reset, refused, no such host.
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.As(err, &network), errors.As(err, &transport):
		return Unreachable
	case errors.As(err, &unreadable):
		return ServerFailing
	}
	return Unclassified
}
