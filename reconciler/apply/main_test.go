package apply

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/member/membertest"
	"github.com/isthmus-mesh/isthmus/renderer/bundle"
)

// cluster is one real Kubernetes control plane for all tests of the package;
// each test has its own network, namespaces and API group in it.
var cluster *controlplane.Cluster

// plane starts more clusters, for tests that need one for themselves.
var plane *controlplane.ControlPlane

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	// The tests wait for controllers, not for processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var err error
	plane, err = controlplane.Start(ctx, controlplane.Options{Progress: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer plane.Stop()
	cluster, err = plane.Cluster(ctx, "member", controlplane.ClusterOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// connected is a member whose calls are seen by a wire.
func connected(t testing.TB) (*member.Member, *membertest.Wire) {
	t.Helper()
	config, err := member.Config(cluster.Kubeconfig(), member.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, config)
}

func connect(t testing.TB, config *rest.Config) (*member.Member, *membertest.Wire) {
	t.Helper()
	wire := &membertest.Wire{}
	m, err := member.Connect(wire.Into(config))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, wire
}

// quick are the options of tests: what does not happen soon does not happen.
var quick = Options{
	Timeout: time.Minute, StageTimeout: 30 * time.Second, GatewayTimeout: 2 * time.Second, GoneTimeout: 40 * time.Second,
}

// small is a set with an object of every kind of step, small enough to be
// applied once for each of its writes.
func small(t testing.TB, network string) Set {
	t.Helper()
	system := network + "-system"
	var objects []bundle.Object
	for stage, text := range map[bundle.Stage]string{
		bundle.StageFoundation: `
apiVersion: v1
kind: Namespace
metadata: {name: SYSTEM}
---
apiVersion: v1
kind: Namespace
metadata: {name: NETWORK-shop, annotations: {isthmus.dev/prune: Release}, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: policies.NETWORK.test}
spec:
  group: NETWORK.test
  scope: Namespaced
  names: {kind: Policy, plural: policies, singular: policy, listKind: PolicyList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {mode: {type: string}}}}}
`,
		bundle.StageControlPlane: `
apiVersion: v1
kind: ServiceAccount
metadata: {name: istiod, namespace: SYSTEM}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: SYSTEM}
data: {mesh: "trustDomain: cluster.local"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NETWORK-istiod}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NETWORK-istiod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NETWORK-istiod}
subjects:
- {kind: ServiceAccount, name: istiod, namespace: SYSTEM}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: SYSTEM}
spec:
  selector: {matchLabels: {app: NETWORK}}
  template:
    metadata: {labels: {app: NETWORK}}
    spec: {serviceAccountName: istiod, containers: [{name: discovery, image: pilot}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: NETWORK-validator}
webhooks:
- name: validation.istio.io
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  clientConfig: {service: {name: istiod, namespace: SYSTEM, path: /validate}}
  rules:
  - {apiGroups: [nothing.NETWORK.test], apiVersions: ["*"], operations: [CREATE], resources: ["*"]}
`,
		bundle.StageZtunnel: `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: SYSTEM}
spec:
  selector: {matchLabels: {app: ztunnel}}
  template:
    metadata: {labels: {app: ztunnel}}
    spec: {containers: [{name: istio-proxy, image: ztunnel}]}
`,
		bundle.StageGateways: `
apiVersion: NETWORK.test/v1
kind: Policy
metadata: {name: default, namespace: SYSTEM}
spec: {mode: STRICT}
`,
	} {
		for _, o := range parse(t, network, text) {
			objects = append(objects, bundle.Object{Stage: stage, Object: o})
		}
	}
	return Set{
		Mesh: Mesh{Network: network, SystemNamespace: system}, Release: "1.30.4", Commit: "c1", Digest: "sha256:1",
		Objects: objects,
		Secrets: parse(t, network, `
apiVersion: v1
kind: Secret
metadata: {name: cacerts, namespace: SYSTEM}
data: {ca-key.pem: Y2FuYXJ5LW9mLXRoZS1rZXk=}
`),
	}
}
