package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/kubelet"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/port"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/process"
)

// ClusterOptions say what a cluster consists of.
type ClusterOptions struct {
	// APIServerOnly leaves out everything but the API server: no controllers, no
	// nodes, no pods. Enough for a hub, and for tests of apply.
	APIServerOnly bool
	// Nodes is how many nodes there are; 0 means 2.
	Nodes int
	// Istiod runs pods labelled app=istiod as processes, see [Cluster.Istiods].
	// Without it they are played like all others.
	Istiod bool
	// CSI plays the CSI drivers of inline volumes for the pods that are processes: it
	// returns a volume's files, when the pod starts and then once a minute. Nil: there
	// are no drivers.
	CSI func(ctx context.Context, namespace string, volume *corev1.CSIVolumeSource) (map[string][]byte, error)
	// AuditReads also writes reads to the audit log, but for those of the
	// cluster's own components.
	AuditReads bool
	// ShippedGC lets the components collect garbage as they do where they are in
	// earnest. Without it they do so twice as often: less memory for more computing.
	ShippedGC bool
}

// environment of the cluster's components.
func (o ClusterOptions) environment() []string {
	if o.ShippedGC {
		return nil
	}
	return []string{"GOGC=50"}
}

// A Cluster is one running Kubernetes control plane. Its fields are constant.
type Cluster struct {
	// KubeSystemUID is the UID of namespace kube-system, by which clusters are
	// told apart.
	KubeSystemUID string

	cp       *ControlPlane
	name     string
	options  ClusterOptions
	network  network
	dir      string
	port     *port.Port
	ca       *authority
	services *services
	proxy    *egressProxy
	runner   *kubelet.Runner // nil without istiods
	kubelet  *kubelet.Server // of the runner
	routes   sync.Map        // of addresses to func(int32) (string, bool); see Route

	kubeconfig []byte
	client     kubernetes.Interface // of the harness itself

	background sync.WaitGroup
	ctx        context.Context // ends with the cluster
	cancel     context.CancelFunc
	started    chan struct{} // closed when the start has succeeded or failed

	mu        sync.Mutex
	stopped   bool
	apiserver *process.Process // nil while it is stopped
	others    []*process.Process
}

// Cluster starts a cluster and returns when it is ready. The name is a DNS label
// and unique in the control plane. ctx bounds the start only.
func (cp *ControlPlane) Cluster(ctx context.Context, name string, options ClusterOptions) (*Cluster, error) {
	if options.Nodes == 0 {
		options.Nodes = 2
	}
	c := &Cluster{cp: cp, name: name, options: options, dir: filepath.Join(cp.dir, name), started: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := cp.add(c); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)() // Stop also ends a start
	err := c.start(ctx)
	close(c.started)
	if err != nil {
		err = fmt.Errorf("start cluster %q: %w", name, err)
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if c.options.APIServerOnly {
		return c.identify(ctx)
	}
	for name, args := range map[string][]string{
		"kube-controller-manager": controllerManagerArgs(c),
		"kube-scheduler":          schedulerArgs(c),
		"kwok":                    kwokArgs(c),
	} {
		if err := c.run(name, args); err != nil {
			return err
		}
	}
	c.background.Go(func() { c.services.run(c.ctx) })
	if c.runner != nil {
		c.background.Go(func() { c.runner.Run(c.ctx) })
	}
	if err := c.createNodes(ctx); err != nil {
		return err
	}
	if err := c.identify(ctx); err != nil {
		return err
	}
	return waitFor(ctx, fmt.Sprintf("nodes and the default ServiceAccount (logs in %s)", c.cp.logs), c.processError, c.ready)
}

// prepare writes every file that the processes read.
func (c *Cluster) prepare() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	var err error
	if c.port, err = port.Reserve(); err != nil {
		return err
	}
	if c.ca, err = newAuthority(c.name); err != nil {
		return err
	}
	serving, err := c.ca.serving("kube-apiserver", c.network.apiService())
	if err != nil {
		return err
	}
	accounts, err := c.ca.client("service-accounts") // only its key matters
	if err != nil {
		return err
	}
	files := map[string][]byte{
		c.file("ca.crt"):            c.ca.pem,
		c.file("apiserver.crt"):     serving.cert,
		c.file("apiserver.key"):     serving.key,
		c.file("sa.crt"):            accounts.cert,
		c.file("sa.key"):            accounts.key,
		c.file("audit-policy.yaml"): []byte(auditPolicy(c.options.AuditReads)),
	}
	// In system:masters, as with many installers: what is under test are the
	// rights of the mesh, not those of the harness.
	for _, user := range []string{"admin", "kube-controller-manager", "kube-scheduler", "kwok", "harness"} {
		config, err := c.userKubeconfig(user)
		if err != nil {
			return err
		}
		files[c.file(user+".kubeconfig")] = config
	}
	c.kubeconfig = files[c.file("admin.kubeconfig")]
	if c.client, err = clientOf(files[c.file("harness.kubeconfig")]); err != nil {
		return err
	}
	if !c.options.APIServerOnly {
		if c.options.Istiod {
			c.runner = c.newRunner()
			if err := c.serveKubelet(files); err != nil {
				return err
			}
		}
		socket := c.file("egress.sock")
		if c.services, err = newServices(c.client, c.network, c.localProcess); err != nil {
			return err
		}
		if c.proxy, err = startEgressProxy(socket, c.resolve); err != nil {
			return err
		}
		files[c.file("egress.yaml")] = []byte(egressConfig(socket))
		if files[c.file("stages.yaml")], err = adaptStages(c.cp.stages, c.options.Istiod); err != nil {
			return err
		}
	}
	return writeFiles(files)
}

func (c *Cluster) createNodes(ctx context.Context) error {
	for i, name := range c.nodeNames() {
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
			}},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{
					{Type: corev1.NodeInternalIP, Address: c.network.node(i)},
					{Type: corev1.NodeHostName, Address: name},
				},
				// Where the API server looks for it; see resolve.
				DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: kubelet.Port}},
			},
		}
		if _, err := c.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create node %q: %w", name, err)
		}
	}
	return nil
}

func (c *Cluster) nodeNames() []string {
	names := make([]string, c.options.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("%s-node-%d", c.name, i)
	}
	return names
}

// serveKubelet starts the one kubelet that all nodes share, and adds the
// certificate by which the API server shows itself to it. Nobody else gets in.
func (c *Cluster) serveKubelet(files map[string][]byte) error {
	serving, err := c.ca.kubelet(c.nodeNames())
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(serving.cert, serving.key)
	if err != nil {
		return fmt.Errorf("read the kubelet's certificate: %w", err)
	}
	const user = "kube-apiserver-kubelet-client"
	client, err := c.ca.client(user)
	if err != nil {
		return err
	}
	files[c.file("kubelet-client.crt")], files[c.file("kubelet-client.key")] = client.cert, client.key
	c.kubelet, err = kubelet.Serve(c.runner, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    c.ca.pool(),
		VerifyConnection: func(state tls.ConnectionState) error {
			if name := state.PeerCertificates[0].Subject.CommonName; name != user {
				return fmt.Errorf("%q is not the API server", name)
			}
			return nil
		},
	})
	return err
}

// resolve maps what the API server wants to reach to an address of this machine:
// a node's kubelet, or the cluster IP of a Service.
func (c *Cluster) resolve(host, port string) (string, error) {
	if c.kubelet != nil && port == strconv.Itoa(kubelet.Port) && slices.Contains(c.nodeNames(), host) {
		return c.kubelet.Address(), nil
	}
	return c.services.resolve(host, port)
}

// identify reads what tells this cluster from others. The namespace comes some
// moments after the API server is ready.
func (c *Cluster) identify(ctx context.Context) error {
	return waitFor(ctx, "namespace kube-system", nil, func(ctx context.Context) error {
		namespace, err := c.client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		if err == nil {
			c.KubeSystemUID = string(namespace.UID)
		}
		return err
	})
}

// ready is nil when pods can be created and scheduled.
func (c *Cluster) ready(ctx context.Context) error {
	if _, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return err
	}
	if _, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
		return err
	}
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if !nodeReady(node) {
			return fmt.Errorf("node %q is not ready", node.Name)
		}
	}
	return nil
}

func nodeReady(node corev1.Node) bool {
	if len(node.Spec.Taints) > 0 {
		return false // not-ready, until the node lifecycle controller has seen it
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// Name is the name given to [ControlPlane.Cluster].
func (c *Cluster) Name() string { return c.name }

// Kubeconfig returns the kubeconfig of an administrator: a client certificate in
// group system:masters, everything inline.
func (c *Cluster) Kubeconfig() []byte { return append([]byte(nil), c.kubeconfig...) }

// KubeconfigPath is a file with [Cluster.Kubeconfig], readable by its owner only,
// as long as the cluster runs.
func (c *Cluster) KubeconfigPath() string { return c.file("admin.kubeconfig") }

// RESTConfig returns the administrator's configuration, without client-side
// rate limit.
func (c *Cluster) RESTConfig() *rest.Config {
	config, err := restConfig(c.kubeconfig)
	if err != nil {
		panic(err) // we wrote it ourselves, and parsed its like when we started
	}
	config.QPS = -1
	return config
}

// Server is the URL of the API server; it does not change.
func (c *Cluster) Server() string { return secure(c.port) }

// StopAPIServer kills the API server, as a fault does: connections break and the
// port refuses new ones. The other processes go on. Fine when it is stopped.
func (c *Cluster) StopAPIServer() {
	c.mu.Lock()
	p := c.apiserver
	c.apiserver = nil
	c.mu.Unlock()
	if p != nil {
		p.Kill()
	}
}

// StartAPIServer starts the API server, on the same port and with the same data,
// and returns when it is ready. Fine when it runs.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return errStopped
	}
	if c.apiserver == nil {
		p, err := c.process("kube-apiserver", apiserverArgs(c, c.cp.etcdPort, c.cp.etcdCerts), c.options.environment()...)
		if err != nil {
			c.mu.Unlock()
			return err
		}
		c.apiserver = p
	}
	p := c.apiserver
	c.mu.Unlock()
	return waitFor(ctx, "the API server to be ready", p.Err, func(ctx context.Context) error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// Stop ends the cluster's processes and waits until they are gone. Its data stays
// in the shared etcd; its name cannot be used again. Stopping twice is fine.
func (c *Cluster) Stop() {
	c.shutdown()
	c.cp.remove(c)
}

func (c *Cluster) shutdown() {
	c.cancel()
	<-c.started
	c.mu.Lock()
	c.stopped = true
	processes := c.others
	if c.apiserver != nil {
		processes = append(processes, c.apiserver)
	}
	c.apiserver, c.others = nil, nil
	c.mu.Unlock()

	var all sync.WaitGroup
	for _, p := range processes {
		all.Go(p.Kill)
	}
	all.Wait()
	c.background.Wait()
	if c.proxy != nil {
		c.proxy.stop()
	}
	if c.kubelet != nil {
		c.kubelet.Close()
	}
	if c.port != nil {
		c.port.Release()
	}
}

// run starts a component that lives as long as the cluster.
func (c *Cluster) run(name string, args []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errStopped
	}
	p, err := c.process(name, args, c.options.environment()...)
	if err == nil {
		c.others = append(c.others, p)
	}
	return err
}

func (c *Cluster) process(name string, args []string, settings ...string) (*process.Process, error) {
	return process.Start(process.Spec{
		Name: name + " of " + c.name, Path: c.cp.binaries.Kube, Args: args,
		Env: environment(settings...), Dir: c.dir, Log: c.log(name),
	})
}

// processError is the end of a component that should run.
func (c *Cluster) processError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.others {
		errs = append(errs, p.Err())
	}
	return errors.Join(errs...)
}

// Pids returns the ids of the cluster's processes that run; etcd is not among
// them, because clusters share it.
func (c *Cluster) Pids() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pids []int
	for _, p := range append([]*process.Process{c.apiserver}, c.others...) {
		if p != nil && p.Err() == nil {
			pids = append(pids, p.Pid())
		}
	}
	for _, istiod := range c.Istiods() {
		pids = append(pids, istiod.PID)
	}
	return pids
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) log(component string) string {
	return filepath.Join(c.cp.logs, c.name+"-"+component+".log")
}

// ignoreGone is err, unless the object is gone: then there is nothing to do.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
