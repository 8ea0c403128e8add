package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// listed are the Sources of one namespace, from watches.
type listed struct {
	configMaps corelisters.ConfigMapNamespaceLister
	secrets    corelisters.SecretNamespaceLister
}

func (l listed) ConfigMap(name string) *corev1.ConfigMap {
	object, err := l.configMaps.Get(name)
	if err != nil {
		return nil // a lister knows no other error than that there is none
	}
	return object
}

func (l listed) Secret(name string) *corev1.Secret {
	object, err := l.secrets.Get(name)
	if err != nil {
		return nil
	}
	return object
}

// watchSources watches a namespace until ctx ends and puts a token into changed
// when something changes, unless there is one.
func watchSources(ctx context.Context, client kubernetes.Interface, namespace string, changed chan<- struct{}) (Sources, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	core := factory.Core().V1()
	poke := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: poke, UpdateFunc: func(_, obj any) { poke(obj) }, DeleteFunc: poke}
	for _, informer := range []cache.SharedIndexInformer{core.ConfigMaps().Informer(), core.Secrets().Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watch what pods mount: %w", err)
		}
	}
	sources := listed{
		configMaps: core.ConfigMaps().Lister().ConfigMaps(namespace),
		secrets:    core.Secrets().Lister().Secrets(namespace),
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return sources, nil
}

// tokens are the tokens of one pod's ServiceAccount, bound to the pod: they end
// with it.
type tokens struct {
	client kubernetes.Interface
	pod    *corev1.Pod

	mu     sync.Mutex
	issued map[string]issuedToken // by audience
}

type issuedToken struct {
	token   []byte
	renewAt time.Time
}

func newTokens(client kubernetes.Interface, pod *corev1.Pod) *tokens {
	return &tokens{client: client, pod: pod, issued: map[string]issuedToken{}}
}

// get returns a token that has a fifth of its life before it, or an older one if
// the API server does not answer.
func (t *tokens) get(ctx context.Context, projection *corev1.ServiceAccountTokenProjection) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.issued[projection.Audience]
	if time.Now().Before(old.renewAt) {
		return old.token, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: projection.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: t.pod.Name, UID: t.pod.UID},
	}}
	if projection.Audience != "" {
		request.Spec.Audiences = []string{projection.Audience}
	}
	account := t.pod.Spec.ServiceAccountName
	answer, err := t.client.CoreV1().ServiceAccounts(t.pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		if old.token != nil {
			return old.token, nil
		}
		return nil, fmt.Errorf("request token of ServiceAccount %q: %w", account, err)
	}
	now := time.Now()
	life := answer.Status.ExpirationTimestamp.Sub(now)
	issued := issuedToken{token: []byte(answer.Status.Token), renewAt: now.Add(life * 4 / 5)}
	t.issued[projection.Audience] = issued
	return issued.token, nil
}

// findNode fills in the address of the pod's node.
func (w *worker) findNode(ctx context.Context) {
	node, err := w.config.Client.CoreV1().Nodes().Get(ctx, w.pod.Spec.NodeName, metav1.GetOptions{})
	if err != nil {
		return // kubelet knows it; here a pod can do without
	}
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			w.pod.Status.HostIP = address.Address
			return
		}
	}
}
