package peering

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// Names in members.
const (
	// Account is what istiods read a member as; the base chart makes it.
	Account = "istio-reader-service-account"
	// SecretPrefix and a peer's name are the name of the Secret with its credential.
	SecretPrefix = "istio-remote-secret-"
	// LabelMultiCluster on such a Secret has istiod read it.
	LabelMultiCluster = "istio/multiCluster"
	// AnnotationCluster on it names the peer, for people.
	AnnotationCluster = "networking.istio.io/cluster"
	// AnchorPrefix and a reader's name begin the name of the Secret in the peer that
	// the reader's tokens are bound to.
	AnchorPrefix = "isthmus-peer-"
	// Component is the value of the component label of all of them.
	Component = "peers"
)

// Token is the secret of a credential. It shows in nothing that is printed or
// encoded, wherever it is held.
type Token struct{ read func() string }

// NewToken holds a token.
func NewToken(text string) Token { return Token{read: func() string { return text }} }

// Reveal returns the text of the token; empty for none.
func (t Token) Reveal() string {
	if t.read == nil {
		return ""
	}
	return t.read()
}

// String does not tell the token.
func (Token) String() string { return "[redacted]" }

// GoString does not either.
func (Token) GoString() string { return "[redacted]" }

// Equal compares two tokens.
func (t Token) Equal(other Token) bool { return t.Reveal() == other.Reveal() }

// Endpoint is where a peer's API server is for the istiods of others.
type Endpoint struct {
	// Server is its https URL.
	Server string
	// TLSServerName that its certificate has; empty for the host of the URL.
	TLSServerName string
	// CA is the PEM text that verifies it; empty for what the system trusts.
	CA []byte
}

// Equal compares two endpoints.
func (e Endpoint) Equal(other Endpoint) bool {
	return e.Server == other.Server && e.TLSServerName == other.TLSServerName && string(e.CA) == string(other.CA)
}

// Credential is what one member reads another with.
type Credential struct {
	// Peer that it reads.
	Peer string
	Endpoint
	// Token that istiod reads with, from a file.
	Token Token
	// First is the token in the kubeconfig: that with which the kubeconfig was made,
	// so that it does not change with the token. istiod reads with it until there is
	// the file.
	First Token
	// Claims of Token.
	Claims
}

// Claims are what a token says of itself.
type Claims struct {
	// Namespace and Account that it is of, and the uid of the account.
	Namespace, Account string
	AccountUID         types.UID
	// Anchor is the Secret that it is bound to, and its uid.
	Anchor    string
	AnchorUID types.UID
	// IssuedAt and ExpiresAt by the peer's clock, in whole seconds.
	IssuedAt, ExpiresAt time.Time
}

// Life is how long the token lives in all.
func (c Claims) Life() time.Duration { return c.ExpiresAt.Sub(c.IssuedAt) }

// claimsOf reads the claims of a token. Errors do not tell anything of it.
func claimsOf(t Token) (Claims, error) {
	parts := strings.Split(t.Reveal(), ".")
	if len(parts) != 3 {
		return Claims{}, errors.New("its token is not a JSON web token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Claims{}, errors.New("its token cannot be decoded")
	}
	type object struct {
		Name string    `json:"name"`
		UID  types.UID `json:"uid"`
	}
	var claims struct {
		Issued     int64 `json:"iat"`
		Expires    int64 `json:"exp"`
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Account   object `json:"serviceaccount"`
			Secret    object `json:"secret"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return Claims{}, errors.New("the claims of its token cannot be read")
	}
	if claims.Issued <= 0 || claims.Expires <= claims.Issued {
		return Claims{}, errors.New("its token does not say for how long it is")
	}
	k := claims.Kubernetes
	return Claims{
		Namespace: k.Namespace, Account: k.Account.Name, AccountUID: k.Account.UID, Anchor: k.Secret.Name, AnchorUID: k.Secret.UID,
		IssuedAt: time.Unix(claims.Issued, 0).UTC(), ExpiresAt: time.Unix(claims.Expires, 0).UTC(),
	}, nil
}

// kubeconfig is the part of that format which is written and read here, and istiod
// takes by default.
type kubeconfig struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Clusters   []clusterEntry `json:"clusters"`
	Contexts   []contextEntry `json:"contexts"`
	Current    string         `json:"current-context"`
	Users      []userEntry    `json:"users"`
}

type clusterEntry struct {
	Name    string `json:"name"`
	Cluster struct {
		CA            []byte `json:"certificate-authority-data,omitempty"`
		Server        string `json:"server"`
		TLSServerName string `json:"tls-server-name,omitempty"`
	} `json:"cluster"`
}

type contextEntry struct {
	Name    string `json:"name"`
	Context struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	} `json:"context"`
}

type userEntry struct {
	Name string `json:"name"`
	User struct {
		Token     string `json:"token"`
		TokenFile string `json:"tokenFile,omitempty"`
	} `json:"user"`
}

// Data of the Secret with the kubeconfig: that, by the peer's name, which istiod
// knows the peer by.
func (c Credential) Data() map[string][]byte {
	return map[string][]byte{c.Peer: c.kubeconfig(c.First, tokenFile(c.Peer))}
}

// Kubeconfig reads the peer with the token itself, for who has no such file.
func (c Credential) Kubeconfig() []byte { return c.kubeconfig(c.Token, "") }

// tokenFile is where istiod finds its token for a peer. Its working directory is the
// root, and where processes stand for pods it is what stands for the root.
func tokenFile(peer string) string {
	return strings.TrimPrefix(v1alpha1.PeerTokensPath, "/") + "/" + peer
}

func (c Credential) kubeconfig(token Token, file string) []byte {
	at, how, as := clusterEntry{Name: c.Peer}, contextEntry{Name: c.Peer}, userEntry{Name: c.Peer}
	at.Cluster.CA, at.Cluster.Server, at.Cluster.TLSServerName = c.CA, c.Server, c.TLSServerName
	how.Context.Cluster, how.Context.User = c.Peer, c.Peer
	as.User.Token, as.User.TokenFile = token.Reveal(), file
	raw, err := yaml.Marshal(kubeconfig{
		APIVersion: "v1", Kind: "Config", Current: c.Peer,
		Clusters: []clusterEntry{at}, Contexts: []contextEntry{how}, Users: []userEntry{as},
	})
	if err != nil {
		panic("strings and bytes are always JSON") // and nothing else is in there
	}
	return raw
}

// Secret is what istiod reads the kubeconfig from, in the reader's system namespace.
// The same credential gives the same bytes.
func (c Credential) Secret(namespace string) *unstructured.Unstructured {
	secret := secretWith(namespace, SecretPrefix+c.Peer, c.Data())
	secret.SetLabels(map[string]string{LabelMultiCluster: "true"})
	secret.SetAnnotations(map[string]string{AnnotationCluster: c.Peer})
	return secret
}

// Tokens is the Secret with the tokens of a reader's credentials, which its istiod
// has as files.
func Tokens(namespace string, all []Credential) *unstructured.Unstructured {
	data := map[string][]byte{}
	for _, c := range all {
		data[c.Peer] = []byte(c.Token.Reveal())
	}
	return secretWith(namespace, v1alpha1.PeerTokens, data)
}

func secretWith(namespace, name string, files map[string][]byte) *unstructured.Unstructured {
	data := map[string]any{}
	for file, content := range files {
		data[file] = base64.StdEncoding.EncodeToString(content)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]any{"name": name, "namespace": namespace},
		"type":       "Opaque",
		"data":       data,
	}}
}

// Digest of what the Secret of a peer holds, and of its token (SHA-256, hexadecimal),
// by which a credential is known again.
func Digest(data map[string][]byte, token []byte) string {
	sum := sha256.New()
	write := func(part []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		sum.Write(size[:])
		sum.Write(part)
	}
	write(token)
	for _, name := range slices.Sorted(maps.Keys(data)) {
		write([]byte(name))
		write(data[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Parse reads the credential of a peer back from what its Secret holds, and the
// token. What [Credential.Data] would not have written is an error, which does not
// tell what is there. Without a token that can be read, it is the first one.
func Parse(peer string, data map[string][]byte, token []byte) (Credential, error) {
	raw, ok := data[peer]
	if !ok || len(data) != 1 {
		return Credential{}, fmt.Errorf("it does not have the one key %q", peer)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(raw, &k); err != nil {
		return Credential{}, errors.New("its kubeconfig cannot be read")
	}
	if len(k.Clusters) != 1 || len(k.Users) != 1 {
		return Credential{}, errors.New("its kubeconfig does not have one cluster and one user")
	}
	at := k.Clusters[0].Cluster
	c := Credential{
		Peer:     peer,
		Endpoint: Endpoint{Server: at.Server, TLSServerName: at.TLSServerName, CA: at.CA},
		First:    NewToken(k.Users[0].User.Token), Token: NewToken(string(token)),
	}
	if string(c.Data()[peer]) != string(raw) {
		return Credential{}, errors.New("its kubeconfig is not as isthmus writes it")
	}
	first, err := claimsOf(c.First)
	if err != nil {
		return Credential{}, err
	}
	if c.Claims, err = claimsOf(c.Token); err != nil {
		c.Token, c.Claims = c.First, first
	}
	return c, nil
}
