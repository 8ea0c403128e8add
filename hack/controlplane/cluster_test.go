package controlplane_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
)

// TestClusters starts a hub and two members once; the subtests use them.
func TestClusters(t *testing.T) {
	cp := controlplanetest.Start(t, controlplane.Options{})
	hub := controlplanetest.Cluster(t, cp, "hub", controlplane.ClusterOptions{APIServerOnly: true, AuditReads: true})
	begin := time.Now()
	one := controlplanetest.Cluster(t, cp, "one", controlplane.ClusterOptions{Nodes: 3})
	t.Logf("one member started in %s", time.Since(begin))
	two := controlplanetest.Cluster(t, cp, "two", controlplane.ClusterOptions{})

	t.Run("clusters are told apart", func(t *testing.T) {
		uids := map[string]bool{hub.KubeSystemUID: true, one.KubeSystemUID: true, two.KubeSystemUID: true}
		if len(uids) != 3 || uids[""] {
			t.Errorf("UIDs of kube-system: %v", uids)
		}
		if _, err := cp.Cluster(t.Context(), "one", controlplane.ClusterOptions{}); err == nil {
			t.Error("a second cluster got the same name")
		}
		if _, err := cp.Cluster(t.Context(), "../one", controlplane.ClusterOptions{}); err == nil {
			t.Error("a name that is a path was accepted")
		}
	})
	t.Run("the version can be read", func(t *testing.T) { testVersion(t, hub) })
	t.Run("nodes are ready", func(t *testing.T) { testNodes(t, one, 3) })
	t.Run("TLS is verified", func(t *testing.T) { testTLS(t, one, two) })
	t.Run("tokens are real and RBAC is on", func(t *testing.T) { testTokens(t, one) })
	t.Run("load balancers get addresses", func(t *testing.T) { testLoadBalancers(t, one) })
	t.Run("pods run", func(t *testing.T) { testPods(t, one) })
	t.Run("writes are counted", func(t *testing.T) { testWrites(t, hub) })
	t.Run("reads are counted", func(t *testing.T) { testReads(t, hub) })
	t.Run("an API server stops and comes back", func(t *testing.T) { testAPIServerFault(t, two) })
	t.Run("the Gateway API is installed", func(t *testing.T) { testGatewayAPI(t, hub) })
}

func testVersion(t *testing.T, c *controlplane.Cluster) {
	told, err := clientFor(t, c.RESTConfig()).Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := version.ParseSemantic(told.GitVersion)
	if err != nil || parsed.Major() == 0 || told.Minor == "" {
		t.Errorf("the API server tells the version %+v: %v", told, err)
	}
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// eventually fails the test if check still returns an error after 20 seconds.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func testNodes(t *testing.T, c *controlplane.Cluster, want int) {
	nodes, err := clientFor(t, c.RESTConfig()).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != want {
		t.Fatalf("%d nodes, want %d; error %v", len(nodes.Items), want, err)
	}
	for _, node := range nodes.Items {
		ready := slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
			return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		})
		if !ready || len(node.Spec.Taints) > 0 {
			t.Errorf("node %s: ready %v, taints %v", node.Name, ready, node.Spec.Taints)
		}
	}
}

func testTLS(t *testing.T, c, other *controlplane.Cluster) {
	version := func(config *rest.Config) error {
		_, err := clientFor(t, config).Discovery().ServerVersion()
		return err
	}
	if c.RESTConfig().Insecure {
		t.Error("the kubeconfig turns verification off")
	}
	if err := version(c.RESTConfig()); err != nil {
		t.Errorf("with its own authority: %v", err)
	}
	foreign := c.RESTConfig()
	foreign.CAData = other.RESTConfig().CAData
	if err := version(foreign); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another cluster's authority vouched for the server: %v", err)
	}
	stranger := c.RESTConfig()
	stranger.CertData, stranger.KeyData = other.RESTConfig().CertData, other.RESTConfig().KeyData
	if err := version(stranger); err == nil {
		t.Error("another cluster's administrator was let in")
	}
}

func testTokens(t *testing.T, c *controlplane.Cluster) {
	ctx, admin := t.Context(), clientFor(t, c.RESTConfig())
	request := &authenticationv1.TokenRequest{}
	answer, err := admin.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(c.RESTConfig())
	config.BearerToken = answer.Status.Token
	account := clientFor(t, config)
	who, err := account.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "system:serviceaccount:default:default" {
		t.Errorf("the token is that of %q, error %v", who.Status.UserInfo.Username, err)
	}
	if _, err := account.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a ServiceAccount without rights reads Secrets: %v", err)
	}
	config.BearerToken += "x"
	if _, err := clientFor(t, config).Discovery().ServerGroups(); !apierrors.IsUnauthorized(err) {
		t.Errorf("a forged token: %v", err)
	}
}

func testLoadBalancers(t *testing.T, c *controlplane.Cluster) {
	ctx, services := t.Context(), clientFor(t, c.RESTConfig()).CoreV1().Services("default")
	addresses := map[string]bool{}
	for _, name := range []string{"a", "b"} {
		spec := corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 15008}}}
		if _, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			service, err := services.Get(ctx, name, metav1.GetOptions{})
			if err == nil && len(service.Status.LoadBalancer.Ingress) != 1 {
				return context.DeadlineExceeded
			}
			if err == nil {
				addresses[service.Status.LoadBalancer.Ingress[0].IP] = true
			}
			return err
		})
	}
	if len(addresses) != 2 || addresses[""] {
		t.Errorf("addresses of two Services: %v", addresses)
	}
}

func testPods(t *testing.T, c *controlplane.Cluster) {
	ctx, pods := t.Context(), clientFor(t, c.RESTConfig()).CoreV1().Pods("default")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{"app": "istiod"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.com/c:1"}}},
	}
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		got, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err == nil && (got.Status.Phase != corev1.PodRunning || got.Status.PodIP == "") {
			return context.DeadlineExceeded
		}
		return err
	})
}

func testWrites(t *testing.T, c *controlplane.Cluster) {
	ctx, maps := t.Context(), clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default")
	begin := time.Now()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "counted"}}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "counted", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	writes, err := c.Writes(func(w controlplane.Write) bool {
		return w.User == "admin" && w.Resource == "configmaps" && w.Time.After(begin) && !w.DryRun
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(writes) != 1 || writes[0].Verb != "create" || writes[0].Namespace != "default" || writes[0].Code != http.StatusCreated {
		t.Errorf("one write was made, the log has %+v", writes)
	}
}

// A watch is in the log twice, when it begins and when it ends.
func testReads(t *testing.T, c *controlplane.Cluster) {
	ctx, maps := t.Context(), clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default")
	begin := time.Now()
	if _, err := maps.List(ctx, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	second := int64(1)
	events, err := maps.Watch(ctx, metav1.ListOptions{TimeoutSeconds: &second})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	for range events.ResultChan() {
	}
	reads, err := c.Requests(func(r controlplane.Request) bool { return r.User == "admin" && r.Time.After(begin) })
	if err != nil {
		t.Fatal(err)
	}
	if len(reads) != 2 || reads[0].Verb != "list" || reads[1].Verb != "watch" || reads[1].Resource != "configmaps" {
		t.Errorf("a list and a watch were made, the log has %+v", reads)
	}
}

func testAPIServerFault(t *testing.T, c *controlplane.Cluster) {
	ctx, client := t.Context(), clientFor(t, c.RESTConfig())
	c.StopAPIServer()
	if _, err := client.Discovery().ServerVersion(); err == nil {
		t.Error("a stopped API server answered")
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	namespace, err := client.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil || string(namespace.UID) != c.KubeSystemUID {
		t.Errorf("after a restart: UID %q, was %q; error %v", namespace.UID, c.KubeSystemUID, err)
	}
	testLoadBalancers(t, c) // the controllers of the harness have come back, too
}

func testGatewayAPI(t *testing.T, c *controlplane.Cluster) {
	for range 2 { // the second time changes nothing
		if err := c.InstallGatewayAPI(t.Context(), "v1.5.1"); err != nil {
			t.Fatal(err)
		}
	}
	resources, err := clientFor(t, c.RESTConfig()).Discovery().ServerResourcesForGroupVersion("gateway.networking.k8s.io/v1")
	if err != nil || !slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Kind == "Gateway" }) {
		t.Errorf("no Gateways are served, error %v", err)
	}
}

// The shared etcd holds the Secrets of all clusters.
func TestEtcdWantsACertificate(t *testing.T) {
	cp := controlplanetest.Start(t, controlplane.Options{})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // nobody's client
	if response, err := client.Get(cp.EtcdURL() + "/health"); err == nil {
		response.Body.Close()
		t.Errorf("etcd answered %s to a client without certificate", response.Status)
	}
}

func TestStopWhileStarting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	cp, err := controlplane.Start(ctx, controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var starting sync.WaitGroup
	starting.Go(func() {
		if _, err := cp.Cluster(context.Background(), "late", controlplane.ClusterOptions{}); err == nil {
			t.Error("a cluster outlived its control plane")
		}
	})
	eventually(t, func() error {
		if len(cp.Pids()) < 2 {
			return context.DeadlineExceeded
		}
		return nil
	})
	pids := cp.Pids()
	cancel()
	starting.Wait()
	cp.Stop()
	expectGone(t, pids)
	if _, err := cp.Cluster(context.Background(), "after", controlplane.ClusterOptions{}); err == nil {
		t.Error("a stopped control plane started a cluster")
	}
}
