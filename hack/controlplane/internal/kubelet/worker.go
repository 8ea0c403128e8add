package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/port"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/process"
)

// A worker runs one pod, from its scheduling to its deletion.
type worker struct {
	config  Config
	pod     *corev1.Pod // as scheduled; its addresses are filled in
	layout  layout
	changed chan struct{} // a ConfigMap or Secret has
	gone    chan struct{} // closed when the pod is deleted
	retire  func()
	tokens  *tokens
	status  reporter

	mu        sync.Mutex
	process   *process.Process // nil while there is none
	addresses map[int32]string // by container port
	ready     bool
}

func newWorker(config Config, pod *corev1.Pod) *worker {
	pod = pod.DeepCopy()
	pod.Status.PodIP = config.PodIP()
	gone := make(chan struct{})
	return &worker{
		config: config, pod: pod,
		layout:  layout{dir: filepath.Join(config.Dir, string(pod.UID)), mounts: pod.Spec.Containers[0].VolumeMounts},
		changed: make(chan struct{}, 1),
		gone:    gone,
		retire:  sync.OnceFunc(func() { close(gone) }),
		tokens:  newTokens(config.Client, pod),
		status:  reporter{client: config.Client, pod: pod},
	}
}

// run returns when the pod is deleted and its process gone, or when parent ends.
func (w *worker) run(parent context.Context) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	go func() {
		select {
		case <-w.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer os.RemoveAll(w.layout.dir)
	w.findNode(ctx)

	path, err := w.admit()
	if err != nil {
		w.insist(ctx, waiting("ImagePullBackOff", err.Error(), 0))
		return
	}
	sources, err := watchSources(ctx, w.config.Client, w.pod.Namespace, w.changed)
	if err != nil {
		w.insist(ctx, waiting("CreateContainerError", err.Error(), 0))
		return
	}
	for restarts := 0; ctx.Err() == nil; restarts++ {
		err := w.once(ctx, path, sources, restarts)
		if ctx.Err() != nil {
			return
		}
		w.status.report(ctx, waiting("CrashLoopBackOff", err.Error(), restarts+1))
		pause(ctx, min(time.Duration(restarts+1)*time.Second, 10*time.Second))
	}
}

// admit refuses pods that a process cannot stand for.
func (w *worker) admit() (program string, err error) {
	container := w.container()
	switch {
	case len(w.pod.Spec.Containers) != 1 || len(w.pod.Spec.InitContainers) != 0:
		return "", errors.New("only pods with one container can run as a process")
	case len(container.Command) != 0:
		return "", errors.New("only the image's own command can run as a process")
	case container.ReadinessProbe != nil && container.ReadinessProbe.HTTPGet == nil:
		return "", errors.New("only readiness probes by httpGet can reach a process")
	}
	program, ok := w.config.Program(Release(container.Image))
	if !ok {
		return "", fmt.Errorf("there is no program for image %q (release %q)", container.Image, Release(container.Image))
	}
	return program, nil
}

func (w *worker) container() *corev1.Container { return &w.pod.Spec.Containers[0] }

// once waits until all that the container needs exists, starts the process and
// stays until it ends or ctx does. It returns why the process ended.
func (w *worker) once(ctx context.Context, path string, sources Sources, restarts int) error {
	var env []string
	for {
		err := w.fill(ctx, sources)
		if err == nil {
			env, err = environment(w.pod, w.container(), sources)
		}
		if err == nil {
			break
		}
		w.status.report(ctx, waiting("CreateContainerConfigError", err.Error(), restarts))
		if !w.wait(ctx, time.Second) {
			return context.Cause(ctx)
		}
	}
	release, err := w.start(path, env)
	if err != nil {
		return err
	}
	defer release()
	return w.supervise(ctx, sources, restarts)
}

// fill brings all volumes up to date.
func (w *worker) fill(ctx context.Context, sources Sources) error {
	if err := w.layout.mount(); err != nil {
		return fmt.Errorf("mount volumes: %w", err)
	}
	var csi csiFunc
	if w.config.CSI != nil {
		csi = func(v *corev1.CSIVolumeSource) (map[string][]byte, error) {
			return w.config.CSI(ctx, w.pod.Namespace, v)
		}
	}
	for i := range w.pod.Spec.Volumes {
		volume := &w.pod.Spec.Volumes[i]
		files, err := payload(w.pod, volume, sources, func(p *corev1.ServiceAccountTokenProjection) ([]byte, error) {
			return w.tokens.get(ctx, p)
		}, csi)
		if err != nil {
			return fmt.Errorf("volume %q: %w", volume.Name, err)
		}
		if volume.EmptyDir != nil {
			continue // the process writes there itself
		}
		if err := writeVolume(w.layout.volume(volume.Name), files); err != nil {
			return fmt.Errorf("volume %q: %w", volume.Name, err)
		}
	}
	return nil
}

// start starts the process on free ports; release gives them back.
func (w *worker) start(path string, env []string) (release func(), err error) {
	var reserved []*port.Port
	release = func() {
		for _, p := range reserved {
			p.Release()
		}
	}
	local, addresses := map[int32]string{}, map[int32]string{}
	for _, containerPort := range containerPorts(w.container().Args) {
		if containerPort == 0 {
			continue
		}
		p, err := port.Reserve()
		if err != nil {
			release()
			return nil, err
		}
		reserved = append(reserved, p)
		local[containerPort], addresses[containerPort] = p.String(), p.Address()
	}
	p, err := w.exec(path, env, local)
	if err != nil {
		release()
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process, w.addresses, w.ready = p, addresses, false
	return release, nil
}

func (w *worker) exec(path string, env []string, local map[int32]string) (*process.Process, error) {
	env, err := w.reachAPIServer(env)
	if err != nil {
		return nil, err
	}
	args := localArgs(w.container().Args, local)
	for i := range args {
		args[i] = w.layout.localize(args[i])
	}
	for i := range env {
		env[i] = w.layout.localize(env[i])
	}
	return process.Start(process.Spec{
		Name: "process of pod " + w.pod.Namespace + "/" + w.pod.Name,
		Path: path, Args: args, Dir: w.layout.root(), Log: w.config.Log(w.pod.Name),
		Env: append([]string{"PATH=/usr/bin:/bin", "HOME=" + w.layout.root(), "TMPDIR=" + w.layout.root()}, env...),
	})
}

const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// reachAPIServer keeps a kubeconfig that the pod mounts; otherwise it writes what
// in-cluster configuration would find, with an address that a process can reach.
func (w *worker) reachAPIServer(env []string) ([]string, error) {
	kept := make([]string, 0, len(env)+1)
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "KUBECONFIG="); ok {
			if local, mounted := w.layout.local(value); mounted && exists(local) {
				return env, nil
			}
			continue
		}
		kept = append(kept, variable)
	}
	token, mounted := w.layout.local(accountDir + "/token")
	if !mounted || !exists(token) {
		return nil, errors.New("the pod mounts neither a kubeconfig nor a token of its ServiceAccount")
	}
	ca, _ := w.layout.local(accountDir + "/ca.crt")
	path := filepath.Join(w.layout.dir, "in-cluster.kubeconfig")
	const name = "in-cluster"
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: w.config.Server, CertificateAuthority: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {TokenFile: token}}, // client-go reads it again every minute
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
	if err != nil {
		return nil, fmt.Errorf("write in-cluster kubeconfig: %w", err)
	}
	return append(kept, "KUBECONFIG="+path), nil
}

// How a pod's readiness is followed: often until it is ready, then now and then.
// Three failures in a row make it unready, as is Kubernetes' default.
const (
	probeStarting = 100 * time.Millisecond
	probeRunning  = time.Second
	probeFailures = 3
	termination   = 10 * time.Second // istiod drains for as long by default
)

// supervise keeps volumes and status up to date while the process runs.
func (w *worker) supervise(ctx context.Context, sources Sources, restarts int) error {
	p := w.process
	defer w.ended()
	failures := probeFailures // not ready until a probe succeeds
	filled := time.Now()
	for {
		if w.probe(ctx) == nil {
			failures = 0
		} else {
			failures++
		}
		ready := failures < probeFailures
		w.setReady(ready)
		w.status.report(ctx, running(ready, restarts))
		interval := probeStarting
		if ready {
			interval = probeRunning
		}
		select {
		case <-ctx.Done():
			w.end(p)
			return context.Cause(ctx)
		case <-p.Done():
			return p.Err()
		case <-w.changed:
		case <-time.After(interval):
			if time.Since(filled) < time.Minute { // that often for tokens
				continue
			}
		}
		filled = time.Now()
		_ = w.fill(ctx, sources) // kubelet, too, keeps the old content and tries again
	}
}

// end lets a deleted pod's process drain, and kills it when all ends.
func (w *worker) end(p *process.Process) {
	select {
	case <-w.gone:
		p.Stop(termination)
	default:
		p.Kill()
	}
}

func (w *worker) ended() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process, w.addresses, w.ready = nil, nil, false
}

func (w *worker) setReady(ready bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = ready
}

var probeClient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// probe is the container's readiness probe; without one, running is ready.
func (w *worker) probe(ctx context.Context) error {
	if w.container().ReadinessProbe == nil {
		return nil
	}
	get := w.container().ReadinessProbe.HTTPGet
	address, ok := w.addresses[w.portNumber(get.Port)]
	if !ok {
		return fmt.Errorf("the process does not listen on port %s", get.Port.String())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+get.Path, nil)
	if err != nil {
		return err
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("status %s", response.Status)
	}
	return nil
}

func (w *worker) portNumber(target intstr.IntOrString) int32 {
	for _, candidate := range w.container().Ports {
		if target.Type == intstr.String && candidate.Name == target.StrVal {
			return candidate.ContainerPort
		}
	}
	return target.IntVal
}

// insist reports a status that will not change, until it is heard.
func (w *worker) insist(ctx context.Context, s state) {
	for !w.status.report(ctx, s) && w.wait(ctx, time.Second) {
	}
	<-ctx.Done()
}

// wait returns true after d or a change, false when ctx ends.
func (w *worker) wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-w.changed:
	case <-time.After(d):
	}
	return true
}

func (w *worker) snapshot() (Running, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil {
		return Running{}, false
	}
	return Running{
		Namespace: w.pod.Namespace, Pod: w.pod.Name, Release: Release(w.container().Image), PodIP: w.pod.Status.PodIP,
		PID: w.process.Pid(), Ready: w.ready, addresses: w.addresses,
	}, true
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
