package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/isthmus-mesh/isthmus/hack/controlplane"
	"github.com/isthmus-mesh/isthmus/hack/controlplane/controlplanetest"
)

// standInForIstiod is what istiod is to the harness: a server that becomes ready
// and looks at its files, its variables and the API server.
func standInForIstiod() {
	address := ""
	for _, arg := range os.Args {
		if value, ok := strings.CutPrefix(arg, "--httpAddr="); ok {
			address = value
		}
	}
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("etc/cacerts/root-cert.pem"); err != nil {
			http.Error(w, "no authority", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/root", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "etc/cacerts/root-cert.pem") })
	http.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	http.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	http.HandleFunc("/namespaces", func(w http.ResponseWriter, r *http.Request) {
		config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, err = kubernetes.NewForConfigOrDie(config).CoreV1().Namespaces().List(r.Context(), metav1.ListOptions{})
		fmt.Fprint(w, err)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

func istiodPod(name, image string) *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "istiod"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name: "discovery", Image: image, Args: []string{"discovery"},
				Env: []corev1.EnvVar{
					{Name: "STAND_IN_FOR_ISTIOD", Value: "1"},
					{Name: "KUBECONFIG", Value: "/var/run/secrets/remote/config"},
					{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
				},
				VolumeMounts: []corev1.VolumeMount{
					{Name: "cacerts", MountPath: "/etc/cacerts"}, {Name: "remote", MountPath: "/var/run/secrets/remote"},
				},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}}},
			}},
			Volumes: []corev1.Volume{
				{Name: "cacerts", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "cacerts", Optional: &yes}}},
				{Name: "remote", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "istio-kubeconfig", Optional: &yes}}},
			},
		},
	}
}

// TestIstiods follows one istiod from its pod to its end, with a stand-in for the
// program.
func TestIstiods(t *testing.T) {
	t.Setenv("CANARY", "a variable of the harness that no pod may see")
	cp := controlplanetest.Start(t, controlplane.Options{})
	cp.StandIn("0.1.0", os.Args[0])
	c := controlplanetest.Cluster(t, cp, "one", controlplane.ClusterOptions{Istiod: true})
	ctx, client := t.Context(), clientFor(t, c.RESTConfig())
	pods, services := client.CoreV1().Pods("default"), client.CoreV1().Services("default")

	service, err := services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "istiod"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "istiod"},
			Ports:    []corev1.ServicePort{{Name: "https-webhook", Port: 443, TargetPort: intstr.FromInt32(15017)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Create(ctx, istiodPod("istiod", "docker.io/istio/pilot:0.1.0-distroless"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if len(c.Istiods()) != 1 {
			return errors.New("no process")
		}
		return nil
	})
	istiod := c.Istiods()[0]
	if _, err := c.Resolve(service.Spec.ClusterIP, "443"); istiod.Ready || err == nil {
		t.Errorf("an istiod without authority is ready: %v, %v", istiod.Ready, err)
	}
	writeRoot(t, client, "first")
	istiod, err = c.WaitIstiod(ctx, "default", "0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	checkProcess(t, istiod)
	eventually(t, func() error {
		_, err := c.Resolve(service.Spec.ClusterIP, "443")
		return err
	})
	if _, err := c.Resolve(service.Spec.ClusterIP, "444"); err == nil {
		t.Error("a port that the Service does not have leads somewhere")
	}

	testPortForward(t, c)

	writeRoot(t, client, "second")
	eventually(t, func() error {
		if root := read(t, istiod, "/root"); root != "second" {
			return fmt.Errorf("istiod reads %q after the Secret has changed", root)
		}
		return nil
	})

	if response, err := http.Get(istiod.HTTP + "/exit"); err == nil {
		response.Body.Close()
		t.Error("a process that exits answered")
	}
	eventually(t, func() error {
		pod, err := pods.Get(ctx, "istiod", metav1.GetOptions{})
		if err == nil && (pod.Status.ContainerStatuses[0].RestartCount != 1 || !pod.Status.ContainerStatuses[0].Ready) {
			return fmt.Errorf("a process that ended is not started again: %+v", pod.Status.ContainerStatuses[0])
		}
		return err
	})
	pid := c.Istiods()[0].PID
	if err := pods.Delete(ctx, "istiod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expectGone(t, []int{pid})
	eventually(t, func() error {
		if left := c.Istiods(); len(left) != 0 {
			return fmt.Errorf("istiods of deleted pods: %v", left)
		}
		return nil
	})
	t.Run("an image without a program", func(t *testing.T) { testUnknownImage(t, client) })
}

func checkProcess(t *testing.T, istiod controlplane.IstiodProcess) {
	t.Helper()
	env := read(t, istiod, "/env")
	if !strings.Contains(env, "POD_NAME=istiod") || strings.Contains(env, "CANARY") {
		t.Errorf("environment is not the pod's:\n%s", env)
	}
	if root := read(t, istiod, "/root"); root != "first" {
		t.Errorf("root certificate %q", root)
	}
	answer := read(t, istiod, "/namespaces")
	if !strings.Contains(answer, `"system:serviceaccount:default:default" cannot list resource "namespaces"`) {
		t.Errorf("the process does not act as its pod's ServiceAccount: %s", answer)
	}
}

// testPortForward reaches istiod through the API server, as kubectl does.
func testPortForward(t *testing.T, c *controlplane.Cluster) {
	t.Helper()
	get := func(config *rest.Config, pod string, port int) (string, error) {
		ask := clientFor(t, config).CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name(pod).SubResource("portforward")
		transport, upgrader, err := spdy.RoundTripperFor(config)
		if err != nil {
			return "", err
		}
		dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, ask.URL())
		end, up := make(chan struct{}), make(chan struct{})
		defer close(end)
		forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", port)}, end, up, io.Discard, io.Discard)
		if err != nil {
			return "", err
		}
		failed := make(chan error, 1)
		go func() { failed <- forwarder.ForwardPorts() }()
		select {
		case err := <-failed:
			return "", err
		case <-up:
		}
		ports, err := forwarder.GetPorts()
		if err != nil {
			return "", err
		}
		response, err := http.Get(fmt.Sprintf("http://localhost:%d/root", ports[0].Local))
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		return string(content), err
	}
	if root, err := get(c.RESTConfig(), "istiod", 8080); err != nil || root != "first" {
		t.Errorf("through a forwarded port came %q, %v", root, err)
	}
	if _, err := get(c.RESTConfig(), "istiod", 8081); err == nil {
		t.Error("a port that nobody listens on was forwarded")
	}
	config := c.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: "somebody"}
	if _, err := get(config, "istiod", 8080); !apierrors.IsForbidden(err) && (err == nil || !strings.Contains(err.Error(), "forbidden")) {
		t.Errorf("a user without rights: %v", err)
	}
	config = c.RESTConfig()
	config.Host, config.TLSClientConfig.Insecure, config.TLSClientConfig.CAData = "https://"+c.KubeletAddress(), true, nil
	if _, err := get(config, "istiod", 8080); err == nil {
		t.Error("the kubelet answers somebody who is not the API server")
	}
}

func testUnknownImage(t *testing.T, client kubernetes.Interface) {
	ctx, pods := t.Context(), client.CoreV1().Pods("default")
	if _, err := pods.Create(ctx, istiodPod("unknown", "docker.io/istio/pilot:9.9.9"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		pod, err := pods.Get(ctx, "unknown", metav1.GetOptions{})
		if err != nil || len(pod.Status.ContainerStatuses) == 0 {
			return errors.Join(err, context.DeadlineExceeded)
		}
		waiting := pod.Status.ContainerStatuses[0].State.Waiting
		if waiting == nil || waiting.Reason != "ImagePullBackOff" || !strings.Contains(waiting.Message, "9.9.9") {
			return fmt.Errorf("status %+v", pod.Status.ContainerStatuses[0].State)
		}
		return nil
	})
}

func writeRoot(t *testing.T, client kubernetes.Interface, content string) {
	t.Helper()
	secrets := client.CoreV1().Secrets("default")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "cacerts"}, StringData: map[string]string{"root-cert.pem": content}}
	_, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	if err != nil {
		_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, istiod controlplane.IstiodProcess, path string) string {
	t.Helper()
	response, err := http.Get(istiod.HTTP + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
