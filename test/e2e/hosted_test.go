package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/fleet"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/apply"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/trust"
	"github.com/isthmus-mesh/isthmus/renderer"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

const (
	hosting     = "applink-system-" + west
	hostedAt    = "172.31.200.1"
	hostedFleet = `apiVersion: isthmus.dev/v1alpha1
kind: ApplicationNetwork
metadata: {name: prod}
spec: {upgrade: {version: 1.31.0}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: ` + east + `}
spec: {applicationNetwork: prod, cluster: {type: Kubernetes, kubeconfigRef: {name: east}}}
---
apiVersion: isthmus.dev/v1alpha1
kind: Member
metadata: {name: ` + west + `}
spec:
  applicationNetwork: prod
  cluster: {type: Kubernetes, kubeconfigRef: {name: west}}
  controlPlane: {placement: Hosted, host: ` + east + `, address: ` + hostedAt + `}
`
)

// TestHosted proves what is rendered for a control plane in another member with
// the real istiod: it runs in the host, its cluster is the member, and it makes
// the member's gateway and judges the member's objects. The Secrets that it waits
// for are made by the test, since the reconciler does not make them yet.
func TestHosted(t *testing.T) {
	t.Parallel()
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{
		Members: []string{east, west}, Istiods: []string{"1.31.0"}, LogDir: logDir(t), Progress: os.Stderr,
	})
	check(t, err)
	t.Cleanup(r.Stop)
	sets := hostedSets(t)
	guest, err := r.ClientOf(west)
	check(t, err)

	r.Members[west].Route(hostedAt, func(port int32) (string, bool) {
		for _, istiod := range r.Members[east].Istiods() {
			if istiod.Namespace == hosting {
				return istiod.Address(port)
			}
		}
		return "", false
	})

	// The member's part fails at its policy until its istiod answers, and is tried
	// again; istiod waits for a token of the account in the member's part.
	delivered := make(chan error, 1)
	go func() {
		delivered <- rig.Eventually(t.Context(), 2*time.Minute, func() error { return deliver(t.Context(), r.Members[west], sets[west]) })
	}()
	host := sets[east]
	host.Secrets = append(host.Secrets, kubeconfigOf(t, guest, r.Members[west]))
	go func() { delivered <- deliver(t.Context(), r.Members[east], host) }()

	check(t, <-delivered)
	check(t, <-delivered)

	_, err = r.Members[east].WaitIstiod(t.Context(), hosting, "1.31.0")
	check(t, err)
	checkGateway(t, guest, system, "istio-eastwestgateway")
	checkWebhook(t, guest, "default")
	var own corev1.ConfigMap
	check(t, rig.Eventually(t.Context(), 30*time.Second, func() error {
		return guest.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "istio-ca-root-cert"}, &own)
	}))
	if n := len(r.Members[west].Istiods()); n > 0 {
		t.Errorf("%d istiods run in the member itself", n)
	}
}

// hostedSets are the sets of both members, their CAs included.
func hostedSets(t *testing.T) map[string]apply.Set {
	t.Helper()
	loaded, problems := fleet.Load(fstest.MapFS{"fleet.yaml": {Data: []byte(hostedFleet)}})
	if loaded == nil {
		t.Fatal(problems)
	}
	result, err := renderer.Render(loaded, catalog.Builtin())
	check(t, err)
	vault, err := trust.OpenDirectory(filepath.Join(t.TempDir(), "vault"))
	check(t, err)
	authority := trust.NewAuthority(vault, time.Now)
	sets := map[string]apply.Set{}
	for _, b := range result.Bundles {
		set := apply.Set{
			Mesh:    apply.Mesh{Network: b.Network, SystemNamespace: b.SystemNamespace},
			Release: b.Release, Digest: b.Digest, Objects: b.Objects,
		}
		if b.Member == east {
			set.Secrets = append(set.Secrets, caOf(t, authority, east, system), caOf(t, authority, west, hosting))
		}
		sets[b.Member] = set
	}
	return sets
}

func caOf(t *testing.T, authority *trust.Authority, of, namespace string) *unstructured.Unstructured {
	t.Helper()
	chain, err := authority.Issue(t.Context(), trust.Request{
		Member: of,
		Policy: trust.Policy{
			Network:      "prod",
			Root:         trust.Lifetime{Validity: 8760 * time.Hour, RotateAt: 0.5},
			Intermediate: trust.Lifetime{Validity: 2160 * time.Hour, RotateAt: 0.5},
			Leaf:         trust.Lifetime{Validity: 24 * time.Hour, RotateAt: 0.5},
		},
	})
	check(t, err)
	secret, err := chain.Secret(namespace)
	check(t, err)
	secret.SetLabels(map[string]string{apply.LabelNetwork: "prod", apply.LabelComponent: "trust"})
	return secret
}

func deliver(ctx context.Context, cluster *controlplane.Cluster, set apply.Set) error {
	config, err := member.Config(cluster.Kubeconfig(), member.Options{})
	if err != nil {
		return err
	}
	reached, err := member.Connect(config)
	if err != nil {
		return err
	}
	defer reached.Close()
	_, err = apply.Apply(ctx, apply.NewTarget(reached), set, apply.Options{})
	if err != nil {
		return fmt.Errorf("deliver to %s: %w", cluster.Name(), err)
	}
	return nil
}

// kubeconfigOf is istiod's access to the member: a token of the account that the
// member's part has for it.
func kubeconfigOf(t *testing.T, guest client.Client, cluster *controlplane.Cluster) *unstructured.Unstructured {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "istiod"}}
	token := &authenticationv1.TokenRequest{}
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		return guest.SubResource("token").Create(t.Context(), account, token)
	}))
	admin, err := clientcmd.Load(cluster.Kubeconfig())
	check(t, err)
	server := admin.Clusters[admin.Contexts[admin.CurrentContext].Cluster]
	config, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{west: {Server: server.Server, CertificateAuthorityData: server.CertificateAuthorityData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{west: {Token: token.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{west: {Cluster: west, AuthInfo: west}},
		CurrentContext: west,
	})
	check(t, err)
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata": map[string]any{
			"name": "istio-kubeconfig", "namespace": hosting,
			"labels": map[string]any{apply.LabelNetwork: "prod", apply.LabelComponent: "trust"},
		},
		"stringData": map[string]any{"config": string(config)},
	}}
}
