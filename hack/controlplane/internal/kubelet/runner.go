package kubelet

import (
	"context"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Config says what a [Runner] works with.
type Config struct {
	Client   kubernetes.Interface // may read what pods mount, make tokens, and write pods' status
	Selector string               // labels of the pods to run
	Server   string               // URL of the API server, for processes
	Dir      string               // folder for the files of pods
	// Log is the file for the output of a pod's process.
	Log func(pod string) string
	// Program is the path of the program for a release, if there is one.
	Program func(release string) (path string, ok bool)
	// CSI returns the files of an inline volume of a CSI driver in a pod of a namespace.
	// It is asked when the pod starts, until it has some, and then once a minute. Nil: such
	// volumes are refused.
	CSI func(ctx context.Context, namespace string, volume *corev1.CSIVolumeSource) (map[string][]byte, error)
	// PodIP returns a new address for each call.
	PodIP func() string
}

// A Runner runs the pods of one cluster. Make it with [New].
type Runner struct {
	config Config

	mu      sync.Mutex
	workers map[types.UID]*worker
	ending  sync.WaitGroup
}

// New returns a Runner that does nothing until Run.
func New(config Config) *Runner {
	return &Runner{config: config, workers: map[types.UID]*worker{}}
}

// Run runs pods until ctx ends, then kills their processes and returns.
func (r *Runner) Run(ctx context.Context) {
	factory := informers.NewSharedInformerFactoryWithOptions(r.config.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = r.config.Selector }))
	// Handlers are refused only after the end of an informer.
	_, _ = factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { r.observe(ctx, obj) },
		UpdateFunc: func(_, obj any) { r.observe(ctx, obj) },
		DeleteFunc: r.forget,
	})
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	r.ending.Wait()
}

func (r *Runner) observe(ctx context.Context, obj any) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return
	}
	if pod.DeletionTimestamp != nil {
		r.forget(pod)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.workers[pod.UID] != nil || ctx.Err() != nil {
		return
	}
	w := newWorker(r.config, pod)
	r.workers[pod.UID] = w
	r.ending.Go(func() { w.run(ctx) })
}

func (r *Runner) forget(obj any) {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = unknown.Obj
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.workers[pod.UID]; w != nil {
		w.retire()
		delete(r.workers, pod.UID)
	}
}

// A Running is one pod that is a process at this moment.
type Running struct {
	Namespace, Pod, Release, PodIP string
	PID                            int
	Ready                          bool // as its status says

	addresses map[int32]string
}

// Address is the local address, 127.0.0.1:<port>, of a container port; not ok if
// the process does not listen there.
func (r Running) Address(containerPort int32) (address string, ok bool) {
	address, ok = r.addresses[containerPort]
	return address, ok
}

// Running returns the pods that are processes, sorted by namespace and name.
func (r *Runner) Running() []Running {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Running
	for _, w := range r.workers {
		if running, ok := w.snapshot(); ok {
			all = append(all, running)
		}
	}
	slices.SortFunc(all, func(a, b Running) int {
		return strings.Compare(a.Namespace+"/"+a.Pod, b.Namespace+"/"+b.Pod)
	})
	return all
}
