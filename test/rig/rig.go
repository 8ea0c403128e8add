package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
)

const (
	// Namespace of the fleet on the hub.
	Namespace = "isthmus-system"
	// FleetName is the name of the Fleet object.
	FleetName = "fleet"
	// GatewayAPI is the version of the Gateway API that members have, unless
	// Options names another.
	GatewayAPI = "v1.5.1"
)

// startAtOnce bounds the clusters that start at one time: each of many at once
// would take longer than a start is waited for.
const startAtOnce = 6

// Options of a rig.
type Options struct {
	// Members to start, by name.
	Members []string
	// Pull is the member that is its own hub, and follows the fleet for itself
	// alone; empty for a hub beside the members.
	Pull string
	// Istiods are the releases whose real istiod members run; empty means that
	// istiod's pods are played like all others.
	Istiods []string
	// GatewayAPI is the version of the Gateway API of members, by name.
	GatewayAPI map[string]string
	// Cluster says what a member consists of; its Istiod follows from Istiods, and
	// the hub has its AuditReads.
	Cluster controlplane.ClusterOptions
	// LogDir keeps logs after the rig is gone; empty means that they go with it.
	LogDir string
	// Progress is told of builds, which can take minutes; nil for nobody.
	Progress io.Writer
}

// Rig is a hub, members and a repository.
type Rig struct {
	Hub *controlplane.Cluster
	// HubClient is an administrator's client of the hub.
	HubClient client.WithWatch
	Members   map[string]*controlplane.Cluster
	// Repository of the fleet.
	Repository *Repository
	// Dir holds the vault, the cache and the repository.
	Dir string

	controlPlane *controlplane.ControlPlane
	cluster      controlplane.ClusterOptions
	gatewayAPI   map[string]string
	pull         string
}

// Start starts everything but a reconciler. Stop must be called, also when ctx
// ends.
func Start(ctx context.Context, o Options) (*Rig, error) {
	controlPlane, err := controlplane.Start(ctx, controlplane.Options{
		LogDir: o.LogDir, IstiodReleases: o.Istiods, Progress: o.Progress,
	})
	if err != nil {
		return nil, err
	}
	r := &Rig{
		controlPlane: controlPlane, Members: map[string]*controlplane.Cluster{},
		cluster: o.Cluster, gatewayAPI: o.GatewayAPI, pull: o.Pull,
	}
	r.cluster.Istiod = len(o.Istiods) > 0
	if err := r.start(ctx, o.Members); err != nil {
		r.Stop()
		return nil, err
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context, members []string) error {
	var err error
	if r.Dir, err = os.MkdirTemp("", "isthmus-rig-"); err != nil {
		return err
	}
	if r.Repository, err = NewRepository(ctx, r.Dir); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(startAtOnce)
	group.Go(func() (err error) {
		if r.pull == "" {
			r.Hub, err = r.controlPlane.Cluster(ctx, "hub", controlplane.ClusterOptions{APIServerOnly: true, AuditReads: r.cluster.AuditReads, ShippedGC: r.cluster.ShippedGC})
		}
		return err
	})
	clusters := make([]*controlplane.Cluster, len(members))
	for i, name := range members {
		group.Go(func() (err error) {
			clusters[i], err = r.startMember(ctx, name)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range members {
		r.Members[name] = clusters[i]
	}
	if r.pull != "" {
		r.Hub = r.Members[r.pull]
	}
	r.HubClient, err = newClient(r.Hub)
	if err != nil {
		return err
	}
	return r.prepareHub(ctx)
}

// AddMember starts one more member cluster, with its credentials on the hub.
func (r *Rig) AddMember(ctx context.Context, name string) (*controlplane.Cluster, error) {
	cluster, err := r.startMember(ctx, name)
	if err != nil {
		return nil, err
	}
	r.Members[name] = cluster
	return cluster, r.SetKubeconfig(ctx, name, cluster.Kubeconfig())
}

func (r *Rig) startMember(ctx context.Context, name string) (*controlplane.Cluster, error) {
	cluster, err := r.controlPlane.Cluster(ctx, name, r.cluster)
	if err != nil {
		return nil, err
	}
	// The Gateway API is the member's own: isthmus asks for it, as AppNet does.
	return cluster, cluster.InstallGatewayAPI(ctx, cmp.Or(r.gatewayAPI[name], GatewayAPI))
}

// prepareHub installs isthmus as docs/reconciler.md says, but for a process: the
// hub has no nodes. The reconciler then works with the rights of deploy alone.
func (r *Rig) prepareHub(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, r.Kubectl(), "--kubeconfig", r.Hub.KubeconfigPath(),
		"apply", "--server-side", "-k", filepath.Join(Root(), "deploy"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install isthmus on the hub: %w: %s", err, out)
	}
	if err := r.logIn(ctx); err != nil {
		return fmt.Errorf("log in as the reconciler: %w", err)
	}
	for name, cluster := range r.Members {
		if err := r.SetKubeconfig(ctx, name, cluster.Kubeconfig()); err != nil {
			return err
		}
	}
	return nil
}

// logIn makes a kubeconfig for the ServiceAccount that deploy gives its rights.
func (r *Rig) logIn(ctx context.Context) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "isthmus"}}
	token := &authenticationv1.TokenRequest{}
	if err := r.HubClient.SubResource("token").Create(ctx, account, token); err != nil {
		return err
	}
	config, err := clientcmd.Load(r.Hub.Kubeconfig())
	if err != nil {
		return err
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	return clientcmd.WriteToFile(*config, r.Kubeconfig())
}

// Kubeconfig is the path of a kubeconfig of the hub with the reconciler's rights.
func (r *Rig) Kubeconfig() string { return filepath.Join(r.Dir, "isthmus.kubeconfig") }

// RESTConfig is the same as a client configuration.
func (r *Rig) RESTConfig() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", r.Kubeconfig())
}

// SetKubeconfig puts a member's credentials on the hub.
func (r *Rig) SetKubeconfig(ctx context.Context, name string, kubeconfig []byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name},
		Data:       map[string][]byte{"value": kubeconfig},
	}
	err := r.HubClient.Create(ctx, secret)
	if err == nil {
		return nil
	}
	return r.HubClient.Update(ctx, secret)
}

// Follow makes the Fleet object that points at the repository.
func (r *Rig) Follow(ctx context.Context, interval time.Duration) error {
	f := &v1alpha1.Fleet{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: FleetName},
		Spec:       v1alpha1.FleetSpec{URL: r.Repository.URL(), Branch: "main", Interval: metav1.Duration{Duration: interval}, Member: r.pull},
	}
	// CRDs need a moment before they are served.
	return Eventually(ctx, 10*time.Second, func() error { return r.HubClient.Create(ctx, f) })
}

// Vault and Cache are the reconciler's folders.
func (r *Rig) Vault() string { return filepath.Join(r.Dir, "vault") }

// Cache is the reconciler's folder for copies of repositories.
func (r *Rig) Cache() string { return filepath.Join(r.Dir, "cache") }

// Logs is the folder with the logs of all processes.
func (r *Rig) Logs() string { return r.controlPlane.LogDir() }

// Kubectl is the path of a kubectl for the clusters.
func (r *Rig) Kubectl() string { return r.controlPlane.Binaries().Kubectl }

// Stop ends every process and removes what was written.
func (r *Rig) Stop() {
	r.controlPlane.Stop()
	if r.Dir != "" {
		_ = os.RemoveAll(r.Dir)
	}
}

// Root is the folder of the main module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func newClient(c *controlplane.Cluster) (client.WithWatch, error) {
	scheme := kruntime.NewScheme()
	for _, add := range []func(*kruntime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return client.NewWithWatch(c.RESTConfig(), client.Options{Scheme: scheme})
}

// ClientOf returns an administrator's client of a member.
func (r *Rig) ClientOf(name string) (client.WithWatch, error) { return newClient(r.Members[name]) }

// Eventually calls try until it returns nil, and returns its last error when
// that takes longer than the timeout.
func Eventually(ctx context.Context, timeout time.Duration, try func() error) error {
	deadline := time.Now().Add(timeout)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not so after %s: %w", timeout, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
