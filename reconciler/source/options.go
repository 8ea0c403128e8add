package source

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
)

// Options say which repository to read, and how.
type Options struct {
	// Key names the local copy: one for each follower, whatever its URL is.
	Key string
	// URL of the repository: https, http, ssh or file, without a password.
	URL string
	// Reference to follow.
	Reference Reference
	// Path of the fleet inside the repository, slash-separated; empty is the root.
	Path string
	// Credentials for the server.
	Credentials Credentials
	// Proxy to https and http servers; nil means that of the environment.
	Proxy *Proxy
}

// Credentials of one repository. The zero value means none.
type Credentials struct {
	// Username and Password for basic authentication.
	Username, Password string
	// BearerToken, used instead of them when set.
	BearerToken string
	// CA certificates that the server's must chain to, PEM; empty means the
	// system's.
	CA []byte
	// Identity is the private key for ssh, PEM; its passphrase is Password.
	Identity []byte
	// KnownHosts are the host keys that an ssh server may have, as OpenSSH writes
	// them.
	KnownHosts []byte
}

// Proxy is an HTTP proxy.
type Proxy struct {
	// Address is its URL: http, https or socks5.
	Address string
	// Username and Password; may be empty.
	Username, Password string
}

// parse checks the options and returns the URL. What it refuses is an [Error].
func (o Options) parse() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, &Error{Reason: ReasonInvalidURL, Message: "spec.url does not parse"}
	}
	if err := allowedURL(u); err != nil {
		return nil, err
	}
	if len(o.Credentials.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(o.Credentials.CA) {
		return nil, invalidSecret("the key ca.crt holds no certificate", "give the CA's certificates in PEM")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) && o.Credentials.secret() {
		return nil, &Error{Reason: ReasonInvalidURL, Message: "spec.url is http, which would send the credentials in the clear",
			Hint: "use https, or no spec.secretRef"}
	}
	if o.Proxy == nil {
		return u, nil
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, &Error{Reason: ReasonInvalidURL, Message: fmt.Sprintf("spec.proxySecretRef is not for the scheme %q", u.Scheme),
			Hint: "a proxy is for https and http"}
	}
	_, err = o.Proxy.url()
	return u, err
}

// allowedURL is an allow-list: what is not in it could run programs.
func allowedURL(u *url.URL) error {
	_, password := u.User.Password()
	switch {
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh" && u.Scheme != "file":
		return &Error{Reason: ReasonInvalidURL, Message: fmt.Sprintf("spec.url has the scheme %q", u.Scheme),
			Hint: "use https, http, ssh or file"}
	case password || (u.User != nil && u.Scheme != "ssh"):
		return &Error{Reason: ReasonInvalidURL, Message: "spec.url carries credentials",
			Hint: "put them into a Secret and name it in spec.secretRef"}
	case u.Scheme != "file" && u.Hostname() == "":
		return &Error{Reason: ReasonInvalidURL, Message: "spec.url names no host"}
	case u.RawQuery != "" || u.Fragment != "":
		return &Error{Reason: ReasonInvalidURL, Message: "spec.url has a query or a fragment",
			Hint: "leave out what follows the path"}
	}
	return nil
}

func (p *Proxy) url() (*url.URL, error) {
	u, err := url.Parse(p.Address)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5") {
		return nil, invalidSecret("the key address of the proxy's Secret is not the URL of a proxy", "use http, https or socks5")
	}
	if p.Username != "" {
		u.User = url.UserPassword(p.Username, p.Password)
	}
	return u, nil
}

// secret reports whether there is something to keep from others.
func (c Credentials) secret() bool {
	return c.BearerToken != "" || c.Username != "" || c.Password != ""
}

// loopback: what never leaves this machine may go in the clear.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func invalidSecret(message, hint string) error {
	return &Error{Reason: ReasonInvalidSecret, Message: message, Hint: hint}
}

// branch of the reference, with its default.
func (r Reference) branch() string { return cmp.Or(r.Branch, "main") }
