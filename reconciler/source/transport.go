package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/file"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

func init() {
	// go-git hides multi_ack from its own clients, and Azure DevOps serves only
	// those that ask for it. Requests are made here, from a fixed list.
	transport.UnsupportedCapabilities = []capability.Capability{capability.ThinPack}
}

// session is one conversation with a server: its references, then at most one
// request for objects.
type session interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	UploadPack(context.Context, *packp.UploadPackRequest) (*packp.UploadPackResponse, error)
	Close() error
}

// connect opens a session, whose bytes the meter counts. ctx bounds all of it.
func connect(ctx context.Context, o Options, u *url.URL, m *meter) (session, error) {
	if u.Scheme == "ssh" {
		return connectSSH(ctx, o.Credentials, u, m)
	}
	endpoint, err := transport.NewEndpoint(o.URL)
	if err != nil {
		return nil, &Error{Reason: ReasonInvalidURL, Message: "spec.url does not parse"}
	}
	if u.Scheme == "file" {
		return file.DefaultClient.NewUploadPackSession(endpoint, nil)
	}
	inner, err := httpTransport(o)
	if err != nil {
		return nil, err
	}
	// The client drops credentials at a redirect to another host, follows one only
	// while it asks for references, and never from https to http.
	client := githttp.NewClient(&http.Client{Transport: meteredTransport{inner, m}})
	s, err := client.NewUploadPackSession(endpoint, o.Credentials.method())
	if err != nil {
		return nil, err
	}
	return httpSession{s, inner}, nil
}

// httpSession closes its connections with it: each look has its own.
type httpSession struct {
	session
	transport *http.Transport
}

func (s httpSession) Close() error {
	s.transport.CloseIdleConnections()
	return s.session.Close()
}

func httpTransport(o Options) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    15 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(o.Credentials.CA) > 0 {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM(o.Credentials.CA)
	}
	if o.Proxy != nil {
		proxy, err := o.Proxy.url()
		if err != nil {
			return nil, err
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	return t, nil
}

// maxErrorBody of an answer that is no success: go-git reads it into memory.
const maxErrorBody = 64 << 10

// meteredTransport counts the bodies of answers, after they were decompressed.
type meteredTransport struct {
	inner http.RoundTripper
	meter *meter
}

func (t meteredTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body := struct {
		io.Reader
		io.Closer
	}{t.meter.reader(response.Body), response.Body}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		body.Reader = io.LimitReader(response.Body, maxErrorBody)
	}
	response.Body = body
	return response, nil
}

func (c Credentials) method() transport.AuthMethod {
	switch {
	case c.BearerToken != "":
		return &githttp.TokenAuth{Token: c.BearerToken}
	case c.Username != "" || c.Password != "":
		return &githttp.BasicAuth{Username: c.Username, Password: c.Password}
	}
	return nil
}
