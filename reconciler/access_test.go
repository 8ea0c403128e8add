package reconciler

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
)

// secretHub is a hub that has one Secret, or only its metadata.
type secretHub struct {
	client.Reader
	uid, version string
	reads        int
}

func (s *secretHub) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	s.reads++
	if s.uid == "" {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "eastus-1")
	}
	if secret, ok := object.(*corev1.Secret); ok {
		secret.Data = map[string][]byte{"value": []byte("config"), "other": []byte("config")}
	}
	object.SetUID("uid")
	object.SetResourceVersion(s.version)
	return nil
}

// Credentials that did not change are not read again, by what the hub told.
func TestCredentialsUnchanged(t *testing.T) {
	hub, seen := &secretHub{uid: "1", version: "7"}, &secretHub{uid: "1", version: "7"}
	a := &access{hub: hub, seen: seen}
	m := &v1alpha1.Member{ObjectMeta: metav1.ObjectMeta{Namespace: "isthmus-system", Name: "eastus-1"}}
	m.Spec.Cluster = v1alpha1.Cluster{Type: v1alpha1.ClusterKubernetes, KubeconfigRef: &v1alpha1.SecretKeyReference{Name: "eastus-1"}}
	with, failure := a.of(t.Context(), m)
	if failure != nil {
		t.Fatal(failure)
	}
	for _, tt := range []struct {
		reason string
		do     func()
		want   bool
	}{
		{"nothing changed", func() {}, true},
		{"another key of the Secret", func() { m.Spec.Cluster.KubeconfigRef.Key = "other" }, false},
		{"that key again", func() { m.Spec.Cluster.KubeconfigRef.Key = "" }, true},
		{"another version", func() { seen.version = "8" }, false},
		{"the Secret is gone", func() { seen.uid, seen.version = "", "7" }, false},
		{"a cluster of another type", func() { seen.uid, m.Spec.Cluster.Type = "1", v1alpha1.ClusterAKS }, false},
	} {
		tt.do()
		if got := a.unchanged(t.Context(), m, with.version); got != tt.want {
			t.Errorf("%s: unchanged %t, want %t", tt.reason, got, tt.want)
		}
	}
	if hub.reads != 1 {
		t.Errorf("the Secret was read %d times", hub.reads)
	}
}
