package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// services plays the two parts of a cluster's network that matter to control
// planes: a cloud that gives every Service of type LoadBalancer an address, and
// the way from a cluster IP to a pod.
type services struct {
	client    kubernetes.Interface
	network   network
	factory   informers.SharedInformerFactory
	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister
	queue     workqueue.TypedRateLimitingInterface[types.NamespacedName]
	// process is the local address of a pod's port, if the pod is a process.
	process func(podIP string, port int32) (string, bool)

	mu     sync.Mutex
	given  map[types.UID]string // addresses by Service
	nextIP int
}

func newServices(client kubernetes.Interface, network network, process func(string, int32) (string, bool)) (*services, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	s := &services{
		client: client, network: network, factory: factory, process: process,
		services:  factory.Core().V1().Services().Lister(),
		endpoints: factory.Discovery().V1().EndpointSlices().Lister(),
		queue:     workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[types.NamespacedName]()),
		given:     map[types.UID]string{},
	}
	enqueue := func(obj any) {
		if service, ok := obj.(*corev1.Service); ok {
			s.queue.Add(types.NamespacedName{Namespace: service.Namespace, Name: service.Name})
		}
	}
	_, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	return s, nil
}

// run works until ctx ends.
func (s *services) run(ctx context.Context) {
	s.factory.Start(ctx.Done())
	context.AfterFunc(ctx, s.queue.ShutDown)
	for {
		key, shutdown := s.queue.Get()
		if shutdown {
			break
		}
		if err := s.assign(ctx, key); err != nil {
			s.queue.AddRateLimited(key) // the API server may be stopped by a test
		} else {
			s.queue.Forget(key)
		}
		s.queue.Done(key)
	}
	s.factory.Shutdown()
}

// assign writes the load balancer status that a Service should have.
func (s *services) assign(ctx context.Context, key types.NamespacedName) error {
	service, err := s.services.Services(key.Namespace).Get(key.Name)
	if err != nil {
		return ignoreGone(err)
	}
	want := s.balancers(service)
	have := service.Status.LoadBalancer.Ingress
	if len(want) == len(have) && (len(want) == 0 || want[0].IP == have[0].IP) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": want}}})
	if err != nil {
		return err
	}
	_, err = s.client.CoreV1().Services(key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return ignoreGone(err)
}

// balancers is empty for a Service that is not ours: of another type, on its way
// out, or of another class.
func (s *services) balancers(service *corev1.Service) []corev1.LoadBalancerIngress {
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || service.Spec.LoadBalancerClass != nil {
		return nil
	}
	mode := corev1.LoadBalancerIPModeVIP
	return []corev1.LoadBalancerIngress{{IP: s.address(service), IPMode: &mode}}
}

// address stays the same as long as the Service exists.
func (s *services) address(service *corev1.Service) string {
	if fixed := service.Spec.LoadBalancerIP; fixed != "" { // deprecated, yet istiod sets it from spec.addresses of a Gateway
		return fixed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given[service.UID] == "" {
		s.given[service.UID] = s.network.loadBalancer(s.nextIP)
		s.nextIP++
	}
	return s.given[service.UID]
}

// resolve maps a cluster IP and port to the address of a process on this machine.
func (s *services) resolve(host, port string) (string, error) {
	all, err := s.services.List(labels.Everything())
	if err != nil {
		return "", err
	}
	for _, service := range all {
		if service.Spec.ClusterIP != host {
			continue
		}
		for _, candidate := range service.Spec.Ports {
			if fmt.Sprint(candidate.Port) == port {
				return s.endpoint(service, candidate.Name)
			}
		}
		return "", fmt.Errorf("no port %[3]s at Service %[1]s/%[2]s", service.Namespace, service.Name, port)
	}
	return "", fmt.Errorf("no Service has the address %s", host)
}

func (s *services) endpoint(service *corev1.Service, portName string) (string, error) {
	slices, err := s.endpoints.EndpointSlices(service.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name}))
	if err != nil && !apierrors.IsNotFound(err) {
		return "", err
	}
	for _, slice := range slices {
		for _, port := range slice.Ports {
			if port.Port == nil || port.Name == nil || *port.Name != portName {
				continue
			}
			if address, ok := s.readyProcess(slice, *port.Port); ok {
				return address, nil
			}
		}
	}
	return "", fmt.Errorf("no ready endpoint of Service %s/%s is a process on this machine", service.Namespace, service.Name)
}

func (s *services) readyProcess(slice *discoveryv1.EndpointSlice, port int32) (string, bool) {
	for _, endpoint := range slice.Endpoints {
		if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
			continue
		}
		for _, ip := range endpoint.Addresses {
			if address, ok := s.process(ip, port); ok {
				return address, true
			}
		}
	}
	return "", false
}
