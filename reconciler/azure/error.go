package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"time"
)

// Kind is why there is no token.
type Kind string

// The kinds.
const (
	// Refused: Azure gives the identity no token, or the identity cannot be made.
	Refused Kind = "Refused"
	// TokenRefused: another token than the one that was refused was just asked for.
	TokenRefused Kind = "TokenRefused"
	// Throttled: too many requests.
	Throttled Kind = "Throttled"
	// Failing: Azure answers with an error of its own.
	Failing Kind = "Failing"
	// Unreachable: no answer, or none in time.
	Unreachable Kind = "Unreachable"
	// Canceled: the caller gave up.
	Canceled Kind = "Canceled"
)

// Error is a login that gave no token. Its text does not change from one try to
// the next, and holds no secrets.
type Error struct {
	Kind Kind
	// Doing is what failed, and what to do about it.
	Doing string
	// RetryAfter is how long not to ask again.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Doing }

// kindOf is that of a call without an answer, empty for others.
func kindOf(err error) Kind {
	var (
		unverified *tls.CertificateVerificationError
		authority  x509.UnknownAuthorityError
		host       x509.HostnameError
		alert      tls.AlertError
		network    net.Error
		transport  *url.Error
	)
	switch {
	case errors.As(err, &unverified), errors.As(err, &authority), errors.As(err, &host), errors.As(err, &alert):
		return ""
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF),
		errors.As(err, &network), errors.As(err, &transport):
		return Unreachable
	}
	return ""
}
