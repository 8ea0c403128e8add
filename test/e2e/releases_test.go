package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/catalog"
	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestReleases delivers one member of each release whose istiod can be built, on
// the Gateway API of that release: istiod starts from what was applied, programs
// gateways, judges objects, and istioctl finds nothing wrong with the whole.
func TestReleases(t *testing.T) {
	istioctl, err := controlplane.Istioctl(t.Context(), os.Stderr)
	check(t, err)
	versions := controlplane.IstiodReleases()
	o := rig.Options{Istiods: versions, GatewayAPI: map[string]string{}, LogDir: logDir(t), Progress: os.Stderr}
	for _, version := range versions {
		release, ok := catalog.Builtin().Release(version)
		if !ok {
			t.Fatalf("istiod %s can be built, and the catalog does not have it", version)
		}
		o.Members = append(o.Members, memberOf(version))
		o.GatewayAPI[memberOf(version)] = release.GatewayAPI
	}
	r, err := rig.Start(context.WithoutCancel(t.Context()), o)
	check(t, err)
	t.Cleanup(r.Stop)
	for _, version := range versions {
		writeRelease(t, r, version)
	}
	commit := push(t, r, "Every release")
	run(t, r)
	check(t, r.Follow(t.Context(), time.Second))
	check(t, r.WaitApplied(t.Context(), commit, 4*time.Minute))

	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			_, err := r.Members[memberOf(version)].WaitIstiod(t.Context(), system, version)
			check(t, err)
			member, err := r.ClientOf(memberOf(version))
			check(t, err)
			checkGateway(t, member, system, "istio-eastwestgateway")
			checkGateway(t, member, "shop", "waypoint")
			checkProxies(t, member)
			checkWebhook(t, member, "shop")
			checkAnalysis(t, istioctl, r.Members[memberOf(version)], member)
		})
	}
}

func memberOf(version string) string { return "on-" + strings.ReplaceAll(version, ".", "-") }

// writeRelease makes a network of one member: members of one network are no more
// than a minor apart.
func writeRelease(t *testing.T, r *rig.Rig, version string) {
	t.Helper()
	name := memberOf(version)
	for file, object := range map[string]map[string]any{
		"network.yaml": {
			"kind": "ApplicationNetwork",
			"spec": map[string]any{
				"dataPlane":  map[string]any{"mtls": "Strict"},
				"upgrade":    map[string]any{"mode": "SelfManaged", "version": version},
				"namespaces": []any{map[string]any{"name": "shop", "ambient": true, "waypoint": map[string]any{"global": true}}},
				"components": map[string]any{
					"eastWestGateway": map[string]any{
						"replicas":  map[string]any{"min": 2, "max": 3},
						"resources": map[string]any{"limits": map[string]any{"memory": "300Mi"}},
					},
				},
				"telemetry": map[string]any{
					"collector":  map[string]any{"service": "otel.observability.svc.cluster.local"},
					"tracing":    map[string]any{"sampling": "0.5%"},
					"accessLogs": map[string]any{"requests": "Errors"},
				},
			},
		},
		"member.yaml": {
			"kind": "Member",
			"spec": map[string]any{
				"applicationNetwork": name,
				"cluster":            map[string]any{"type": "Kubernetes", "kubeconfigRef": map[string]any{"name": name}},
			},
		},
	} {
		object["apiVersion"], object["metadata"] = "isthmus.dev/v1alpha1", map[string]any{"name": name}
		data, err := yaml.Marshal(object)
		check(t, err)
		check(t, r.Repository.Write(name+"/"+file, string(data)))
	}
}

// checkGateway waits until istiod has programmed a Gateway with the address of
// the Service that it made for it.
func checkGateway(t *testing.T, member client.Client, namespace, name string) {
	t.Helper()
	key := client.ObjectKey{Namespace: namespace, Name: name}
	gateway := object("gateway.networking.k8s.io/v1", "Gateway", namespace, name, nil)
	check(t, rig.Eventually(t.Context(), time.Minute, func() error {
		var service corev1.Service
		if err := errors.Join(member.Get(t.Context(), key, gateway), member.Get(t.Context(), key, &service)); err != nil {
			return err
		}
		addresses, _, _ := unstructured.NestedSlice(gateway.Object, "status", "addresses")
		want := service.Spec.ClusterIP
		if service.Spec.Type == corev1.ServiceTypeLoadBalancer && len(service.Status.LoadBalancer.Ingress) > 0 {
			want = service.Status.LoadBalancer.Ingress[0].IP
		}
		if text := fmt.Sprint(addresses); want == "" || !strings.Contains(text, "value:"+want+"]") {
			return fmt.Errorf("gateway %s has addresses %s, and its Service %q", key, text, want)
		}
		conditions, _, _ := unstructured.NestedSlice(gateway.Object, "status", "conditions")
		for _, c := range conditions {
			if c := c.(map[string]any); c["type"] == "Programmed" && c["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("gateway %s is not programmed: %v", key, conditions)
	}))
}

// checkProxies: istiod makes the workload behind the gateway as the fleet sizes it,
// and the other ones as they are.
func checkProxies(t *testing.T, member client.Client) {
	t.Helper()
	key := client.ObjectKey{Namespace: system, Name: "istio-eastwestgateway"}
	var scaler autoscalingv2.HorizontalPodAutoscaler
	var door, waypoint appsv1.Deployment
	check(t, member.Get(t.Context(), key, &scaler))
	if least := scaler.Spec.MinReplicas; least == nil || *least != 2 || scaler.Spec.MaxReplicas != 3 {
		t.Errorf("the gateway is scaled from %v to %d", least, scaler.Spec.MaxReplicas)
	}
	check(t, member.Get(t.Context(), key, &door))
	check(t, member.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "waypoint"}, &waypoint))
	if limit := door.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().String(); limit != "300Mi" {
		t.Errorf("the gateway's memory limit is %s", limit)
	}
	if limit := waypoint.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().String(); limit == "300Mi" {
		t.Errorf("the waypoint has the gateway's memory limit")
	}
}

// checkWebhook submits what the CRD takes and only istiod can judge.
func checkWebhook(t *testing.T, member client.Client, namespace string) {
	t.Helper()
	policy := func(block string) *unstructured.Unstructured {
		return object("security.istio.io/v1", "AuthorizationPolicy", namespace, "by-address", map[string]any{
			"rules": []any{map[string]any{"from": []any{map[string]any{"source": map[string]any{"ipBlocks": []any{block}}}}}},
		})
	}
	check(t, member.Create(t.Context(), policy("10.0.0.0/8")))
	check(t, member.Delete(t.Context(), policy("")))
	err := member.Create(t.Context(), policy("10.0.0.0/99"))
	if err == nil || !strings.Contains(err.Error(), "validation.istio.io") || !strings.Contains(err.Error(), "10.0.0.0/99") {
		t.Errorf("the webhook on a range that is none: %v", err)
	}
}

func object(apiVersion, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind,
		"metadata": map[string]any{"namespace": namespace, "name": name},
	}}
	if spec != nil {
		o.Object["spec"] = spec
	}
	return o
}

// checkAnalysis has istioctl look at the whole cluster, first as it is and then
// with a fault in it.
func checkAnalysis(t *testing.T, istioctl string, cluster *controlplane.Cluster, member client.Client) {
	t.Helper()
	for _, line := range analysis(t, istioctl, cluster) {
		t.Error(line)
	}
	check(t, member.Create(t.Context(), &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "fault"},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "fault.istio.io", AdmissionReviewVersions: []string{"v1"},
			SideEffects:  ptr.To(admissionv1.SideEffectClassNone),
			ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: system, Name: "nowhere"}},
		}},
	}))
	if lines := analysis(t, istioctl, cluster); !strings.Contains(strings.Join(lines, "\n"), "service that does not exist: "+system+"/nowhere") {
		t.Errorf("istioctl does not see a webhook without a Service: %q", lines)
	}
}

// analysis returns a line for each warning and error. With a cluster, istioctl
// runs every analyzer, and not only those that make do with files.
func analysis(t *testing.T, istioctl string, cluster *controlplane.Cluster) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), istioctl, "analyze", "--kubeconfig", cluster.KubeconfigPath(),
		"--istioNamespace", system, "--all-namespaces", "--output", "json", "--output-threshold", "Warning")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output() // an error also when it found one
	var messages []struct{ Code, Level, Origin, Message string }
	if json.Unmarshal(stdout, &messages) != nil || (err != nil && len(messages) == 0) {
		t.Fatalf("%s: %v: %s%s", cmd, err, stdout, stderr.Bytes())
	}
	var lines []string
	for _, m := range messages {
		lines = append(lines, fmt.Sprintf("%s %s: %s: %s", m.Level, m.Code, m.Origin, m.Message))
	}
	return lines
}
