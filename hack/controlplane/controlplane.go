package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/port"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/process"
)

// Options say how to start a [ControlPlane].
type Options struct {
	// LogDir is where the logs of all processes go; it is made if it is missing
	// and kept. Empty: a folder logs in the state folder, gone after Stop.
	LogDir string
	// IstiodReleases are built before Start returns, for clusters that run istiod.
	// Empty: such clusters report an image without a binary on the pod.
	IstiodReleases []string
	// Progress hears of builds; nil for nobody.
	Progress io.Writer
}

// A ControlPlane is a set of clusters and the etcd that they share.
type ControlPlane struct {
	binaries Binaries
	istiods  map[string]string // release → path
	stages   []byte            // of kwok, as it prints them
	dir      string
	unlock   func() // gives the claim on dir back
	logs     string

	etcd      *process.Process
	etcdPort  *port.Port
	etcdCerts etcdCerts
	cancelCtx func() bool

	mu       sync.Mutex
	stopped  bool
	names    []string // of all clusters there have been; their number decides addresses
	clusters []*Cluster

	stopOnce sync.Once
}

// maxClusters is what the address ranges of [network] have room for.
const maxClusters = 100

var clusterName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

var errStopped = errors.New("the control plane is stopped")

// Start builds what is missing and starts the shared etcd. The control plane
// lives until [ControlPlane.Stop] or until ctx ends, whatever comes first.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	binaries, err := Build(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	istiods := map[string]string{}
	for _, release := range options.IstiodReleases {
		if istiods[release], err = Istiod(ctx, release, options.Progress); err != nil {
			return nil, err
		}
	}
	stages, err := printStages(ctx, binaries)
	if err != nil {
		return nil, err
	}
	sweepStates()
	dir, unlock, err := newState()
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{
		binaries: binaries, istiods: istiods, stages: stages,
		dir: dir, unlock: unlock, logs: options.LogDir,
	}
	if cp.logs == "" {
		cp.logs = filepath.Join(dir, "logs")
	}
	if err := cp.start(ctx); err != nil {
		cp.Stop()
		return nil, err
	}
	stop := context.AfterFunc(ctx, cp.Stop)
	cp.cancelCtx = stop
	return cp, nil
}

func (cp *ControlPlane) start(ctx context.Context) error {
	if err := os.MkdirAll(cp.logs, 0o755); err != nil {
		return fmt.Errorf("make log folder: %w", err)
	}
	var err error
	if cp.etcdPort, err = port.Reserve(); err != nil {
		return err
	}
	if cp.etcdCerts, err = newEtcdCerts(cp.dir); err != nil {
		return err
	}
	peer, err := port.Reserve()
	if err != nil {
		return err
	}
	defer peer.Release() // etcd holds the port itself once it is ready
	cp.etcd, err = process.Start(process.Spec{
		Name: "etcd", Path: cp.binaries.Kube, Log: filepath.Join(cp.logs, "etcd.log"),
		Args: etcdArgs(filepath.Join(cp.dir, "etcd"), cp.etcdPort, peer, cp.etcdCerts),
		Env:  environment("GOGC=50"),
	})
	if err != nil {
		return err
	}
	client, err := cp.etcdCerts.httpClient()
	if err != nil {
		return err
	}
	return waitFor(ctx, "etcd to be ready", cp.etcd.Err, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, secure(cp.etcdPort)+"/health", nil)
		if err != nil {
			return err
		}
		return expectOK(client.Do(request))
	})
}

// Binaries returns the programs that the clusters run.
func (cp *ControlPlane) Binaries() Binaries { return cp.binaries }

// LogDir is the folder with one log per process: <cluster>-<component>.log.
func (cp *ControlPlane) LogDir() string { return cp.logs }

// Clusters returns the clusters that were started and not stopped, in order of
// their start.
func (cp *ControlPlane) Clusters() []*Cluster {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return slices.Clone(cp.clusters)
}

// Pids returns the ids of all processes that run, for tests of the cleaning up.
func (cp *ControlPlane) Pids() []int {
	var pids []int
	if cp.etcd != nil && cp.etcd.Err() == nil {
		pids = append(pids, cp.etcd.Pid())
	}
	for _, c := range cp.Clusters() {
		pids = append(pids, c.Pids()...)
	}
	return pids
}

// Stop ends all processes and waits until they are gone, then removes the state.
// Stopping twice is fine; every call waits.
func (cp *ControlPlane) Stop() { cp.stopOnce.Do(cp.shutdown) }

func (cp *ControlPlane) shutdown() {
	cp.mu.Lock()
	clusters := cp.clusters
	cp.stopped, cp.clusters = true, nil
	cp.mu.Unlock()

	var all sync.WaitGroup
	for _, c := range clusters {
		all.Go(c.shutdown)
	}
	all.Wait()
	if cp.etcd != nil {
		cp.etcd.Kill()
	}
	if cp.etcdPort != nil {
		cp.etcdPort.Release()
	}
	if cp.cancelCtx != nil {
		cp.cancelCtx()
	}
	_ = os.RemoveAll(cp.dir) // what stays does no harm, and the next start removes it
	cp.unlock()
}

// add registers a cluster, so that Stop finds it even while it starts.
func (cp *ControlPlane) add(c *Cluster) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.stopped {
		return errStopped
	}
	if !clusterName.MatchString(c.name) {
		return fmt.Errorf("cluster name %q is not a DNS label", c.name)
	}
	if slices.Contains(cp.names, c.name) {
		return fmt.Errorf("cluster %q exists, or has existed", c.name)
	}
	if len(cp.names) == maxClusters {
		return fmt.Errorf("cluster %q: no addresses left after %d clusters", c.name, maxClusters)
	}
	c.network = networkOf(len(cp.names))
	cp.names = append(cp.names, c.name)
	cp.clusters = append(cp.clusters, c)
	return nil
}

func (cp *ControlPlane) remove(c *Cluster) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	cp.clusters = slices.DeleteFunc(cp.clusters, func(other *Cluster) bool { return other == c })
}

// etcdCerts are the files that etcd and the API servers prove themselves with.
type etcdCerts struct{ ca, cert, key string }

func newEtcdCerts(dir string) (etcdCerts, error) {
	ca, err := newAuthority("etcd")
	if err != nil {
		return etcdCerts{}, err
	}
	pair, err := ca.serving("etcd")
	if err != nil {
		return etcdCerts{}, err
	}
	certs := etcdCerts{
		ca: filepath.Join(dir, "etcd-ca.crt"), cert: filepath.Join(dir, "etcd.crt"), key: filepath.Join(dir, "etcd.key"),
	}
	return certs, writeFiles(map[string][]byte{certs.ca: ca.pem, certs.cert: pair.cert, certs.key: pair.key})
}

func (c etcdCerts) httpClient() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("load etcd certificate: %w", err)
	}
	ca, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, fmt.Errorf("load etcd authority: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots},
		DisableKeepAlives: true,
	}}, nil
}

// environment is all that a component sees of ours: nothing but the settings.
func environment(settings ...string) []string {
	return append([]string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TMPDIR=" + os.TempDir()}, settings...)
}

func expectOK(response *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

// patience is how long one step of a start may take; it is for the worst of
// machines, a healthy one needs a tenth.
const patience = 2 * time.Minute

// waitFor asks ready every 50 ms until it returns nil. It gives up when ctx or
// patience ends, or when ended, which may be nil, returns an error.
func waitFor(ctx context.Context, what string, ended func() error, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if ended != nil {
			if err := ended(); err != nil {
				return fmt.Errorf("wait for %s: %w", what, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last answer: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
