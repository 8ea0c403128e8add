package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/test/rig"
)

// TestWebhook: a push acts when the server tells of it, and not an hour later;
// a flood of tellings costs two looks.
func TestWebhook(t *testing.T) {
	r, err := rig.Start(context.WithoutCancel(t.Context()), rig.Options{LogDir: logDir(t), Progress: os.Stderr})
	check(t, err)
	t.Cleanup(r.Stop)
	const network = "apiVersion: isthmus.dev/v1alpha1\nkind: ApplicationNetwork\nmetadata: {name: prod}\nspec: {trust: {domain: cluster.local}}\n"
	check(t, r.Repository.Write("network.yaml", network))
	first := push(t, r, "one")
	check(t, r.HubClient.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: "webhook"}, StringData: map[string]string{"token": "correct horse"},
	}))
	address := freeAddress(t)
	runWebhooks(t, r, address)
	check(t, rig.Eventually(t.Context(), 20*time.Second, func() error {
		return r.HubClient.Create(t.Context(), &v1alpha1.Fleet{
			ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: rig.FleetName},
			Spec: v1alpha1.FleetSpec{
				URL: r.Repository.URL(), Branch: "main", Interval: metav1.Duration{Duration: time.Hour},
				Webhook: &v1alpha1.Webhook{Type: v1alpha1.WebhookGitHub, SecretRef: v1alpha1.LocalObjectReference{Name: "webhook"}},
			},
		})
	}))
	waitAccepted(t, r, first)
	f, err := r.Fleet(t.Context())
	check(t, err)
	if want := "/hook/" + rig.Namespace + "/" + rig.FleetName; f.Status.WebhookPath != want {
		t.Fatalf("status.webhookPath %q, want %q", f.Status.WebhookPath, want)
	}
	url := "http://" + address + f.Status.WebhookPath

	check(t, r.Repository.Write("network.yaml", network+"# two\n"))
	second := push(t, r, "two")
	if code := tell(t, url, "wrong"); code != http.StatusUnauthorized {
		t.Errorf("a wrong secret: %d", code)
	}
	began := time.Now()
	if code := tell(t, url, "correct horse"); code != http.StatusNoContent {
		t.Fatalf("the right secret: %d", code)
	}
	waitAccepted(t, r, second)
	took := time.Since(began)
	t.Logf("from the webhook to status.acceptedRevision: %s", took.Round(time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("a push took %s to act", took)
	}

	before := fetches(t)
	for range 1_000 {
		tell(t, url, "correct horse")
	}
	check(t, r.Repository.Write("network.yaml", network+"# three\n"))
	third := push(t, r, "three")
	tell(t, url, "correct horse")
	waitAccepted(t, r, third)
	// One look at the most for each two seconds that all of this took, and two.
	if looks, most := fetches(t)-before, time.Since(began).Seconds()/2+2; looks > most {
		t.Errorf("1,000 webhooks caused %v looks, more than %v", looks, most)
	}
}

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { check(t, listener.Close()) }()
	return listener.Addr().String()
}

func runWebhooks(t *testing.T, r *rig.Rig, address string) {
	t.Helper()
	hub, err := r.RESTConfig()
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- reconciler.Run(ctx, hub, reconciler.Options{
			Namespace: rig.Namespace, VaultDirectory: r.Vault(), CacheDirectory: r.Cache(), WebhookAddress: address, Log: logger(t),
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("reconciler ended: %v", err)
		}
	})
}

func waitAccepted(t *testing.T, r *rig.Rig, commit string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	watch, err := r.HubClient.Watch(ctx, &v1alpha1.FleetList{}, client.InNamespace(rig.Namespace))
	check(t, err)
	defer watch.Stop()
	f, err := r.Fleet(ctx)
	check(t, err)
	for source.CommitOf(f.Status.AcceptedRevision) != commit {
		event, ok := <-watch.ResultChan()
		if !ok {
			t.Fatalf("accepted %q, want %q", f.Status.AcceptedRevision, commit)
		}
		if next, is := event.Object.(*v1alpha1.Fleet); is && client.ObjectKeyFromObject(next) == (types.NamespacedName{Namespace: rig.Namespace, Name: rig.FleetName}) {
			f = next
		}
	}
}

// tell sends a webhook as GitHub does.
func tell(t *testing.T, url, secret string) int {
	t.Helper()
	body := []byte(`{"ref":"refs/heads/main"}`)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	check(t, err)
	request.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	response, err := http.DefaultClient.Do(request)
	check(t, err)
	check(t, response.Body.Close())
	return response.StatusCode
}

// fetches counts the looks at repositories of this process.
func fetches(t *testing.T) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	check(t, err)
	var sum float64
	for _, family := range families {
		if family.GetName() != "isthmus_git_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if fmt.Sprint(label.GetName(), "=", label.GetValue()) == "type=fetch" {
					sum += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}
