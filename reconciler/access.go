package reconciler

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/member"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// access is how members are reached, whatever the type of their cluster.
type access struct {
	hub client.Reader
	// seen is the cache, which has the metadata of the hub's Secrets.
	seen client.Reader
	// self is the hub's own configuration, for a member that is the hub.
	self      *rest.Config
	namespace string // of isthmus on the hub
	options   member.Options
	azure     *member.Azure
}

func newAccess(manager ctrl.Manager, o Options) *access {
	return &access{
		hub: manager.GetAPIReader(), seen: manager.GetCache(), self: manager.GetConfig(), namespace: o.Namespace, options: o.Member,
		azure: member.NewAzure(o.Member),
	}
}

// credentials are what a connection to one member is made from.
type credentials struct {
	// version changes with the credentials: a connection of another version is
	// not used any more.
	version string
	// config makes the configuration, without a call to anybody.
	config func() (*rest.Config, error)
}

// unchanged says whether credentials are those of a version, by what the hub told of
// its Secrets: it tells of each change, and the member is looked at again. False says
// that of has to find out.
func (a *access) unchanged(ctx context.Context, m *v1alpha1.Member, version string) bool {
	cluster := m.Spec.Cluster
	if cluster.Type != v1alpha1.ClusterKubernetes || cluster.KubeconfigRef == nil {
		return false
	}
	secret := metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}}
	err := a.seen.Get(ctx, types.NamespacedName{Namespace: m.Namespace, Name: cluster.KubeconfigRef.Name}, &secret)
	return err == nil && versionOf(&secret)+"/"+cluster.KubeconfigRef.Key == version
}

// of finds the member's credentials: on the hub, and for AKS clusters in Azure. It
// makes no call to the member.
func (a *access) of(ctx context.Context, m *v1alpha1.Member) (credentials, *status.Failure) {
	cluster := m.Spec.Cluster
	switch {
	case cluster.Type == v1alpha1.ClusterKubernetes && cluster.KubeconfigRef != nil:
		return a.ofKubeconfig(ctx, m.Namespace, *cluster.KubeconfigRef)
	case cluster.Type == v1alpha1.ClusterHub:
		return a.ofHub(), nil
	case cluster.Type == v1alpha1.ClusterAKS && cluster.ResourceID != "":
		return a.ofAKS(ctx, m)
	}
	return credentials{}, &status.Failure{Reason: status.ReasonNotSupported, Stalled: true,
		Message: fmt.Sprintf("clusters of type %q cannot be reached as spec.cluster has it", cluster.Type)}
}

func (a *access) ofHub() credentials {
	return credentials{version: "hub", config: func() (*rest.Config, error) {
		return member.Hub(a.self, a.namespace, a.options), nil
	}}
}

func (a *access) ofAKS(ctx context.Context, m *v1alpha1.Member) (credentials, *status.Failure) {
	cluster := member.ManagedCluster{ResourceID: m.Spec.Cluster.ResourceID}
	if azure := m.Spec.Cluster.Azure; azure != nil {
		cluster.Azure = *azure
	}
	if ref := cluster.SecretRef; ref != nil {
		secret, failure := a.secret(ctx, m.Namespace, ref.Name, "spec.cluster.azure.secretRef")
		if failure != nil {
			return credentials{}, failure
		}
		cluster.Secret, cluster.SecretVersion = secret.Data, versionOf(secret)
	}
	reached, err := a.azure.Reach(ctx, cluster)
	if err != nil {
		return credentials{}, memberFailure(err)
	}
	return credentials{version: reached.Version, config: func() (*rest.Config, error) { return reached.Config(), nil }}, nil
}

func (a *access) ofKubeconfig(ctx context.Context, namespace string, ref v1alpha1.SecretKeyReference) (credentials, *status.Failure) {
	secret, failure := a.secret(ctx, namespace, ref.Name, "spec.cluster.kubeconfigRef")
	if failure != nil {
		return credentials{}, failure
	}
	for _, key := range kubeconfigKeys(ref.Key) {
		if data, ok := secret.Data[key]; ok {
			return credentials{version: versionOf(secret) + "/" + ref.Key, config: func() (*rest.Config, error) {
				return member.Config(data, a.options)
			}}, nil
		}
	}
	return credentials{}, &status.Failure{Reason: status.ReasonSecretNotFound, Stalled: true,
		Message: fmt.Sprintf("Secret %q has none of the keys %q", ref.Name, kubeconfigKeys(ref.Key))}
}

// secret reads a Secret beside the Member that one of its fields names.
func (a *access) secret(ctx context.Context, namespace, name, field string) (*corev1.Secret, *status.Failure) {
	var secret corev1.Secret
	err := a.hub.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, &status.Failure{Reason: status.ReasonSecretNotFound, Stalled: true,
			Message: fmt.Sprintf("%s names the Secret %q, which is not in namespace %q of the hub", field, name, namespace)}
	}
	if err != nil {
		return nil, hubFailure("read Secret "+name, err)
	}
	return &secret, nil
}

func versionOf(secret metav1.Object) string {
	return string(secret.GetUID()) + "/" + secret.GetResourceVersion()
}

func kubeconfigKeys(key string) []string {
	if key != "" {
		return []string{key}
	}
	return []string{"value", "value.yaml"}
}

// namesSecret tells whether the member's credentials are in a Secret.
func namesSecret(m *v1alpha1.Member, name string) bool {
	ref, azure := m.Spec.Cluster.KubeconfigRef, m.Spec.Cluster.Azure
	return ref != nil && ref.Name == name || azure != nil && azure.SecretRef != nil && azure.SecretRef.Name == name
}
