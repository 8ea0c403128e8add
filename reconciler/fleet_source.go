package reconciler

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-mesh/isthmus/fleet/v1alpha1"
	"github.com/isthmus-mesh/isthmus/reconciler/source"
	"github.com/isthmus-mesh/isthmus/reconciler/source/signature"
	"github.com/isthmus-mesh/isthmus/reconciler/status"
)

// open returns the fleet's copy of its repository, with the credentials of its
// Secrets as they are now.
func (l looker) open(ctx context.Context, f *v1alpha1.Fleet) (*source.Repository, *status.Failure) {
	options := source.Options{
		Key: copyKey(client.ObjectKeyFromObject(f)), URL: f.Spec.URL, Path: f.Spec.Path,
		Reference: source.Reference{Branch: f.Spec.Branch, Tag: f.Spec.Tag, SemVer: f.Spec.SemVer, Commit: f.Spec.Commit},
	}
	if ref := f.Spec.SecretRef; ref != nil {
		data, failure := l.secret(ctx, f, "spec.secretRef", ref.Name)
		if failure != nil {
			return nil, failure
		}
		options.Credentials = source.Credentials{
			Username:    string(data["username"]),
			Password:    string(data["password"]),
			BearerToken: string(data["bearerToken"]),
			CA:          data["ca.crt"],
			Identity:    data["identity"],
			KnownHosts:  data["known_hosts"],
		}
	}
	if ref := f.Spec.ProxySecretRef; ref != nil {
		data, failure := l.secret(ctx, f, "spec.proxySecretRef", ref.Name)
		if failure != nil {
			return nil, failure
		}
		options.Proxy = &source.Proxy{Address: string(data["address"]), Username: string(data["username"]), Password: string(data["password"])}
	}
	repository, err := source.Open(l.cache, options)
	if err != nil {
		return nil, sourceFailure(err)
	}
	return repository, nil
}

// sweep removes the copies of fleets that are gone.
func (r *fleetReconciler) sweep(ctx context.Context) error {
	var all v1alpha1.FleetList
	if err := r.List(ctx, &all); err != nil {
		return fmt.Errorf("list fleets: %w", err)
	}
	var keys []string
	for i := range all.Items {
		keys = append(keys, copyKey(client.ObjectKeyFromObject(&all.Items[i])))
	}
	return source.Sweep(r.looker.cache, keys)
}

// copyKey names the copy of a fleet's repository.
func copyKey(fleet types.NamespacedName) string { return fleet.String() }

// secret reads a Secret beside the fleet.
func (l looker) secret(ctx context.Context, f *v1alpha1.Fleet, field, name string) (map[string][]byte, *status.Failure) {
	var secret corev1.Secret
	err := l.hub.Get(ctx, types.NamespacedName{Namespace: f.Namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, &status.Failure{Reason: status.ReasonSecretNotFound, Message: fmt.Sprintf("%s names the Secret %q, which is not in namespace %q", field, name, f.Namespace)}
	}
	if err != nil {
		return nil, hubFailure("read Secret "+name, err)
	}
	return secret.Data, nil
}

// verify checks the head's signatures against the keys as they are now. A nil
// result says that the fleet wants none.
func (l looker) verify(ctx context.Context, f *v1alpha1.Fleet, repository *source.Repository, head source.Head) (*status.Verified, *status.Failure) {
	want := f.Spec.Verify
	if want == nil {
		return nil, nil
	}
	failed := func(failure *status.Failure) (*status.Verified, *status.Failure) {
		return &status.Verified{Commit: head.Commit, Failure: failure}, failure
	}
	data, failure := l.secret(ctx, f, "spec.verify.secretRef", want.SecretRef.Name)
	if failure != nil {
		return failed(failure)
	}
	keys, err := signature.ParseKeys(data)
	if err != nil {
		return failed(verifyFailure(fmt.Errorf("the Secret %q of spec.verify: %w", want.SecretRef.Name, err)))
	}
	signed := source.Signed{Commit: want.Mode != v1alpha1.VerifyTag, Tag: want.Mode == v1alpha1.VerifyTag || want.Mode == v1alpha1.VerifyTagAndHEAD}
	signer, err := repository.Verify(head, signed, keys, l.now())
	if err != nil {
		return failed(verifyFailure(err))
	}
	return &status.Verified{Commit: head.Commit, Signer: signer}, nil
}

func verifyFailure(err error) *status.Failure {
	var refused *signature.Error
	if errors.As(err, &refused) {
		return &status.Failure{Reason: string(refused.Reason), Message: err.Error(), Stalled: true}
	}
	return sourceFailure(err)
}
