package controlplane

// EtcdURL is where the shared etcd listens.
func (cp *ControlPlane) EtcdURL() string { return secure(cp.etcdPort) }

// StandIn makes a program the istiod of a release.
func (cp *ControlPlane) StandIn(release, program string) { cp.istiods[release] = program }

// Resolve is the address at which the API server finds a webhook.
func (c *Cluster) Resolve(clusterIP, port string) (string, error) {
	return c.services.resolve(clusterIP, port)
}

// KubeletAddress is where the API server finds the kubelet.
func (c *Cluster) KubeletAddress() string { return c.kubelet.Address() }
