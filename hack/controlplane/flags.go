package controlplane

import (
	"fmt"
	"net"
	"strings"

	"github.com/isthmus-mesh/isthmus/hack/controlplane/internal/port"
)

// A network holds the address ranges of one cluster. No two clusters of one
// control plane share an address, so that a wrong one shows.
type network struct{ index int }

// networkOf gives the ranges of the n-th cluster, counted from 0, below maxClusters.
func networkOf(n int) network { return network{n + 1} }

// services is the range of cluster IPs.
func (n network) services() string { return fmt.Sprintf("10.%d.0.0/16", n.index) }

// apiService is the cluster IP of Service kubernetes: the first of the range.
func (n network) apiService() net.IP { return net.IPv4(10, byte(n.index), 0, 1) }

// pods is the range from which kwok gives pods their addresses.
func (n network) pods() string { return fmt.Sprintf("10.%d.0.1/17", 100+n.index) }

// istiodPod is the i-th address for pods that are processes, outside of kwok's range.
func (n network) istiodPod(i int) string {
	return fmt.Sprintf("10.%d.%d.%d", 100+n.index, 128+i/250%127, 1+i%250)
}

// loadBalancer is the i-th address of a load balancer; 198.18.0.0/15 is the range
// for tests of network devices (RFC 2544), routed nowhere.
func (n network) loadBalancer(i int) string {
	return fmt.Sprintf("198.%d.%d.%d", 18+n.index/128, n.index%128*2+i/250%2, 1+i%250)
}

// node is the address of the i-th node.
func (n network) node(i int) string { return fmt.Sprintf("172.30.%d.%d", n.index, 1+i) }

func secure(p *port.Port) string { return "https://" + p.Address() }

func etcdArgs(data string, client, peer *port.Port, certs etcdCerts) []string {
	return []string{
		"etcd",
		"--name=etcd",
		"--data-dir=" + data,
		"--listen-client-urls=" + secure(client),
		"--advertise-client-urls=" + secure(client),
		"--listen-peer-urls=" + secure(peer),
		"--initial-advertise-peer-urls=" + secure(peer),
		"--initial-cluster=etcd=" + secure(peer),
		"--client-cert-auth", "--trusted-ca-file=" + certs.ca, "--cert-file=" + certs.cert, "--key-file=" + certs.key,
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + certs.ca, "--peer-cert-file=" + certs.cert, "--peer-key-file=" + certs.key,
		"--unsafe-no-fsync", // the data need not survive the machine
		"--snapshot-count=5000",
		"--log-level=warn",
	}
}

// apiserverArgs leaves admission, authorization by RBAC apart, and API groups at
// their defaults.
func apiserverArgs(c *Cluster, etcd *port.Port, certs etcdCerts) []string {
	args := []string{
		"kube-apiserver",
		"--etcd-servers=" + secure(etcd),
		"--etcd-prefix=/" + c.name,
		"--etcd-cafile=" + certs.ca, "--etcd-certfile=" + certs.cert, "--etcd-keyfile=" + certs.key,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + c.port.String(),
		// Endpoints may not be loopback addresses.
		"--endpoint-reconciler-type=none",
		"--client-ca-file=" + c.file("ca.crt"),
		"--tls-cert-file=" + c.file("apiserver.crt"), "--tls-private-key-file=" + c.file("apiserver.key"),
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=" + c.network.services(),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.file("sa.crt"), "--service-account-signing-key-file=" + c.file("sa.key"),
		"--allow-privileged", // istio-cni is
		"--audit-policy-file=" + c.file("audit-policy.yaml"),
		"--audit-log-path=" + c.AuditLog(),
		"--profiling=false",
	}
	if c.kubelet != nil {
		args = append(args,
			"--kubelet-certificate-authority="+c.file("ca.crt"),
			"--kubelet-client-certificate="+c.file("kubelet-client.crt"), "--kubelet-client-key="+c.file("kubelet-client.key"))
	}
	if c.proxy != nil {
		args = append(args, "--egress-selector-config-file="+c.file("egress.yaml"))
	}
	return args
}

// controllers are the ones that workloads, RBAC and tokens need. Left out: those
// for storage, certificates, quota and cloud routes, which have nothing to act
// on here, and the autoscaler, which without metrics writes an event per target
// every 15 seconds.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"cronjob-controller",
	"daemonset-controller",
	"deployment-controller",
	"disruption-controller",
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"node-lifecycle-controller",
	"pod-garbage-collector-controller",
	"replicaset-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller",
	"taint-eviction-controller",
	"validatingadmissionpolicy-status-controller",
}

// Nodes report once in leaseSeconds/4. Real ones do every 10 seconds, which is
// most of the load of an idle cluster.
const leaseSeconds = 240

func controllerManagerArgs(c *Cluster) []string {
	return []string{
		"kube-controller-manager",
		"--kubeconfig=" + c.file("kube-controller-manager.kubeconfig"),
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false",
		"--secure-port=0",
		"--service-account-private-key-file=" + c.file("sa.key"),
		"--root-ca-file=" + c.file("ca.crt"),
		fmt.Sprintf("--node-monitor-grace-period=%ds", 4*leaseSeconds),
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
}

func schedulerArgs(c *Cluster) []string {
	return []string{
		"kube-scheduler",
		"--kubeconfig=" + c.file("kube-scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
	}
}

func kwokArgs(c *Cluster) []string {
	return []string{
		"kwok",
		"--kubeconfig=" + c.file("kwok.kubeconfig"),
		"--config=" + c.file("stages.yaml"),
		"--manage-all-nodes=true",
		"--cidr=" + c.network.pods(),
		fmt.Sprintf("--node-lease-duration-seconds=%d", leaseSeconds),
	}
}

// auditPolicy logs writes; and reads too, of those who are not part of the cluster.
func auditPolicy(reads bool) string {
	policy := `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
`
	if reads {
		policy += `- level: None
  users: [kube-controller-manager, kube-scheduler, kwok, harness, "system:apiserver"]
- level: Metadata
`
	}
	return policy + "- level: None\n"
}

func egressConfig(socket string) string {
	return fmt.Sprintf(`apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds: {udsName: %q}
`, socket)
}
