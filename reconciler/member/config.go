package member

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Limits and defaults of a member's connection.
const (
	// MaxKubeconfig is the largest kubeconfig that is read, in bytes. A Secret
	// holds at most 1 MiB; real ones have a few KiB.
	MaxKubeconfig = 256 << 10
	// DefaultInFlight calls per member. Eight keep a round trip of 50 ms from
	// being the bound and stay far below an API server's own limits (400 reads
	// and 200 writes).
	DefaultInFlight = 8
	// DefaultTimeout of one call.
	DefaultTimeout = 30 * time.Second
	// DefaultUserAgent of our calls, for audit logs.
	DefaultUserAgent = "isthmus"
)

// Options of a member's connection. The zero value is safe.
type Options struct {
	// AllowInsecureTLS accepts a kubeconfig that does not verify the API
	// server's certificate. Only an administrator's flag may set it.
	AllowInsecureTLS bool
	// AllowProxy accepts proxy-url. Off, because it makes the hub send
	// requests to an address of the kubeconfig's choice.
	AllowProxy bool
	// InFlight calls at once; watches do not count. Zero: [DefaultInFlight].
	InFlight int
	// Timeout of one call; watches have none. Zero: [DefaultTimeout].
	Timeout time.Duration
	// UserAgent of the calls. Empty: [DefaultUserAgent].
	UserAgent string
}

// Config rebuilds a client configuration from the current context of a
// kubeconfig. Taken over are the server (https), its CA, its TLS server name,
// and a token or a client certificate, each inline. Everything else that has an
// effect is refused with an [*Error] of reason [KubeconfigRefused] that names
// the field and what to do; values are never part of it.
func Config(kubeconfig []byte, o Options) (*rest.Config, error) {
	if len(kubeconfig) > MaxKubeconfig {
		return nil, refuse("is larger than %d bytes; keep only the cluster, user and context of this member", MaxKubeconfig)
	}
	parsed, err := clientcmd.Load(kubeconfig)
	if err != nil {
		// The parser's message may quote what it could not read.
		return nil, refuse("is not a readable kubeconfig; check it with kubectl --kubeconfig FILE version")
	}
	cluster, user, err := current(parsed)
	if err != nil {
		return nil, err
	}
	if err := checkCluster(cluster, o); err != nil {
		return nil, err
	}
	if err := checkUser(user); err != nil {
		return nil, err
	}
	return rebuild(cluster, user, o), nil
}

func refuse(format string, args ...any) error {
	return &Error{Reason: KubeconfigRefused, Doing: "kubeconfig " + fmt.Sprintf(format, args...)}
}

// current is the cluster and user of the current context, or of the only one.
func current(c *api.Config) (*api.Cluster, *api.AuthInfo, error) {
	name := c.CurrentContext
	if name == "" && len(c.Contexts) == 1 {
		for only := range c.Contexts {
			name = only
		}
	}
	context := c.Contexts[name]
	if context == nil {
		return nil, nil, refuse("has no usable current-context; name one of its contexts")
	}
	cluster, user := c.Clusters[context.Cluster], c.AuthInfos[context.AuthInfo]
	if cluster == nil {
		return nil, nil, refuse("has no cluster of the name that its current context gives")
	}
	if user == nil {
		return nil, nil, refuse("has no user of the name that its current context gives")
	}
	return cluster, user, nil
}

func checkCluster(c *api.Cluster, o Options) error {
	server, err := url.Parse(c.Server)
	switch {
	case err != nil || server.Scheme != "https" || server.Host == "":
		return refuse("field clusters[].cluster.server is not an https URL")
	case server.User != nil || server.RawQuery != "" || server.Fragment != "":
		return refuse("field clusters[].cluster.server has more than scheme, host and path; remove user, query and fragment")
	case c.CertificateAuthority != "":
		return refuse("field clusters[].cluster.certificate-authority is a file path; use certificate-authority-data")
	case c.InsecureSkipTLSVerify && !o.AllowInsecureTLS:
		return refuse("field clusters[].cluster.insecure-skip-tls-verify is set; give certificate-authority-data instead")
	case c.InsecureSkipTLSVerify && len(c.CertificateAuthorityData) > 0:
		return refuse("has both insecure-skip-tls-verify and certificate-authority-data; remove the first")
	case c.ProxyURL != "" && !o.AllowProxy:
		return refuse("field clusters[].cluster.proxy-url is set; remove it, or allow proxies for the reconciler")
	case len(c.CertificateAuthorityData) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CertificateAuthorityData):
		return refuse("field clusters[].cluster.certificate-authority-data has no PEM certificate")
	}
	if c.ProxyURL == "" {
		return nil
	}
	if proxy, err := url.Parse(c.ProxyURL); err != nil || proxy.Host == "" || proxy.User != nil {
		return refuse("field clusters[].cluster.proxy-url is not a URL without user")
	}
	return nil
}

func checkUser(u *api.AuthInfo) error {
	hasCertificate := len(u.ClientCertificateData) > 0 || len(u.ClientKeyData) > 0
	switch {
	case u.Exec != nil:
		return refuse("field users[].user.exec runs a program; use a token of a service account")
	case u.AuthProvider != nil:
		return refuse("field users[].user.auth-provider is not supported; use a token of a service account")
	case u.TokenFile != "":
		return refuse("field users[].user.tokenFile is a file path; use token")
	case u.ClientCertificate != "":
		return refuse("field users[].user.client-certificate is a file path; use client-certificate-data")
	case u.ClientKey != "":
		return refuse("field users[].user.client-key is a file path; use client-key-data")
	case u.Username != "" || u.Password != "":
		return refuse("fields users[].user.username and password are not supported; use a token of a service account")
	case u.Impersonate != "" || u.ImpersonateUID != "" || len(u.ImpersonateGroups) > 0 || len(u.ImpersonateUserExtra) > 0:
		return refuse("fields users[].user.as… impersonate; use credentials of the account itself")
	case u.Token == "" && !hasCertificate:
		return refuse("has no credentials; give users[].user.token, or client-certificate-data with client-key-data")
	case strings.ContainsFunc(u.Token, notToken):
		return refuse("field users[].user.token has characters that no token has; remove blanks and line breaks")
	}
	if hasCertificate {
		if _, err := tls.X509KeyPair(u.ClientCertificateData, u.ClientKeyData); err != nil {
			return refuse("fields users[].user.client-certificate-data and client-key-data are not a matching PEM pair")
		}
	}
	return nil
}

// notToken keeps a token from becoming more than one header line.
func notToken(r rune) bool { return r <= ' ' || r >= 0x7f }

func userAgent(o Options) string { return cmp.Or(o.UserAgent, DefaultUserAgent) }

func rebuild(c *api.Cluster, u *api.AuthInfo, o Options) *rest.Config {
	config := &rest.Config{
		Host:        c.Server,
		BearerToken: u.Token,
		TLSClientConfig: rest.TLSClientConfig{
			Insecure:   c.InsecureSkipTLSVerify,
			ServerName: c.TLSServerName,
			CAData:     c.CertificateAuthorityData,
			CertData:   u.ClientCertificateData,
			KeyData:    u.ClientKeyData,
		},
		UserAgent: userAgent(o),
		// The server decides how much it takes (priority and fairness); we bound
		// what is in flight. A client-side rate would only add latency.
		QPS: -1,
	}
	if c.ProxyURL != "" {
		config.Proxy = proxy(c.ProxyURL)
	}
	config.Wrap(newBudget(o).wrap)
	return config
}
