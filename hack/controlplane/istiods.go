package controlplane

import (
	"context"
	"fmt"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/kubelet"
)

// An IstiodProcess is a pod of istiod that is a process at this moment.
type IstiodProcess struct {
	Namespace string
	Pod       string
	Release   string // of the image, for example "1.31.0"
	PID       int
	Ready     bool
	// HTTP is the base URL of istiod's debug server (container port 8080), from
	// which /debug/… can be read without a credential.
	HTTP string
	// Monitoring is the base URL of /metrics and /version (container port 15014).
	Monitoring string

	running kubelet.Running
}

// Address is the local address, 127.0.0.1:<port>, of a container port such as
// 15010 (XDS), 15012 (XDS over TLS) or 15017 (webhooks); not ok if istiod does not
// listen there.
func (i IstiodProcess) Address(containerPort int32) (address string, ok bool) {
	return i.running.Address(containerPort)
}

// Istiods returns the istiods that run, sorted by namespace and pod. It is empty
// without [ClusterOptions.Istiod].
//
// In such a cluster every scheduled pod labelled app=istiod becomes a process of
// the release that its image's tag names, with the arguments, variables, volumes
// and ServiceAccount that the pod has; its readiness is the process's. The process
// ends with the pod. Webhooks reach it through its Service.
func (c *Cluster) Istiods() []IstiodProcess {
	if c.runner == nil {
		return nil
	}
	var all []IstiodProcess
	for _, running := range c.runner.Running() {
		istiod := IstiodProcess{
			Namespace: running.Namespace, Pod: running.Pod, Release: running.Release,
			PID: running.PID, Ready: running.Ready, running: running,
		}
		if address, ok := running.Address(8080); ok {
			istiod.HTTP = "http://" + address
		}
		if address, ok := running.Address(15014); ok {
			istiod.Monitoring = "http://" + address
		}
		all = append(all, istiod)
	}
	return all
}

// WaitIstiod returns an istiod of a namespace and release that is ready, waiting
// until there is one or ctx ends.
func (c *Cluster) WaitIstiod(ctx context.Context, namespace, release string) (IstiodProcess, error) {
	var found IstiodProcess
	what := fmt.Sprintf("istiod %s in %s/%s (logs in %s)", release, c.name, namespace, c.cp.logs)
	err := waitFor(ctx, what, nil, func(context.Context) error {
		for _, istiod := range c.Istiods() {
			if istiod.Namespace == namespace && istiod.Release == release && istiod.Ready {
				found = istiod
				return nil
			}
		}
		return fmt.Errorf("none is ready among %d that run", len(c.Istiods()))
	})
	return found, err
}

func (c *Cluster) newRunner() *kubelet.Runner {
	next := 0
	return kubelet.New(kubelet.Config{
		Client:   c.client,
		Selector: "app=istiod",
		Server:   c.Server(),
		Dir:      c.file("pods"),
		Log:      func(pod string) string { return c.log(pod) },
		Program: func(release string) (string, bool) {
			path, ok := c.cp.istiods[release]
			return path, ok
		},
		CSI: c.options.CSI,
		PodIP: func() string { // called by one goroutine, that of the watch
			next++
			return c.network.istiodPod(next)
		},
	})
}

// localProcess is the address at which a port of a pod can be reached, if the pod
// is a process on this machine.
func (c *Cluster) localProcess(podIP string, port int32) (string, bool) {
	if to, ok := c.routes.Load(podIP); ok {
		return to.(func(int32) (string, bool))(port)
	}
	if c.runner == nil {
		return "", false
	}
	for _, running := range c.runner.Running() {
		if running.PodIP == podIP {
			return running.Address(port)
		}
	}
	return "", false
}

// Route leads an address that is behind an endpoint of a Service and no pod's,
// such as that of a load balancer in another cluster, to where to says.
func (c *Cluster) Route(address string, to func(port int32) (local string, ok bool)) {
	c.routes.Store(address, to)
}
