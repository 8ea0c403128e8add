package member

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

const canary = "canary-value-of-a-kubeconfig"

// pair is a certificate and its key, both PEM.
func pair(t testing.TB) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

// kubeconfig writes one with a cluster and a user, which the test may change.
func kubeconfig(t testing.TB, change func(*api.Config, *api.Cluster, *api.AuthInfo)) []byte {
	t.Helper()
	certificate, _ := pair(t)
	cluster := &api.Cluster{Server: "https://member.example:6443", CertificateAuthorityData: certificate}
	user := &api.AuthInfo{Token: canary}
	config := &api.Config{
		CurrentContext: "m",
		Contexts:       map[string]*api.Context{"m": {Cluster: "c", AuthInfo: "u"}},
		Clusters:       map[string]*api.Cluster{"c": cluster},
		AuthInfos:      map[string]*api.AuthInfo{"u": user},
	}
	if change != nil {
		change(config, cluster, user)
	}
	raw, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestConfigRefuses(t *testing.T) {
	certificate, key := pair(t)
	_, otherKey := pair(t)
	for _, tt := range []struct {
		reason, field string
		change        func(*api.Config, *api.Cluster, *api.AuthInfo)
	}{
		{"a program would run", "exec", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.Exec = &api.ExecConfig{Command: canary, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: "Never"}
		}},
		{"a plugin would run", "auth-provider", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.AuthProvider = &api.AuthProviderConfig{Name: canary}
		}},
		{"a file of the hub would be read", "tokenFile", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.TokenFile = "/" + canary }},
		{"a file of the hub would be read", "client-certificate", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.ClientCertificate = "/" + canary }},
		{"a file of the hub would be read", "client-key", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.ClientKey = "/" + canary }},
		{"a file of the hub would be read", "certificate-authority ", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.CertificateAuthority = "/" + canary }},
		{"the server would not be verified", "insecure-skip-tls-verify", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
			c.InsecureSkipTLSVerify, c.CertificateAuthorityData = true, nil
		}},
		{"calls would go elsewhere", "proxy-url", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.ProxyURL = "http://" + canary }},
		{"we would act as somebody", "impersonate", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Impersonate = canary }},
		{"we would act in a group", "impersonate", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.Impersonate, u.ImpersonateGroups = "x", []string{canary}
		}},
		{"a password", "password", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Username, u.Password = "admin", canary }},
		{"no TLS", "server", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = "http://" + canary }},
		{"not a URL", "server", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = "https://%zz" + canary }},
		{"credentials in the URL", "server", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.Server = "https://u:" + canary + "@host" }},
		{"no credentials", "no credentials", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Token = "" }},
		{"a token that is two header lines", "token", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.Token = canary + "\r\nX-Remote-User: admin" }},
		{"a certificate without its key", "client-key-data", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) { u.ClientCertificateData = certificate }},
		{"another's key", "client-key-data", func(_ *api.Config, _ *api.Cluster, u *api.AuthInfo) {
			u.ClientCertificateData, u.ClientKeyData = certificate, otherKey
		}},
		{"a CA that is none", "certificate-authority-data", func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) { c.CertificateAuthorityData = []byte(canary) }},
		{"no such context", "current-context", func(c *api.Config, _ *api.Cluster, _ *api.AuthInfo) { c.CurrentContext = canary }},
		{"no such cluster", "cluster", func(c *api.Config, _ *api.Cluster, _ *api.AuthInfo) { delete(c.Clusters, "c") }},
		{"no such user", "user", func(c *api.Config, _ *api.Cluster, _ *api.AuthInfo) { delete(c.AuthInfos, "u") }},
	} {
		_, err := Config(kubeconfig(t, tt.change), Options{})
		if ReasonOf(err) != KubeconfigRefused {
			t.Errorf("%s: error %v", tt.reason, err)
			continue
		}
		if !strings.Contains(err.Error()+" ", tt.field) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %q has to name %q and no value", tt.reason, err, tt.field)
		}
	}
	_ = key
}

func TestConfigRefusesWhatIsNone(t *testing.T) {
	for _, raw := range [][]byte{
		nil, []byte("kind: Config\nusers: {" + canary), []byte("users: " + canary), []byte(`{"kind":"List"}`), bytes.Repeat([]byte(" "), MaxKubeconfig+1),
	} {
		_, err := Config(raw, Options{})
		if ReasonOf(err) != KubeconfigRefused || strings.Contains(err.Error(), canary) {
			t.Errorf("%.40q: error %v", raw, err)
		}
	}
	if _, err := Config(append(kubeconfig(t, nil), bytes.Repeat([]byte("\n"), MaxKubeconfig-2000)...), Options{}); err != nil {
		t.Errorf("just below the limit: %v", err)
	}
}

func TestConfigTakesOver(t *testing.T) {
	certificate, key := pair(t)
	config, err := Config(kubeconfig(t, func(c *api.Config, cluster *api.Cluster, u *api.AuthInfo) {
		c.CurrentContext = "" // the only one
		cluster.TLSServerName = "kubernetes"
		u.ClientCertificateData, u.ClientKeyData = certificate, key
	}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://member.example:6443" || config.BearerToken != canary || config.ServerName != "kubernetes" ||
		!bytes.Equal(config.CertData, certificate) || !bytes.Equal(config.KeyData, key) || len(config.CAData) == 0 {
		t.Errorf("taken over: %v", config)
	}
	if config.QPS >= 0 || config.UserAgent != DefaultUserAgent || config.Insecure {
		t.Errorf("ours: QPS %v, user agent %q, insecure %v", config.QPS, config.UserAgent, config.Insecure)
	}
}

func TestConfigAllows(t *testing.T) {
	allowed, err := Config(kubeconfig(t, func(_ *api.Config, c *api.Cluster, _ *api.AuthInfo) {
		c.InsecureSkipTLSVerify, c.CertificateAuthorityData, c.ProxyURL = true, nil, "http://proxy.example:3128"
	}), Options{AllowInsecureTLS: true, AllowProxy: true})
	if err != nil {
		t.Fatal(err)
	}
	through, err := allowed.Proxy(nil)
	if err != nil || through.Host != "proxy.example:3128" || !allowed.Insecure {
		t.Errorf("proxy %v (%v), insecure %v", through, err, allowed.Insecure)
	}
}

// harmless fails if a configuration could run a program, read a file or skip
// the verification of the server.
func harmless(t *testing.T, c *rest.Config) {
	server, err := url.Parse(c.Host)
	if err != nil || server.Scheme != "https" {
		t.Errorf("server %q, %v", c.Host, err)
	}
	if c.ExecProvider != nil || c.AuthProvider != nil || c.BearerTokenFile != "" || c.CAFile != "" || c.CertFile != "" ||
		c.KeyFile != "" || c.Insecure || c.Username != "" || c.Password != "" || c.Proxy != nil || c.Impersonate.UserName != "" {
		t.Errorf("dangerous: %v", c)
	}
}

func FuzzConfig(f *testing.F) {
	// Constant seeds: workers of the fuzzer make them anew.
	const good = `{apiVersion: v1, kind: Config, current-context: m,
contexts: [{name: m, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://member.example:6443", CLUSTER}}],
users: [{name: u, user: {USER}}]}`
	for _, with := range [][2]string{
		{"tls-server-name: x", "token: t"},
		{"certificate-authority: /etc/passwd", "token: t"},
		{"proxy-url: 'socks5://x'", "token: t"},
		{"insecure-skip-tls-verify: true", "token: t"},
		{"tls-server-name: x", "exec: {command: sh, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}"},
		{"tls-server-name: x", "tokenFile: /var/run/token, token: t"},
		{"tls-server-name: x", "auth-provider: {name: oidc}, token: t"},
		{"tls-server-name: x", "as: admin, token: t"},
	} {
		f.Add([]byte(strings.NewReplacer("CLUSTER", with[0], "USER", with[1]).Replace(good)))
	}
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("clusters: [{cluster: {server: 'https://h', Certificate-Authority: /x}}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		config, err := Config(raw, Options{})
		switch {
		case err == nil:
			harmless(t, config)
		case ReasonOf(err) != KubeconfigRefused:
			t.Errorf("error %v", err)
		}
	})
}
